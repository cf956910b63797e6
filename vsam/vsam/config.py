"""The training's configuration: one frozen dataclass, filled from a file and the command line."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsam_datasets.category_regions import BY_CATEGORY
from vsam_heatmaps.errors import VsamError, expected
from vsam_heatmaps.images import MAX_PIXELS
from vsam_heatmaps.landmarks import PARTS

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("fp32", "bf16", "fp16")
REGULARISERS = ("l2", "l2-squared", "kl", "bce", "none")
"""How the attention's distance from the pose is measured; see `vsam.attention_losses`."""
LAMBDA_DECAYS = ("none", "linear", "cosine")

# Those of the regularisers that take the soft maximum of a map.
_WITH_TEMPERATURE = ("l2", "l2-squared", "kl")
# At 0.001 the soft maximum of a map in 0..1 is its highest pixel, at 1000 it is flat.
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.001, 1000


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that determines a training run.

    Attributes:
        data: Table of labels; see `vsam_datasets.read_labels`.
        photos: Folder that its images are relative to.
        out: The run folder.
        heatmaps: Folder of shards; needed if the attention is supervised.
        backbone: `vgg16`, `vgg16_bn`, a ResNet or ConvNeXt of torchvision, or a model of timm; see
            `vsam.modeling.backbones`.
        attention: `single` is the published map, `regions` has one for each body region, `none`
            leaves the attention block out.
        regions: What the maps of `regions` attend to, in order; by default the seven parts of the
            body.
        width: Factor on the channels of VGG-16; 1 is the published model.
        image_size: Height and width of the input in pixels.
        batch_norm: Normalise after each convolution of VGG-16, the fusion and the heads; helps
            training from scratch.
        dropout: In the heads.
        region: Which body region's map supervises the single map: a name, or `by-category`.
        category_regions: Table of regions of categories, or none; see
            `vsam_datasets.read_category_regions`.
        pose_weight: λ, the weight of that supervision; 0 trains without poses.
        lambda_warmup: Epochs over which λ rises from 0, along a line; parts of epochs count.
        lambda_decay: How λ falls to 0 from there to the end: `linear`, `cosine`, or `none`; `auto`
            becomes `cosine` with region attention that poses supervise, and `none` else.
        regulariser: What the supervision measures: one of `REGULARISERS`; `none` trains without
            poses, `auto` becomes `kl` with region attention and `l2`, the published one, else.
        temperature: τ of the soft maximum softmax₂d(Ŝ/τ) that some of them take of a single map.
        learn_temperature: Learn τ; it starts from `temperature`.
        attribute_weight: Weight of the attributes' loss beside the category's.
        backbone_weights: Weights to start the backbone from, or none; see `vsam.backbones`.
        freeze_backbone: Train the rest only; the backbone's batch normalisation keeps its
            statistics.
        init: Run folder whose weights to start from, or none.
        min_crop: Smallest share of a photo's area that the augmentation's random crop keeps; 1
            never crops.
        epochs: Passes over the training split.
        batch_size: Photos a step and device.
        lr: Peak learning rate of AdamW; it warms up over the first 5 % of the steps and falls to
            zero along a cosine.
        backbone_lr_factor: Factor on the backbone's learning rate; a pretrained one keeps more of
            what it knows with less than 1.
        weight_decay: Of AdamW, on weights of two and more dimensions.
        seed: Of initial weights, order, augmentation and dropout.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: `fp32`, or `bf16` or (not on a CPU) `fp16` autocast.
        num_workers: Processes that load photos; by default up to four, 0 loads in the main one.
        max_pixels: Photos with more pixels count as unreadable.
        threshold: Attributes above this probability are predicted.
        fit_threshold: Take the threshold with the best F1 on the validation split instead. The
            focal loss makes probabilities cautious, so that it is mostly below a half.
    """

    data: Path
    photos: Path
    out: Path
    heatmaps: Path | None = None
    backbone: str = "vgg16"
    attention: str = "single"
    regions: tuple[str, ...] | None = None
    width: float = 1.0
    image_size: int = 224
    batch_norm: bool = False
    dropout: float = 0.5
    region: str = BY_CATEGORY
    category_regions: Path | None = None
    pose_weight: float = 10.0
    lambda_warmup: float = 0.0
    lambda_decay: str = "auto"
    regulariser: str = "auto"
    temperature: float = 1.0
    learn_temperature: bool = False
    attribute_weight: float = 1.0
    backbone_weights: Path | None = None
    freeze_backbone: bool = False
    init: Path | None = None
    min_crop: float = 0.7
    epochs: int = 20
    batch_size: int = 32
    lr: float = 3e-4
    backbone_lr_factor: float = 1.0
    weight_decay: float = 1e-4
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    num_workers: int | None = None
    max_pixels: int = MAX_PIXELS
    threshold: float = 0.5
    fit_threshold: bool = False

    @property
    def supervised(self) -> bool:
        """Whether poses supervise the attention."""
        return self.pose_weight > 0 and self.regulariser != "none"

    def __post_init__(self) -> None:
        self._require_numbers()
        self._require_choices()
        if self.regulariser == "auto":
            object.__setattr__(self, "regulariser", "kl" if self.attention == "regions" else "l2")
        if self.lambda_decay == "auto":
            falls = self.attention == "regions" and self.supervised
            object.__setattr__(self, "lambda_decay", "cosine" if falls else "none")
        self._settle_regions()
        if self.init is not None and self.backbone_weights is not None:
            raise VsamError(
                "Expected `--init` or `--backbone-weights` to be given, but not both: a run has "
                "its own backbone."
            )
        if self.attention == "none" and self.supervised:
            raise VsamError(
                f"Expected `--lambda` to be 0 with --attention none, but got {self.pose_weight}: "
                "there is no map that poses could supervise."
            )
        if self.supervised and self.heatmaps is None:
            raise VsamError(
                f"Expected `--heatmaps` to be given, because λ is {self.pose_weight}. "
                "Make them with vsam-heatmaps extract, or train without poses with --lambda 0."
            )
        if self.category_regions is not None and self.region != BY_CATEGORY:
            raise VsamError(
                "Expected `--category-regions` to be given with `--region by-category`, but the "
                f"region is {self.region!r}. Leave one of the two out."
            )
        has_temperature = (
            self.attention == "single"
            and self.pose_weight > 0
            and self.regulariser in _WITH_TEMPERATURE
        )
        if (self.learn_temperature or self.temperature != 1) and not has_temperature:
            raise VsamError(
                f"Expected a temperature to be given with λ above 0, a single map and one of the "
                f"regularisers {', '.join(_WITH_TEMPERATURE)}, but the attention is "
                f"{self.attention}, λ is {self.pose_weight} and the regulariser is "
                f"{self.regulariser}, which have none. Leave it out."
            )

    def _settle_regions(self) -> None:
        """Fill in the default regions; refuse options that belong to another attention."""
        if self.attention != "regions":
            if self.regions is not None:
                raise VsamError(
                    f"Expected `--regions` to be given with --attention regions, but the attention "
                    f"is {self.attention}. Leave it out, or give --attention regions."
                )
            return
        if self.regions is None:
            object.__setattr__(self, "regions", tuple(PARTS))
        if self.region != BY_CATEGORY or self.category_regions is not None:
            option = "region" if self.region != BY_CATEGORY else "category-regions"
            raise VsamError(
                f"Expected `--{option}` to be left out with --attention regions: each map has its "
                "own region, named by --regions."
            )
        if self.regulariser == "bce":
            raise VsamError(
                "Expected `--regulariser` to be l2, l2-squared, kl or none with --attention "
                "regions, but got bce: it compares pixels, and these maps are distributions."
            )

    def _require_numbers(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and math.isinf(value):
                raise expected(OPTION_OF.get(field.name, field.name), "finite", value)
        for name in ("epochs", "batch_size", "max_pixels"):
            if getattr(self, name) < 1:
                raise expected(name, "at least 1", getattr(self, name))
        for name, rate in {"lr": self.lr, "backbone_lr_factor": self.backbone_lr_factor}.items():
            if not rate > 0:
                raise expected(name, "positive", rate)
        not_negative = {
            "lambda": self.pose_weight,
            "attribute_weight": self.attribute_weight,
            "weight_decay": self.weight_decay,
            "num_workers": self.num_workers or 0,
        }
        for name, value in not_negative.items():
            if not value >= 0:
                raise expected(name, "0 or more", value)
        if self.freeze_backbone and self.backbone_lr_factor != 1:
            raise VsamError(
                "Expected `--backbone-lr-factor` to be left out with --freeze-backbone, but got "
                f"{self.backbone_lr_factor}: a frozen backbone does not learn."
            )
        if not 0 <= self.seed < 2**32:
            raise expected("seed", "from 0 to below 2^32", self.seed)
        if not 0 < self.min_crop <= 1:
            raise expected("min_crop", "above 0 and up to 1", self.min_crop)
        if not 0 < self.threshold < 1:
            raise expected("threshold", "between 0 and 1", self.threshold)
        if not 0 <= self.lambda_warmup <= self.epochs:
            raise expected(
                "lambda_warmup", f"from 0 to the {self.epochs} epochs", self.lambda_warmup
            )
        if not _MIN_TEMPERATURE <= self.temperature <= _MAX_TEMPERATURE:
            rule = f"from {_MIN_TEMPERATURE} to {_MAX_TEMPERATURE}"
            raise expected("temperature", rule, self.temperature)

    def _require_choices(self) -> None:
        for name, choices in {
            "device": DEVICES,
            "precision": PRECISIONS,
            "regulariser": ("auto", *REGULARISERS),
            "lambda_decay": ("auto", *LAMBDA_DECAYS),
        }.items():
            if getattr(self, name) not in choices:
                raise expected(name, f"one of {', '.join(choices)}", getattr(self, name))

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        plain: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, Path):
                value = str(value)
            plain[name] = list(value) if isinstance(value, tuple) else value
        return plain


_ALIASES = {"lambda": "pose_weight"}  # a word of Python
OPTION_OF = {field: option for option, field in _ALIASES.items()}
"""Options of the command line by the field, where they are called differently."""


def resolve_config(file: Path | None, command_line: Mapping[str, Any]) -> TrainConfig:
    """Fill a configuration: defaults, then the file, then what the command line gives.

    Args:
        file: YAML with the command line's option names (`image-size` or `image_size`).
        command_line: Values by field name; None means not given. "none" takes back what the file
            gives, where a field may be None.

    Raises:
        VsamError: If the file is missing or no YAML mapping, names an unknown option or a value of
            another type, or a required option is given nowhere.
    """
    values = _read_yaml(file) if file is not None else {}
    types_of = typing.get_type_hints(TrainConfig)
    values |= {
        name: _from_command_line(value, types_of[name])
        for name, value in command_line.items()
        if value is not None
    }
    for field in dataclasses.fields(TrainConfig):
        if field.default is dataclasses.MISSING and field.name not in values:
            raise VsamError(f"Expected `--{field.name}` to be given, but it is not.")
    return TrainConfig(**values)


def _from_command_line(value: Any, wanted: Any) -> Any:
    if value == "none" and _takes_none(wanted):
        return None
    if isinstance(value, str) and tuple[str, ...] in typing.get_args(wanted):
        return _names(value)
    return value


def _names(value: str) -> tuple[str, ...]:
    """Split names with a comma between.

    >>> _names("head, feet")
    ('head', 'feet')
    """
    return tuple(name.strip() for name in value.split(","))


def _read_yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        loaded = _load_yaml(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise VsamError(f"Could not read {file}: {error}.") from error
    except (yaml.YAMLError, ValueError) as error:  # a date that is none is the latter
        raise VsamError(f"{file} is no YAML: {' '.join(str(error).split())}.") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise VsamError(f"Expected {file} to hold options as `name: value` lines.")
    types_of = typing.get_type_hints(TrainConfig)
    values = {}
    for key, value in loaded.items():
        name = _ALIASES.get(str(key), str(key).replace("-", "_"))
        if name not in types_of:
            near = difflib.get_close_matches(name, types_of, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise VsamError(f"{file} names the unknown option `{key}`.{hint}")
        if name in values:
            raise VsamError(f"{file} gives `{key}` twice. Take one out.")
        values[name] = _convert(file, str(key), value, types_of[name])
    return values


def _load_yaml(text: str) -> Any:
    """Load YAML; refuse a key that a mapping gives twice, of which YAML would take the last."""
    import yaml

    class OnceEach(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
            written = [key.value for key, _ in node.value]
            for number, key in enumerate(written):
                if key in written[:number]:
                    mark = node.value[number][0].start_mark
                    raise yaml.constructor.ConstructorError(None, None, f"`{key}` twice", mark)
            return super().construct_mapping(node, deep=deep)

    return yaml.load(text, OnceEach)


def _convert(file: Path, key: str, value: Any, wanted: Any) -> Any:
    """Check a YAML value against a field's type; paths and whole floats are converted."""
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if value in (None, "none") and _takes_none(wanted):
        return None
    if Path in options and isinstance(value, str):
        return Path(value)
    elif tuple[str, ...] in options and isinstance(value, str | list):
        if isinstance(value, str):
            return _names(value)
        if all(isinstance(name, str) for name in value):
            return tuple(value)
    elif float in options and isinstance(value, int | float | str) and type(value) is not bool:
        try:
            return float(value)  # YAML 1.1 takes 1e-4 for a string
        except (ValueError, OverflowError):
            pass
    elif type(value) in options:
        return value
    kinds = " or ".join(
        "list of names" if option == tuple[str, ...] else option.__name__
        for option in options
        if option is not type(None)
    )
    raise expected(f"{key} in {file}", f"a {kinds}", repr(value))


def _takes_none(wanted: Any) -> bool:
    """Say whether a field may have no value; in others "none" is a word like any other."""
    return isinstance(wanted, types.UnionType) and type(None) in typing.get_args(wanted)
