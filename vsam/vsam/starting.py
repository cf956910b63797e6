"""How a training starts: in which folder, and from fresh weights, a backbone or another run."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import torch

from vsam_datasets.preprocessing import Preprocessing
from vsam_heatmaps.atomic import locked, prepare_output_folder
from vsam_heatmaps.errors import VsamError, expected

from . import run_folder
from .backbones import IMAGENET, load_backbone
from .config import OPTION_OF, TrainConfig
from .modeling.build import ModelConfig
from .modeling.model import TaggingModel
from .run_folder import Checkpoint, Labels

_log = logging.getLogger("vsam")

# Seconds. The processes that load photos look every five whether their main process was killed, and
# until then hold what it held.
_PATIENCE = 10.0

# What a run and one that starts from it must share, with the options that set it.
_SHARED = {
    "backbone": "--backbone",
    "attention": "--attention",
    "regions": "--regions",
    "image_size": "--image-size",
    "width": "--width",
    "batch_norm": "--batch-norm",
}


def require_same_run(config: TrainConfig, labels: Labels) -> None:
    """Check that `config.out` holds a run to resume, of these options and these labels.

    Raises:
        VsamError: If it is none, an option differs that makes it another run, or the table names
            other labels: the weights' outputs would get the names of others.
    """
    last = config.out / run_folder.LAST
    if not last.is_file():
        raise VsamError(f"Expected {config.out} to hold a run to resume, but {last} is missing.")
    # A run from before there was an option had its default, and those that are `auto` now what
    # they were then.
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    defaults |= {"regulariser": "l2", "lambda_decay": "none"}
    before = defaults | run_folder.read_description(config.out).training
    # Where things lie, how they run and how long is the user's to change; the rest is the run.
    free = ("data", "photos", "heatmaps", "out", "device", "num_workers", "max_pixels", "epochs")
    for name, value in config.to_json().items():
        if name not in free and before[name] != value:
            raise VsamError(
                f"Expected `{OPTION_OF.get(name, name)}` to be {before[name]!r}, as in the run to "
                f"resume, but got {value!r}."
            )
    _require_same_labels(config, labels)


def _require_same_labels(config: TrainConfig, labels: Labels) -> None:
    _, before = run_folder.read_run(config.out)
    for kind in ("categories", "attributes"):
        pairs = zip_longest(getattr(before, kind), getattr(labels, kind))
        for number, (old, new) in enumerate(pairs, 1):
            if old != new:
                was, now = (repr(name) if name is not None else "nothing" for name in (old, new))
                raise VsamError(
                    f"Expected `--data` to name the labels of the run to resume, but number "
                    f"{number} of the {kind} in {config.data} is {now}, in {config.out} {was}. "
                    f"Give the labels of the run, or start another with --init {config.out}."
                )


def require_variance(model: TaggingModel, config: TrainConfig, photos: int) -> None:
    """Check that batch normalisation sees several values of each channel in every step.

    Of a single photo it doesn't where the features are one pixel.

    Args:
        model: As it is trained; it stays as it is.
        config: Says how many photos are in a batch.
        photos: How many there are to train on.

    Raises:
        VsamError: If it sees one alone.
    """
    if min(config.batch_size, photos) > 1:
        return
    side = config.image_size
    try:
        with torch.no_grad():
            copy.deepcopy(model).train()(torch.zeros(1, 3, side, side))
    except ValueError as error:  # torch's batch normalisation refuses
        what, remedy = f"{config.data} to have 2 photos or more of the split train", "Add some"
        if photos > 1:
            what, remedy = "`--batch-size` to be 2 or more", "Give a larger one"
        raise VsamError(
            f"Expected {what}, but got 1: of one photo at --image-size {side}, batch normalisation "
            f"sees a single value of a channel. {remedy}, or a larger --image-size."
        ) from error


@contextlib.contextmanager
def holding_run(config: TrainConfig, *, resume: bool, lock: bool) -> Iterator[None]:
    """Make the folder of a new run, or take that of one to resume, for this training alone.

    Args:
        config: Says which folder.
        resume: Its run is there already, see `require_same_run`.
        lock: False in all but one of the processes that train together.

    Raises:
        VsamError: If another training holds it; or if it is to be new, but holds a run, an imported
            model or something else, or can't be made.
    """
    if not resume:
        prepare_output_folder(config.out, ours=run_folder.CONFIG, purpose="a run")
    with contextlib.ExitStack() as stack:
        if lock:
            file = config.out / ".lock"
            taken = f"Another training is writing {config.out}. Wait until it ends."
            stack.enter_context(locked(file, taken=taken, patience=_PATIENCE))
            stack.callback(_remove_if_possible, file)
        if not resume:
            _require_free(config)
        yield


def _remove_if_possible(file: Path) -> None:
    with contextlib.suppress(OSError):  # Windows keeps what is open
        file.unlink()


def _require_free(config: TrainConfig) -> None:
    if (config.out / run_folder.LAST).exists():
        raise VsamError(
            f"Expected {config.out} to be free, but it holds a run already. "
            "Go on with --resume, or name another folder."
        )
    if not (config.out / run_folder.CONFIG).is_file():
        return
    if run_folder.read_description(config.out).export is not None:
        raise VsamError(
            f"Expected {config.out} to be free, but it holds an export. Name another folder."
        )
    if (config.out / run_folder.WEIGHTS).exists():  # saved, imported, or of the hub
        raise VsamError(
            f"Expected {config.out} to be free, but it holds a model. Start from it with --init, "
            "and name another folder."
        )


def load_start(
    model: TaggingModel,
    model_config: ModelConfig,
    labels: Labels,
    config: TrainConfig,
    *,
    resume: bool,
) -> Preprocessing:
    """Load the weights that a training starts from, if it names any.

    Args:
        model: Freshly built; changed in place.
        model_config: What it was built from.
        labels: Names of its outputs.
        config: Says what to start from.
        resume: The run goes on: its own weights follow, so none are loaded here.

    Returns:
        The input that the weights belong to.

    Raises:
        VsamError: If the weights can't be read, or do not fit the model.
    """
    if resume:
        return run_folder.read_description(config.out).preprocessing
    if config.init is not None:
        base = run_folder.load_checkpoint(config.init)
        _require_same_model(base.config, model_config, config)
        model.load_state_dict(model.state_dict() | _weights_for(labels, base, config))
        return base.preprocessing
    if config.freeze_backbone and config.backbone_weights is None:
        _log.warning(
            "The frozen backbone keeps its fresh weights. Give some with --backbone-weights or "
            "--init."
        )
    if config.backbone_weights is not None:
        if config.backbone_weights == IMAGENET and config.width != 1:  # half a gigabyte in vain
            raise expected("--width", "1 with --backbone-weights imagenet", config.width)
        preprocessing = load_backbone(model, config.backbone_weights)
        return replace(preprocessing, image_size=config.image_size)
    return Preprocessing(image_size=config.image_size)


def _require_same_model(base: ModelConfig, wanted: ModelConfig, config: TrainConfig) -> None:
    for name, option in _SHARED.items():
        before, now = getattr(base, name), getattr(wanted, name)
        if before != now:
            if isinstance(before, tuple):
                before, now = ",".join(before), ",".join(now)
            remedy = f"{option} {before}"
            if isinstance(before, bool):
                remedy = option if before else option.replace("--", "--no-")
            raise VsamError(
                f"Expected `{name}` to be {before}, as in {config.init}, but got {now}. "
                f"Give {remedy}."
            )


def _weights_for(labels: Labels, base: Checkpoint, config: TrainConfig) -> dict[str, torch.Tensor]:
    """Give a run's weights; the last layer of a head whose labels differ is left out.

    With the same labels in another order its rows are brought into that order.
    """
    state = base.model.state_dict()
    for head, kind, before, now in (
        ("category_head", "categories", base.labels.categories, labels.categories),
        ("attribute_head", "attributes", base.labels.attributes, labels.attributes),
    ):
        last = [f"{head}.linear.weight", f"{head}.linear.bias"]
        if sorted(before) == sorted(now):
            rows = [before.index(name) for name in now]
            state |= {name: state[name][rows] for name in last}
            continue
        for name in last:
            del state[name]
        _log.info(
            "The labels have %d %s, %s has %s: the last layer of their head is new.",
            len(now),
            kind,
            config.init,
            len(before) if len(before) != len(now) else "others",
        )
    return state
