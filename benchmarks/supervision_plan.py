"""What `supervision.py` trains: the variants that are compared, the parts, and the sweeps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from vsam_heatmaps.landmarks import BODY

MANNEQUINS, CROWDED, CCP = "mannequins", "crowded", "ccp"
"""The data sets: mannequins, the same people before full rails of garments, street photos."""

SCRATCH, FROZEN, TUNED = "scratch", "frozen", "tuned"
"""How the backbone is trained: from scratch; not at all; from the fourth block on."""

AS_IN_LIBRARY = ""
BLOCK_5, BLOCKS_4_AND_5 = "block-5", "blocks-4-5"
SHARED_MEAN, SHARED_MAXIMUM = "shared-mean", "shared-maximum"
SQUARES = "squares"
"""Designs of region attention, see `supervision_designs`."""

CLEAN = "clean"
"""The heatmaps as they were extracted; the others are made of their keypoints."""


@dataclass(frozen=True)
class Variant:
    """One of the models that are compared.

    Attributes:
        name: For files and options.
        title: For tables.
        attention: As in `ModelConfig`.
        supervised: Whether poses supervise its maps.
        given: Whether it pools with the pose's maps instead of its own, in training and in tests.
    """

    name: str
    title: str
    attention: str
    supervised: bool = False
    given: bool = False


NONE = Variant("none", "VGG-16, mean pooling", "none")
SINGLE_FREE = Variant("single-free", "one map, λ = 0", "single")
SINGLE = Variant("single", "one map, pose-supervised", "single", supervised=True)
REGIONS_FREE = Variant("regions-free", "region maps, λ = 0", "regions")
REGIONS = Variant("regions", "region maps, pose-supervised", "regions", supervised=True)
GIVEN = Variant("regions-given", "pooled with the pose's own maps", "regions", given=True)
VARIANTS = (NONE, SINGLE_FREE, SINGLE, REGIONS_FREE, REGIONS, GIVEN)
UNSUPERVISED = tuple(each for each in VARIANTS if not (each.supervised or each.given))
BY_NAME = {each.name: each for each in VARIANTS}

PARTS_OF_BODY = tuple(BODY.parts)
"""The regions: all seven parts."""


@dataclass(frozen=True)
class Budget:
    """What all variants of a part have in common.

    Attributes:
        epochs: Passes over the training photos.
        lr: Peak learning rate.
        backbone_lr_factor: Factor on it for a backbone that is fine-tuned.
        image_size: In pixels.
        width: Of VGG-16.
        dropout: In the heads.
        batch_size: Photos a step.
        weight_decay: Of AdamW.
    """

    epochs: int
    lr: float
    image_size: int
    width: float = 1.0
    dropout: float = 0.3
    batch_size: int = 32
    weight_decay: float = 1e-2
    backbone_lr_factor: float = 1.0


@dataclass(frozen=True)
class Part:
    """Trainings of all variants that are compared with each other.

    Attributes:
        name: For files and options.
        title: For tables.
        data: One of the data sets.
        backbone: `SCRATCH`, `FROZEN` or `TUNED`.
        budget: See there.
        photos: Training photos, drawn anew for each seed; None takes all.
        maps: Which heatmaps: `CLEAN`, or one of `supervision_maps.MAPS`.
        pose_weight: λ of the variants that poses supervise, by `attention`.
        variants: Which are trained.
        design: Of region attention.
        lambda_decay: How λ falls while it trains, as in `TrainConfig`.
    """

    name: str
    title: str
    data: str
    backbone: str
    budget: Budget
    photos: int | None = None
    maps: str = CLEAN
    pose_weight: dict[str, float] = field(default_factory=dict)
    variants: tuple[Variant, ...] = VARIANTS
    design: str = AS_IN_LIBRARY
    lambda_decay: str = "auto"


@dataclass(frozen=True)
class Training:
    """One training: a variant in a part, with a seed."""

    part: Part
    variant: Variant
    seed: int

    @property
    def key(self) -> str:
        """Its path in the folder of results, without an extension."""
        return f"{self.part.name}/{self.variant.name}-{self.seed}"


@dataclass(frozen=True)
class Sizes:
    """How large everything is; `--quick` takes a size that says nothing.

    Attributes:
        train, val, test: Mannequins of each split.
        ccp_photos: Only so many of CCP's photos; None takes all.
        scarce: Numbers of mannequins to train on, by part.
        scratch: Budget of trainings from scratch, by part.
        frozen: Of those with a frozen backbone.
        tuned: Of those that tune it.
    """

    train: int
    val: int
    test: int
    ccp_photos: int | None
    scarce: dict[str, int]
    scratch: dict[str, Budget]
    frozen: Budget
    tuned: Budget


def sizes(*, quick: bool) -> Sizes:
    """Give the sizes of the benchmark.

    The fewer photos there are, the more often each is seen.
    """
    if quick:
        tiny = Budget(epochs=1, lr=1e-3, image_size=64, width=0.05)
        scarce = {"a100": 12, "a300": 20, "a1000": 30}
        return Sizes(
            train=30,
            val=10,
            test=16,
            ccp_photos=60,
            scarce=scarce,
            scratch=dict.fromkeys([*scarce, "b"], tiny),
            frozen=replace(tiny, image_size=64, width=1.0),
            tuned=replace(tiny, image_size=64, width=1.0),
        )
    small = Budget(epochs=10, lr=1e-3, image_size=112, width=0.25, batch_size=16)
    return Sizes(
        train=1000,
        val=200,
        test=500,
        ccp_photos=None,
        scarce={"a100": 100, "a300": 300, "a1000": 1000},
        scratch={
            "a100": replace(small, epochs=30),
            "a300": replace(small, epochs=18),
            "a1000": small,
            "b": small,
        },
        frozen=Budget(epochs=12, lr=1e-3, image_size=224),
        tuned=Budget(epochs=6, lr=1e-3, image_size=112, backbone_lr_factor=0.1),
    )


def parts(size: Sizes, pose_weight: dict[str, dict[str, float]]) -> dict[str, Part]:
    """List the parts of the benchmark.

    Args:
        size: See `sizes`.
        pose_weight: λ by kind of backbone and by `attention`.
    """
    every = [
        Part(
            name,
            f"mannequins, {count} to train on",
            MANNEQUINS,
            SCRATCH,
            size.scratch[name],
            photos=count,
        )
        for name, count in size.scarce.items()
    ]
    every += [
        Part("b", "street photos (CCP) from scratch", CCP, SCRATCH, size.scratch["b"]),
        Part("c-frozen", "CCP, pretrained backbone, frozen", CCP, FROZEN, size.frozen),
        Part("c-tuned", "CCP, pretrained backbone, fine-tuned", CCP, TUNED, size.tuned),
    ]
    return {part.name: replace(part, pose_weight=pose_weight[part.backbone]) for part in every}


def sweeps(of: dict[str, Part]) -> dict[str, tuple[Part, ...]]:
    """List the sweeps: each asks how the gain depends on one thing, all else as in a part.

    Args:
        of: See `parts`.
    """
    frozen, tuned = of["c-frozen"], of["c-tuned"]
    regions = (REGIONS_FREE, REGIONS, GIVEN)
    whole = frozen.budget.image_size
    smaller = [side for side in (112, 160) if side < whole]
    kinds = {
        "sigma-0.025": "σ = 0.025",
        "sigma-0.1": "σ = 0.1",
        "sigma-0.2": "σ = 0.2",
        "jitter-0.05": "each joint moved by 5 % of the side (standard deviation)",
        "jitter-0.15": "each joint moved by 15 %",
        "shift-0.1": "all joints moved together by 10 %, another way in each photo",
        "others": "the pose of another photo",
    }
    on_maps = {
        name: _changed(frozen, name, title, maps=name, variants=(REGIONS, GIVEN))
        for name, title in kinds.items()
    }
    return {
        "photos": tuple(
            _changed(
                frozen,
                f"photos-{count}",
                f"{count} photos",
                photos=count,
                variants=(NONE, *regions),
            )
            for count in (100, 300, 600)
        ),
        "lambda": _with_lambda(frozen),
        "lambda-b": _with_lambda(of["b"]),
        "sigma": tuple(part for name, part in on_maps.items() if name.startswith("sigma")),
        "noise": tuple(part for name, part in on_maps.items() if not name.startswith("sigma")),
        "noise-a300": tuple(
            _changed(of["a300"], name, kinds[name], maps=name, variants=(REGIONS, GIVEN))
            for name in ("shift-0.1", "others")
        ),
        "resolution": tuple(_with_side(frozen, side) for side in smaller),
        "resolution-tuned": (_with_side(tuned, whole),),
        "designs": _with_designs(frozen),
        "clutter": (
            _changed(of["a300"], "crowded", "before full rails of garments", data=CROWDED),
        ),
        **{f"constant-{name}": _with_constant_lambda(part) for name, part in of.items()},
    }


def _with_side(part: Part, side: int) -> Part:
    return _changed(
        part,
        f"pixels-{side}",
        f"{side} pixels",
        budget=replace(part.budget, image_size=side),
        variants=(NONE, REGIONS_FREE, REGIONS, GIVEN),
    )


def _with_lambda(part: Part) -> tuple[Part, ...]:
    return tuple(
        _changed(
            part,
            f"lambda-{factor:g}",
            f"λ times {factor:g}",
            pose_weight={name: value * factor for name, value in part.pose_weight.items()},
            variants=(SINGLE, REGIONS),
        )
        for factor in (0.01, 0.1, 1.0, 3.0)
    )


def _with_constant_lambda(part: Part) -> tuple[Part, ...]:
    title = "λ stays what it is at first"
    return (_changed(part, "constant", title, lambda_decay="none", variants=(REGIONS,)),)


def _with_designs(part: Part) -> tuple[Part, ...]:
    titles = {
        BLOCK_5: "block 5 in the place of block 4",
        BLOCKS_4_AND_5: "blocks 4 and 5, which is enlarged",
        SHARED_MEAN: "heads with the same weights for all regions, mean",
        SHARED_MAXIMUM: "the same, maximum",
    }
    by_design = [
        _changed(part, name, title, design=name, variants=(REGIONS_FREE, REGIONS))
        for name, title in titles.items()
    ]
    by_squares = [
        _changed(
            part,
            f"{SQUARES}-{weight:g}",
            f"‖S − P‖₂ in the place of KL, λ = {weight:g}",
            design=SQUARES,
            pose_weight={"regions": weight},
            variants=(REGIONS,),
        )
        for weight in (10.0, 100.0)
    ]
    return (*by_design, *by_squares)


def _changed(part: Part, suffix: str, title: str, **changes: Any) -> Part:
    return replace(part, name=f"{part.name}-{suffix}", title=title, **changes)
