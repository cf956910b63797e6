"""The optimizer of a training: which weights decay, and how fast the backbone learns."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from .config import TrainConfig
from .modeling.model import TaggingModel

# An entry of each group of parameters.
_FACTOR = "lr_factor"


def make_optimizer(
    model: TaggingModel, config: TrainConfig, *, also: Iterable[nn.Parameter] = ()
) -> torch.optim.AdamW:
    """Make AdamW; biases, normalisation and the temperature are not decayed.

    Args:
        model: Its backbone learns at its own rate, see `TrainConfig.backbone_lr_factor`.
        config: Peak learning rate, factor and decay.
        also: Parameters beside the model's.
    """
    backbone = list(model.features.parameters())
    known = {id(parameter) for parameter in backbone}
    rest = [each for each in (*model.parameters(), *also) if id(each) not in known]
    groups = [
        {
            "params": [each for each in parameters if (each.ndim > 1) == decayed],
            "weight_decay": config.weight_decay if decayed else 0.0,
            _FACTOR: factor,
        }
        for decayed in (True, False)
        for parameters, factor in ((backbone, config.backbone_lr_factor), (rest, 1.0))
    ]
    return torch.optim.AdamW(groups, lr=config.lr)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of a step in an optimizer of `make_optimizer`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[_FACTOR]
