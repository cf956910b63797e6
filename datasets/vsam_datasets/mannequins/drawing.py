"""One mannequin from its number: chosen, drawn, photographed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vsam_heatmaps.errors import expected

from . import figure, garments, head, props, trimmings
from .canvas import Canvas, Frame, Part
from .figure import arm, leg, lower_arm
from .head import Looks, sample_looks
from .outfit import Outfit, sample_outfit
from .scene import draw_scene
from .shapes import capsule, ellipse, shifted
from .skeleton import SIDES, Skeleton, sample_skeleton


@dataclass(frozen=True)
class Mannequin:
    """A drawn photo with its labels and true pose.

    Attributes:
        photo: (H, W, 3) uint8, RGB.
        joints: (33, 3) float64 in the order of `vsam_heatmaps.landmarks.LANDMARKS`: x, y in pixels
            of the photo, origin at the centre of the top-left pixel, and 1.0 where the joint lies
            inside the photo, else 0.0.
        category: One of `CATEGORIES`.
        attributes: Sorted, each one of `ATTRIBUTES`.
        mask: (H, W) uint8, the `Part` that each pixel shows. Garments of the background, which
            nobody wears, are background.
    """

    photo: NDArray[np.uint8]
    joints: NDArray[np.float64]
    category: str
    attributes: tuple[str, ...]
    mask: NDArray[np.uint8]


@dataclass(frozen=True)
class Person:
    """All that is chosen about a mannequin before it is drawn."""

    outfit: Outfit
    looks: Looks
    skeleton: Skeleton
    bag_side: str


def sample_person(rng: np.random.Generator) -> Person:
    """Choose outfit, looks and pose."""
    outfit = sample_outfit(rng)
    bag_side = str(rng.choice(("left", "right")))
    skeleton = sample_skeleton(rng, free_hand=bag_side if outfit.bag == "tote" else "")
    return Person(outfit, sample_looks(rng), skeleton, bag_side)


def draw_mannequin(
    index: int, seed: int, *, size: tuple[int, int] = (384, 512), crowded: bool = False
) -> Mannequin:
    """Draw mannequin number `index` of a series.

    Args:
        index: Number in the series, from 0; the result doesn't depend on the others.
        seed: Chooses the series.
        size: Width and height of the photo in pixels.
        crowded: Many more garments that nobody wears hang behind the person. The person is the
            same.

    Raises:
        VsamError: If `index` or `seed` is negative, or the photo is smaller than 64 pixels.
    """
    for name, value in (("index", index), ("seed", seed)):
        if value < 0:
            raise expected(name, "at least 0", value)
    if min(size) < 64:
        raise expected("size", "at least 64 × 64 pixels", f"{size[0]} × {size[1]}")
    rng = np.random.default_rng([seed, index])
    person = sample_person(rng)
    frame = _place(rng, person.skeleton, size)
    canvas = Canvas(*size)
    draw_scene(canvas, rng, person.outfit.category, crowded=crowded)
    _draw_cast_shadow(canvas, frame, person.skeleton)
    with canvas.drawing(Part.PERSON):
        draw_person(canvas, frame, person)
    pixels = frame.to_pixels(person.skeleton.landmarks())
    inside = ((pixels >= -0.5) & (pixels < np.array(size) - 0.5)).all(axis=1)
    return Mannequin(
        photo=_photograph(rng, canvas.pixels),
        joints=np.column_stack([pixels, inside.astype(np.float64)]),
        category=person.outfit.category,
        attributes=person.outfit.attributes,
        mask=canvas.mask,
    )


def draw_person(canvas: Canvas, frame: Frame, person: Person) -> None:
    """Draw the dressed figure from back to front."""
    outfit, looks, skeleton = person.outfit, person.looks, person.skeleton
    on_head = head.head_frame(frame, skeleton)
    head.draw_hair_behind(canvas, on_head, looks)
    if outfit.hood:
        with canvas.drawing(Part.GARMENT):
            trimmings.draw_hood_behind(canvas, frame, skeleton, outfit)
    figure.draw_trunk(canvas, frame, skeleton, looks)
    figure.draw_legs(canvas, frame, skeleton, looks)
    trousers_over_shoes = outfit.category in ("Jeans", "Jumpsuit")
    if not trousers_over_shoes:
        garments.draw_lower(canvas, frame, skeleton, outfit)
    figure.draw_shoes(canvas, frame, skeleton, outfit)
    if trousers_over_shoes:
        garments.draw_lower(canvas, frame, skeleton, outfit)
    garments.draw_upper(canvas, frame, skeleton, outfit)
    if outfit.bag == "crossbody":
        with canvas.drawing(Part.BAG):
            props.draw_bag(canvas, frame, skeleton, outfit, person.bag_side)
    for side, _ in SIDES:
        canvas.shadow(
            frame, lower_arm(skeleton, side), strength=0.25, blur=0.010, offset=(0.006, 0.008)
        )
        figure.draw_arm(canvas, frame, skeleton, looks, side)
        garments.draw_sleeve(canvas, frame, skeleton, outfit, side)
    with canvas.drawing(Part.GARMENT):
        trimmings.draw_collar(canvas, frame, skeleton, outfit)
    head.draw_head(canvas, on_head, looks)
    head.draw_hat(canvas, on_head, outfit)
    if outfit.bag == "tote":
        with canvas.drawing(Part.BAG):
            props.draw_bag(canvas, frame, skeleton, outfit, person.bag_side)


def _place(rng: np.random.Generator, skeleton: Skeleton, size: tuple[int, int]) -> Frame:
    """Scale, turn and move the figure so that it lies wholly in the photo."""
    width, height = size
    angle = float(rng.normal(0.0, 0.045))
    points = np.stack(list(skeleton.joints.values()))
    crown = shifted(
        skeleton.joints["head"], 0.0, -0.85 * skeleton.build.head
    )  # a hat stands higher
    hull = Frame(1.0, angle).to_pixels(np.concatenate([points, crown[None]]))
    low, high = shifted(hull.min(axis=0), -0.05, 0.0), shifted(hull.max(axis=0), 0.05, 0.045)
    scale = min(
        height * float(rng.uniform(0.84, 0.95)) / (high[1] - low[1]),
        width * 0.97 / (high[0] - low[0]),
    )
    slack = np.array(size) - (high - low) * scale
    # Mostly in the middle, feet towards the lower edge.
    share = np.array([rng.beta(3, 3), rng.uniform(0.45, 0.9)])
    origin = slack * share - low * scale
    return Frame(scale, angle, (float(origin[0]), float(origin[1])))


def _draw_cast_shadow(canvas: Canvas, frame: Frame, skeleton: Skeleton) -> None:
    """Darken the wall beside the figure and the floor beneath its feet."""
    joints = skeleton.joints
    body = [skeleton.trunk(0.01, -1, 1), ellipse(joints["head"], 0.06, 0.075)]
    for side, _ in SIDES:
        body += [*arm(skeleton, side, 0.006), *leg(skeleton, side, 0.012)]
    canvas.shadow(frame, body, strength=0.30, blur=0.022, offset=(0.030, 0.012))
    for side, _ in SIDES:
        heel, toe = joints[f"{side}_heel"], joints[f"{side}_foot_index"]
        sole = capsule(shifted(heel, 0.0, 0.012), shifted(toe, 0.012, 0.018), 0.024, 0.022)
        canvas.shadow(frame, sole, strength=0.5, blur=0.010)


def _photograph(rng: np.random.Generator, pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Apply exposure, white balance, a little blur and sensor noise."""
    exposure = float(rng.uniform(0.84, 1.06))
    balance = (exposure * rng.uniform(0.97, 1.03, 3)).astype(np.float32)
    noise = rng.standard_normal(pixels.shape[1:], dtype=np.float32)
    noise *= np.float32(rng.uniform(0.5, 3.2))
    sigma = float(rng.uniform(0.0, 0.8))
    planes = []
    for plane, gain in zip(pixels, balance, strict=True):
        exposed = plane * gain
        if sigma > 0.3:
            exposed = cv2.GaussianBlur(exposed, (0, 0), sigma)
        # The sum is rounded and clipped to 0..255.
        planes.append(cv2.add(exposed, noise, dtype=cv2.CV_8U))
    return np.asarray(cv2.merge(planes), np.uint8)  # three (H, W) -> (H, W, 3)
