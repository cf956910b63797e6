"""The attention term: each measure against its formula in float64, torch's own, and a slow loop."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.distributions import Categorical, kl_divergence

from vsam.attention_losses import attention_loss
from vsam.config import LAMBDA_DECAYS, REGULARISERS
from vsam.losses import VsamLoss
from vsam.modeling.model import VsamOutput
from vsam_cli.train import LambdaDecay, Regulariser

MEASURES = ("l2", "l2-squared", "kl", "bce")
WITH_TEMPERATURE = ("l2", "l2-squared", "kl")


def slow_measure(name: str, a: np.ndarray, t: np.ndarray, temperature: float) -> float:
    """Measure one map, pixel by pixel, in float64."""
    a, t = a.astype(float).ravel(), t.astype(float).ravel()
    powers = [math.exp(value / temperature) for value in a]
    p = [power / sum(powers) for power in powers]
    s = [value / t.sum() for value in t]
    match name:
        case "l2":
            return math.sqrt(sum((x - y) ** 2 for x, y in zip(s, p, strict=True)))
        case "l2-squared":
            return sum((x - y) ** 2 for x, y in zip(s, p, strict=True))
        case "kl":
            return sum(x * math.log(x / y) for x, y in zip(s, p, strict=True) if x > 0)
        case "bce":
            wrong = [
                -y * math.log(x) - (1 - y) * math.log(1 - x) for x, y in zip(a, t, strict=True)
            ]
            return sum(wrong) / len(wrong)
    raise ValueError(name)


def slow_loss(name, attention, heatmap, has_pose, temperature=1.0) -> float:
    """Average over all maps; those without a pose or mass add nothing."""
    summed = 0.0
    side = attention.shape[-1]
    for sample in range(len(attention)):
        for number in range(attention.shape[1]):
            # Pillow's bilinear filter averages where it shrinks.
            drawn = Image.fromarray(heatmap[sample, number].astype(np.float32))
            wanted = np.asarray(drawn.resize((side, side), Image.BILINEAR), float)
            if has_pose[sample] and wanted.sum() > 1e-3:
                summed += slow_measure(name, attention[sample, number], wanted, temperature)
    return summed / (attention.shape[0] * attention.shape[1])


def maps(seed: int, regions: int = 3, side: int = 6, heat_side: int | None = None):
    """Draw maps, heatmaps and poses of five photos: not all have a pose, not all maps a mass."""
    rng = np.random.default_rng(seed)
    attention = rng.uniform(0.05, 0.95, (5, regions, side, side)).astype(np.float32)
    shape = (5, regions, heat_side or side, heat_side or side)
    heatmap = rng.uniform(0, 1, shape).astype(np.float32) ** 4
    heatmap[heatmap < 0.01] = 0
    heatmap[1, 0] = 0  # cropped away
    heatmap[4, -1] = 1e-6  # a rest of less than the least mass
    return attention, heatmap, np.array([True, True, False, True, True])


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array.copy()) for array in arrays]


def test_names_are_those_that_can_be_chosen():
    assert set(REGULARISERS) == {*MEASURES, "none"}
    assert tuple(Regulariser) == ("auto", *REGULARISERS)
    assert tuple(LambdaDecay) == ("auto", *LAMBDA_DECAYS)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("regions", [1, 3])
@pytest.mark.parametrize("heat_side", [6, 12])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_values_equal_the_formulas(name, regions, heat_side, temperature):
    given = maps(1, regions, heat_side=heat_side)
    expected = slow_loss(name, *given, temperature)
    assert expected > 1e-3
    found = attention_loss(*tensors(*given), regulariser=name, temperature=temperature)
    # Pillow and torch round the weights of the filter differently, in the last digits.
    assert float(found) == pytest.approx(expected, rel=1e-4 if heat_side != 6 else 2e-5)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_gradients_equal_the_slopes_of_the_formulas(name, temperature):
    attention, heatmap, has_pose = maps(2, regions=2, side=4)
    source, heat, pose = tensors(attention, heatmap, has_pose)
    attention_loss(
        source.requires_grad_(), heat, pose, regulariser=name, temperature=temperature
    ).backward()
    expected = np.empty(attention.shape)
    step = 1e-4
    for index in np.ndindex(attention.shape):
        values = attention.astype(float)
        values[index] += step
        above = slow_loss(name, values, heatmap, has_pose, temperature)
        values[index] -= 2 * step
        below = slow_loss(name, values, heatmap, has_pose, temperature)
        expected[index] = (above - below) / (2 * step)
    assert np.abs(expected).max() > 1e-4
    # At 0.2 the formula bends (1/0.2)^2 times as much: so does the error of a finite difference.
    np.testing.assert_allclose(source.grad.numpy(), expected, rtol=2e-4, atol=2e-7)


@pytest.mark.parametrize("name", WITH_TEMPERATURE)
def test_the_gradient_of_the_temperature_equals_the_slope_of_the_formula(name):
    attention, heatmap, has_pose = maps(3)
    log_temperature = torch.tensor(math.log(0.4), requires_grad=True)
    attention_loss(
        *tensors(attention, heatmap, has_pose), regulariser=name, temperature=log_temperature.exp()
    ).backward()
    above, below = (
        slow_loss(name, attention, heatmap, has_pose, 0.4 * math.exp(step))
        for step in (1e-4, -1e-4)
    )
    slope = (above - below) / 2e-4
    assert abs(slope) > 1e-4
    assert float(log_temperature.grad) == pytest.approx(slope, rel=1e-3)


def test_values_equal_torchs_own():
    attention, heatmap, _ = tensors(*maps(4))
    heatmap, pose = 0.01 + 0.99 * heatmap, torch.ones(5, dtype=torch.bool)
    p = (attention / 0.3).flatten(2).softmax(2)
    s = heatmap.flatten(2) / heatmap.flatten(2).sum(2, keepdim=True)
    expected = {
        "l2": torch.cdist(p.flatten(0, 1)[:, None], s.flatten(0, 1)[:, None]).mean(),
        "l2-squared": F.mse_loss(p, s, reduction="none").sum(2).mean(),
        "kl": kl_divergence(Categorical(s), Categorical(p)).mean(),
        "bce": F.binary_cross_entropy(attention, heatmap),
    }
    assert set(expected) == set(MEASURES)
    for name, value in expected.items():
        found = attention_loss(attention, heatmap, pose, regulariser=name, temperature=0.3)
        assert float(found) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize("name", MEASURES)
def test_maps_that_do_not_count_change_nothing_and_have_no_gradient(name):
    attention, heatmap, has_pose = tensors(*maps(5))
    left_out = torch.zeros(5, 3, dtype=torch.bool)
    left_out[2] = left_out[1, 0] = left_out[4, 2] = True
    attention.requires_grad_()
    loss = attention_loss(attention, heatmap, has_pose, regulariser=name)
    loss.backward()
    moved = attention.grad.flatten(2).abs().amax(2) > 0
    assert torch.equal(moved, ~left_out)
    other = torch.where(left_out[..., None, None], torch.rand_like(attention), attention.detach())
    assert torch.equal(attention_loss(other, heatmap, has_pose, regulariser=name), loss.detach())


@pytest.mark.parametrize("name", MEASURES)
def test_several_maps_weigh_as_one_does(name):
    attention, heatmap, has_pose = tensors(*maps(6))
    together = attention_loss(attention, heatmap, has_pose, regulariser=name)
    alone = [
        attention_loss(attention[:, [r]], heatmap[:, [r]], has_pose, regulariser=name)
        for r in range(3)
    ]
    assert float(together) == pytest.approx(float(torch.stack(alone).mean()), rel=1e-5)


@pytest.mark.parametrize("name", REGULARISERS)
def test_without_maps_the_loss_is_zero(name):
    loss = attention_loss(
        torch.zeros(4, 0, 6, 6), torch.rand(4, 1, 6, 6), torch.ones(4).bool(), regulariser=name
    )
    assert float(loss) == 0


@pytest.mark.parametrize("name", REGULARISERS)
def test_without_a_pose_the_loss_and_its_gradient_are_zero(name):
    attention = torch.rand(2, 2, 4, 4, requires_grad=True)
    loss = attention_loss(
        attention, torch.zeros(2, 2, 4, 4), torch.tensor([True, False]), regulariser=name
    )
    assert float(loss.detach()) == 0
    if name != "none":
        loss.backward()
        assert torch.equal(attention.grad, torch.zeros(2, 2, 4, 4))


def corner(side: int = 8) -> torch.Tensor:
    """One pixel of 1, the rest 0: as a map, or as a heatmap."""
    spot = torch.zeros(1, 1, side, side)
    spot[..., 0, 0] = 1
    return spot


EXTREMES = {
    "all 0, pose in a corner": (torch.full((1, 1, 8, 8), -1e4), corner()),
    "all 1, pose in a corner": (torch.full((1, 1, 8, 8), 1e4), corner()),
    "all 0, pose everywhere": (torch.full((1, 1, 8, 8), -1e4), torch.ones(1, 1, 8, 8)),
    "flat, pose as flat: no distance": (torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.5)),
    "on the pose": (corner() * 2e4 - 1e4, corner()),
    "beside the pose": (corner().flip(-1) * 2e4 - 1e4, corner()),
    "barely above 0": (torch.full((1, 1, 8, 8), -80.0), torch.ones(1, 1, 8, 8)),
    "barely below 1": (torch.full((1, 1, 8, 8), 16.0), corner()),
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("temperature", [1.0, 0.001, 1000.0])
@pytest.mark.parametrize("case", EXTREMES)
def test_extremes_have_finite_losses_and_gradients(name, temperature, case):
    logits, heatmap = EXTREMES[case]
    logits = logits.clone().requires_grad_()
    temperature = torch.tensor(temperature, requires_grad=True)
    loss = attention_loss(
        logits.sigmoid(),
        heatmap,
        torch.tensor([True]),
        regulariser=name,
        temperature=temperature,
    )
    (loss * 65536).backward()  # as a gradient scaler does
    assert loss.isfinite()
    assert loss.detach() >= -1e-6
    assert logits.grad.isfinite().all()
    assert temperature.grad is None or temperature.grad.isfinite()


@pytest.mark.parametrize("name", MEASURES)
def test_nan_in_a_map_is_told_by_the_loss(name):
    attention, heatmap, has_pose = tensors(*maps(7))
    attention[0, 0, 2, 3] = math.nan
    assert attention_loss(attention, heatmap, has_pose, regulariser=name).isnan()


def outputs(attention: torch.Tensor) -> tuple[VsamOutput, dict[str, torch.Tensor]]:
    torch.manual_seed(8)
    size = len(attention)
    output = VsamOutput(
        torch.randn(size, 4), torch.randn(size, 5), attention, torch.zeros(size, 0, 5)
    )
    return output, {
        "category": torch.randint(4, (size,)),
        "attributes": (torch.rand(size, 5) < 0.3).float(),
    }


@pytest.mark.parametrize("name", REGULARISERS)
@pytest.mark.parametrize("step_weight", [None, 0.0, 3.0])
def test_the_criterion_weighs_the_chosen_measure(name, step_weight):
    given = maps(9)
    attention, heatmap, has_pose = tensors(*given)
    output, target = outputs(attention)
    criterion = VsamLoss(class_weights=torch.ones(4), pose_weight=7.0, regulariser=name)
    terms = criterion(output, **target, heatmap=heatmap, has_pose=has_pose, pose_weight=step_weight)
    expected = 0.0 if name == "none" else slow_loss(name, *given)
    assert float(terms.attention) == pytest.approx(expected, rel=2e-5)
    weight = 7.0 if step_weight is None else step_weight
    total = float(terms.category) + float(terms.attributes) + weight * expected
    assert float(terms.total) == pytest.approx(total, rel=2e-5)


@pytest.mark.parametrize("name", REGULARISERS)
def test_autocast_does_not_reach_the_loss(name):
    attention, heatmap, has_pose = tensors(*maps(10, heat_side=12))
    output, target = outputs(attention)
    criterion = VsamLoss(class_weights=torch.ones(4), regulariser=name)
    exact = criterion(output, **target, heatmap=heatmap, has_pose=has_pose)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = criterion(output, **target, heatmap=heatmap, has_pose=has_pose)
    for a, b in zip(exact, found, strict=True):
        assert b.dtype == torch.float32
        assert torch.equal(a, b)


def test_a_criterion_learns_the_temperature_only_if_it_should():
    fixed = VsamLoss(class_weights=torch.ones(4), temperature=0.5)
    assert list(fixed.parameters()) == []
    assert fixed.state_dict() == {}
    learning = VsamLoss(class_weights=torch.ones(4), temperature=0.5, learn_temperature=True)
    assert list(learning.state_dict()) == ["log_temperature"]
    for criterion in (fixed, learning):
        assert float(criterion.temperature.detach()) == pytest.approx(0.5, rel=1e-6)
    # Without λ, too, it is in the graph of every step, as training in several processes needs.
    attention, heatmap, has_pose = tensors(*maps(11))
    output, target = outputs(attention)
    terms = learning(output, **target, heatmap=heatmap, has_pose=has_pose, pose_weight=0.0)
    terms.total.backward()
    (parameter,) = learning.parameters()
    assert float(parameter.grad) == 0
    learning.zero_grad()
    learning(output, **target, heatmap=heatmap, has_pose=has_pose).total.backward()
    assert float(parameter.grad) != 0


def test_a_learned_temperature_comes_closer_to_the_pose():
    """A map that shows the pose, but softly: the soft maximum becomes sharper until they agree."""
    heatmap = corner()
    attention = 0.2 + 0.6 * heatmap
    for name in WITH_TEMPERATURE:
        log_temperature = torch.zeros((), requires_grad=True)
        optimizer = torch.optim.AdamW([log_temperature], lr=0.1, weight_decay=0)
        reached = []
        for _ in range(60):
            loss = attention_loss(
                attention,
                heatmap,
                torch.tensor([True]),
                regulariser=name,
                temperature=log_temperature.exp(),
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            reached.append(float(loss.detach()))
        assert reached[-1] < 0.1 * reached[0], name
        assert log_temperature.detach().exp() < 0.2
