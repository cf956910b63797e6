"""True masks of mannequins: where the figure is, where the labelled garment is, and their files."""

import contextlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from vsam_datasets.mannequins import CATEGORIES, Part, draw_mannequin, write_mannequins
from vsam_datasets.mannequins.canvas import Canvas, Frame, colour
from vsam_datasets.mannequins.drawing import Person, draw_person, sample_person
from vsam_datasets.mannequins.fabrics import Fabric
from vsam_datasets.mannequins.scene import draw_scene
from vsam_datasets.mannequins.shapes import box
from vsam_heatmaps.landmarks import LANDMARKS

FRAME = Frame(450.0, 0.05, (200.0, 270.0))


def drawn(person: Person, background: float = 0.0) -> Canvas:
    """Draw a figure alone, without the shadows that it casts on itself and on the background."""
    canvas = Canvas(400, 560)
    canvas.pixels[:] = background
    with pytest.MonkeyPatch.context() as patch, canvas.drawing(Part.PERSON):
        patch.setattr(Canvas, "shadow", lambda *_, **__: None)
        draw_person(canvas, FRAME, person)
    return canvas


def people(count: int) -> list[Person]:
    return [sample_person(np.random.default_rng([6, index])) for index in range(count)]


def rim(mask: np.ndarray) -> np.ndarray:
    """Tell which pixels touch a pixel of another value."""
    square = np.ones((3, 3), np.uint8)
    return cv2.dilate(mask, square) != cv2.erode(mask, square)


class TestPerson:
    def test_it_is_where_the_background_does_not_show(self) -> None:
        """A pixel of a black and of a white photo differs by the background's share of it."""
        for person in people(12):
            black, white = drawn(person, 0.0), drawn(person, 1000.0)
            shows = (white.pixels - black.pixels).mean(axis=0) / 1000
            figure = black.mask != Part.BACKGROUND
            wrong = figure != (shows < 0.5)
            # Two shapes that meet may each cover less than half of a pixel on their seam.
            assert not (wrong & ~rim(figure.astype(np.uint8))).any()
            assert wrong.sum() < 0.003 * figure.sum()

    def test_joints_lie_on_it(self) -> None:
        for index in range(20):
            mannequin = draw_mannequin(index, 4)
            assert mannequin.mask.shape == mannequin.photo.shape[:2]
            spots = np.rint(mannequin.joints[:, :2]).astype(int)
            shown = mannequin.mask[spots[:, 1], spots[:, 0]]
            assert (shown != Part.BACKGROUND).all(), np.array(LANDMARKS)[shown == Part.BACKGROUND]

    def test_the_face_is_no_garment_and_no_bag(self) -> None:
        for index in range(20):
            mannequin = draw_mannequin(index, 4)
            x, y = np.rint(mannequin.joints[LANDMARKS.index("nose"), :2]).astype(int)
            assert mannequin.mask[y, x] == Part.PERSON

    def test_garments_of_the_background_are_background(self) -> None:
        canvas = Canvas(384, 512)
        draw_scene(canvas, np.random.default_rng(0), "Coat")
        assert canvas.pixels.std() > 10
        assert (canvas.mask == Part.BACKGROUND).all()

    def test_a_bag_shows_where_one_is_carried(self) -> None:
        mannequins = [draw_mannequin(index, 2, size=(192, 256)) for index in range(40)]
        carried = ["bag" in mannequin.attributes for mannequin in mannequins]
        assert 0 < sum(carried) < 40
        assert [bool((each.mask == Part.BAG).any()) for each in mannequins] == carried


