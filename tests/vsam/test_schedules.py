"""Learning rate and λ of each step against tables of values."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsam.config import LAMBDA_DECAYS, TrainConfig
from vsam.schedules import learning_rate, pose_weight


def config(**changed) -> TrainConfig:
    paths = {name: Path(name) for name in ("data", "photos", "out", "heatmaps")}
    return TrainConfig(**paths, **{"epochs": 4, "pose_weight": 8.0, **changed})


# Ten steps an epoch, four epochs, λ = 8: (epoch, step) and the λ of that step.
TABLES = [
    (0, "none", {(0, 0): 8, (2, 3): 8, (3, 9): 8}),
    (1.5, "none", {(0, 0): 0, (0, 3): 1.6, (0, 9): 4.8, (1, 4): 7.466667, (1, 5): 8, (3, 9): 8}),
    (4, "none", {(0, 0): 0, (2, 0): 4, (3, 9): 7.8}),
    (0.05, "none", {(0, 0): 0, (0, 1): 8}),
    (0, "linear", {(0, 0): 8, (1, 0): 6, (2, 0): 4, (3, 0): 2, (3, 9): 0.2}),
    (0, "cosine", {(0, 0): 8, (1, 0): 6.828427, (2, 0): 4, (3, 0): 1.171573, (3, 9): 0.012331}),
    (2, "linear", {(0, 0): 0, (1, 0): 4, (2, 0): 8, (3, 0): 4, (3, 9): 0.4}),
    (2, "cosine", {(1, 0): 4, (2, 0): 8, (2, 5): 6.828427, (3, 0): 4, (3, 5): 1.171573}),
    (4, "cosine", {(0, 0): 0, (2, 0): 4, (3, 9): 7.8}),
]


@pytest.mark.parametrize(("warmup", "decay", "values"), TABLES)
def test_lambda_follows_its_table(warmup, decay, values):
    chosen = config(lambda_warmup=warmup, lambda_decay=decay)
    for (epoch, step), value in values.items():
        assert pose_weight(chosen, 10, epoch, step) == pytest.approx(value, abs=1e-6), (epoch, step)


def test_lambda_is_0_where_nothing_is_supervised():
    assert pose_weight(config(regulariser="none"), 10, 1, 0) == 0


@given(
    warmup=st.floats(0, 4),
    decay=st.sampled_from(LAMBDA_DECAYS),
    steps=st.integers(1, 7),
)
def test_lambda_rises_once_and_falls_once(warmup, decay, steps):
    chosen = config(lambda_warmup=warmup, lambda_decay=decay)
    values = [pose_weight(chosen, steps, e, s) for e in range(4) for s in range(steps)]
    assert all(0 <= value <= 8 for value in values)
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)


def test_the_learning_rate_warms_up_and_falls_to_zero():
    # 40 steps: two of warm-up, then 38 along a cosine.
    chosen = config(lr=1.0)
    values = {(0, 0): 0.5, (0, 1): 1, (0, 2): 1, (2, 1): 0.5, (3, 9): 0.001707}
    for (epoch, step), value in values.items():
        assert learning_rate(chosen, 10, epoch, step) == pytest.approx(value, abs=1e-6)
