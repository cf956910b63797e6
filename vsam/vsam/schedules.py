"""What changes from step to step of a training: functions of the step, without a state.

So a resumed run needs to know nothing but its epoch.
"""

from __future__ import annotations

import math

from .config import TrainConfig

_LR_WARMUP_SHARE = 0.05


def learning_rate(config: TrainConfig, steps: int, epoch: int, step: int) -> float:
    """Give the learning rate of a step: a linear warm-up, then a cosine to zero.

    Args:
        config: The peak, and how many epochs there are.
        steps: Of each epoch.
        epoch: From 0.
        step: Of that epoch, from 0.
    """
    done, total = epoch * steps + step, config.epochs * steps
    warmup = max(1, round(total * _LR_WARMUP_SHARE))
    if done < warmup:
        return config.lr * (done + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1, total - warmup)))


def pose_weight(config: TrainConfig, steps: int, epoch: int, step: int) -> float:
    """Give λ of a step: from 0 up along a line, then as `lambda_decay` says to 0 at the end.

    At the time t = epoch + step / steps it is λ · t/E during the E epochs of warm-up. After them
    the share s = (t − E) / (epochs − E) of the rest has passed, and it is λ (decay `none`),
    λ · (1 − s) (`linear`) or λ · (1 + cos πs) / 2 (`cosine`). Where poses supervise
    nothing it is 0.

    Args:
        config: λ, E, the decay, and how many epochs there are.
        steps: Of each epoch.
        epoch: From 0.
        step: Of that epoch, from 0.
    """
    if not config.supervised:
        return 0.0
    passed, warmup = epoch + step / steps, config.lambda_warmup
    if passed < warmup:
        return config.pose_weight * passed / warmup
    share = (passed - warmup) / (config.epochs - warmup)
    match config.lambda_decay:
        case "linear":
            return config.pose_weight * (1 - share)
        case "cosine":
            return config.pose_weight * 0.5 * (1 + math.cos(math.pi * share))
    return config.pose_weight