class TestGarment:
    def test_it_is_what_changes_with_its_cloth(self) -> None:
        red, blue = (Fabric("solid", (colour(code),) * 3) for code in ("#ff4040", "#4040ff"))
        unchanged = dict.fromkeys(CATEGORIES, 0)
        area = dict.fromkeys(CATEGORIES, 0)
        for person in people(60):
            one, other = (
                drawn(replace(person, outfit=replace(person.outfit, fabric=cloth)))
                for cloth in (red, blue)
            )
            assert (one.mask == other.mask).all()
            change = np.abs(one.pixels - other.pixels).max(axis=0)
            garment = one.mask == Part.GARMENT
            # The cloths differ by 191 levels: a pixel that is less than half cloth changes by less
            # than half of that. Seams of two shapes may, as above, be more in sum.
            assert not ((change > 96) & ~garment & ~rim(one.mask)).any()
            assert ((change > 96) & ~garment).sum() < 0.003 * garment.sum()
            unchanged[person.outfit.category] += int((garment & (change < 20)).sum())
            area[person.outfit.category] += int(garment.sum())
        for category in CATEGORIES:
            assert area[category] > 10_000
            # Buttons, cords, thread, and the turn-ups of jeans have colours of their own.
            assert unchanged[category] < 0.06 * area[category], category

    def test_it_is_near_the_joints_that_it_covers(self) -> None:
        covers = {"Jeans": "knee", "Jumpsuit": "knee", "Tee": "shoulder", "Hoodie": "elbow"}
        bare = {"Jeans": "shoulder", "Shorts": "knee", "Skirt": "shoulder", "Tee": "knee"}
        met = set()
        for index in range(60):
            mannequin = draw_mannequin(index, 9, size=(192, 256))
            for names, expected in ((covers, True), (bare, False)):
                if mannequin.category in names:
                    met.add((mannequin.category, expected))
                    joint = LANDMARKS.index(f"left_{names[mannequin.category]}")
                    x, y = np.rint(mannequin.joints[joint, :2]).astype(int)
                    # A hand or a bag may hang before it, but never cloth of another category.
                    assert expected or mannequin.mask[y, x] != Part.GARMENT
                    if expected:
                        near = mannequin.mask[y - 8 : y + 9, x - 8 : x + 9]
                        assert (near == Part.GARMENT).any()
        assert len(met) == len(covers) + len(bare)


class TestCanvas:
    def test_the_inner_part_goes_before_and_an_error_leaves_it(self) -> None:
        canvas = Canvas(30, 20)
        frame, white = Frame(10.0), colour("#ffffff")
        with canvas.drawing(Part.PERSON):
            canvas.fill(frame, box(0.0, 0.0, 2.0, 2.0), white)
            with contextlib.suppress(KeyError), canvas.drawing(Part.GARMENT):
                canvas.fill(frame, box(1.0, 0.0, 2.0, 1.0), white)
                raise KeyError
            canvas.fill(frame, box(0.0, 1.0, 0.5, 2.0), white)
        canvas.fill(frame, box(2.4, 0.0, 3.0, 2.0), white)
        assert canvas.mask[5, [5, 15, 27]].tolist() == [Part.PERSON, Part.GARMENT, 0]
        assert canvas.mask[15, [2, 15]].tolist() == [Part.PERSON, Part.PERSON]

    def test_faint_paint_and_shadows_are_no_part(self) -> None:
        canvas = Canvas(20, 20)
        with canvas.drawing(Part.PERSON):
            canvas.fill(Frame(10.0), box(0.5, 0.5, 1.5, 1.5), colour("#ffffff"), opacity=0.45)
            canvas.shadow(Frame(10.0), box(0.5, 0.5, 1.5, 1.5), strength=0.9, blur=0.1)
            assert not canvas.mask.any()
            canvas.fill(Frame(10.0), box(0.5, 0.5, 1.5, 1.5), colour("#ffffff"), opacity=0.6)
        assert canvas.mask[10, 10] == Part.PERSON


class TestFiles:
    def test_they_are_the_masks_and_change_no_photo(self, tmp_path: Path) -> None:
        with_masks, without = tmp_path / "with", tmp_path / "without"
        write_mannequins(with_masks, count=3, masks=True, workers=1, progress=False)
        write_mannequins(without, count=3, workers=1, progress=False)
        assert not (without / "masks").exists()
        for index in range(3):
            written = cv2.imread(str(with_masks / f"masks/{index:05d}.png"), cv2.IMREAD_UNCHANGED)
            assert written.dtype == np.uint8
            assert (written == draw_mannequin(index, 0).mask).all()
            photos = [folder / "photos" / f"{index:05d}.jpg" for folder in (with_masks, without)]
            assert photos[0].read_bytes() == photos[1].read_bytes()
        assert (with_masks / "labels.csv").read_text() == (without / "labels.csv").read_text()

    def test_those_of_another_run_do_not_stay(self, tmp_path: Path) -> None:
        write_mannequins(tmp_path, count=3, masks=True, workers=1, progress=False)
        (tmp_path / "masks" / ".00001.png.0a1b2c3d.tmp").write_bytes(b"half")
        (tmp_path / "masks" / "mine.png").write_bytes(b"mine")
        write_mannequins(tmp_path, count=2, masks=True, workers=1, progress=False)
        names = sorted(path.name for path in (tmp_path / "masks").iterdir())
        assert names == ["00000.png", "00001.png", "mine.png"]
        write_mannequins(tmp_path, count=2, workers=1, progress=False)
        assert [path.name for path in (tmp_path / "masks").iterdir()] == ["mine.png"]
