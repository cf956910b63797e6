"""The loss against its formulas, written out in numpy without torch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vsam.losses import (
    VsamLoss,
    attention_loss,
    attribute_loss,
    category_loss,
    inverse_frequency_weights,
)
from vsam.modeling.model import VsamOutput

# float32 sums of at most a few thousand values of similar size.
CLOSE = {"rel": 1e-5, "abs": 1e-6}


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def slow_category_loss(logits, target, weights) -> float:
    above = below = 0.0
    for row, wanted in zip(logits, target, strict=True):
        if wanted != -100:
            above += weights[wanted] * -math.log(softmax(row.astype(float))[wanted])
            below += weights[wanted]
    return above / below if below else 0.0


def slow_attribute_loss(logits, target, gamma) -> float:
    summed = 0.0
    for row, wanted in zip(logits.astype(float), target, strict=True):
        for logit, label in zip(row, wanted, strict=True):
            p = 1 / (1 + math.exp(-logit))
            p = p if label else 1 - p
            summed += -((1 - p) ** gamma) * math.log(p)
    return summed / len(logits)


def slow_attention_loss(attention, heatmap, has_pose) -> float:
    summed = 0.0
    side = attention.shape[-1]
    for a, h, pose in zip(attention[:, 0], heatmap[:, 0], has_pose, strict=True):
        # Pillow's bilinear filter averages where it shrinks.
        resized = Image.fromarray(h.astype(np.float32)).resize((side, side), Image.BILINEAR)
        mass = np.asarray(resized, float)
        if pose and mass.sum() > 0:
            difference = mass / mass.sum() - softmax(a.astype(float))
            summed += math.sqrt((difference**2).sum())
    return summed / len(attention)


def batch(seed: int, size: int = 6, maps: int = 12):
    rng = np.random.default_rng(seed)
    return {
        "category_logits": rng.normal(0, 3, (size, 4)).astype(np.float32),
        "attribute_logits": rng.normal(0, 3, (size, 5)).astype(np.float32),
        "attention": rng.uniform(0, 1, (size, 1, 8, 8)).astype(np.float32),
        "contributions": np.zeros((size, 0, 5), np.float32),
        "category": np.array([0, 1, 3, -100, 2, 0])[:size],
        "attributes": (rng.uniform(size=(size, 5)) < 0.3).astype(np.float32),
        "heatmap": rng.uniform(0, 1, (size, 1, maps, maps)).astype(np.float32) ** 4,
        "has_pose": np.array([True, True, False, True, True, False])[:size],
    }


def tensors(values) -> tuple[VsamOutput, dict[str, torch.Tensor]]:
    given = {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
    output = VsamOutput(*(given.pop(name).requires_grad_() for name in VsamOutput._fields))
    return output, given


WEIGHTS = np.array([0.5, 2.0, 1.0, 3.0], np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_category_loss_equals_its_formula(seed):
    values = batch(seed)
    found = category_loss(
        torch.from_numpy(values["category_logits"]),
        torch.from_numpy(values["category"]),
        torch.from_numpy(WEIGHTS),
    )
    expected = slow_category_loss(values["category_logits"], values["category"], WEIGHTS)
    assert float(found) == pytest.approx(expected, **CLOSE)


def test_category_loss_without_any_category_is_zero_and_has_a_finite_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    loss = category_loss(logits, torch.full((3,), -100), torch.ones(4))
    loss.backward()
    assert float(loss) == 0
    assert torch.equal(logits.grad, torch.zeros(3, 4))


def test_category_loss_of_a_class_without_weight_is_zero():
    # A category that only the validation split has weighs nothing.
    loss = category_loss(torch.randn(2, 3), torch.tensor([2, 2]), torch.tensor([1.0, 1.0, 0.0]))
    assert float(loss) == 0


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0])
def test_attribute_loss_equals_its_formula(gamma):
    values = batch(7)
    found = attribute_loss(
        torch.from_numpy(values["attribute_logits"]),
        torch.from_numpy(values["attributes"]),
        gamma=gamma,
    )
    expected = slow_attribute_loss(values["attribute_logits"], values["attributes"], gamma)
    assert float(found) == pytest.approx(expected, **CLOSE)


def test_attribute_loss_survives_extreme_logits():
    logits = torch.tensor([[200.0, -200.0, 200.0, -200.0]], requires_grad=True)
    loss = attribute_loss(logits, torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
    loss.backward()
    assert float(loss) == pytest.approx(400)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("maps", [8, 12, 16, 24])
def test_attention_loss_equals_its_formula(maps):
    values = batch(11, maps=maps)
    found = attention_loss(
        *(torch.from_numpy(values[name]) for name in ("attention", "heatmap", "has_pose"))
    )
    expected = slow_attention_loss(values["attention"], values["heatmap"], values["has_pose"])
    assert expected > 0.01
    # Pillow and torch round the weights of the filter differently, in the last digits.
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_attention_loss_is_zero_where_map_and_pose_agree():
    attention = torch.rand(2, 1, 8, 8, requires_grad=True)
    heatmap = attention.detach().flatten(1).softmax(1).view(2, 1, 8, 8) * 40
    loss = attention_loss(attention, heatmap, torch.tensor([True, True]))
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert attention.grad.isfinite().all()


def test_attention_loss_leaves_out_photos_without_pose_or_mass():
    values = batch(12)
    values["heatmap"][1] = 0  # a pose, but the person was cropped away
    attention = torch.from_numpy(values["attention"]).requires_grad_()
    loss = attention_loss(
        attention, torch.from_numpy(values["heatmap"]), torch.from_numpy(values["has_pose"])
    )
    loss.backward()
    expected = slow_attention_loss(values["attention"], values["heatmap"], values["has_pose"])
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    counted = [bool(gradient.abs().max() > 0) for gradient in attention.grad]
    assert counted == [True, False, False, True, True, False]
    assert attention.grad.isfinite().all()


def test_attention_loss_without_any_pose_is_zero_with_a_zero_gradient():
    attention = torch.rand(2, 1, 8, 8, requires_grad=True)
    loss = attention_loss(attention, torch.zeros(2, 1, 8, 8), torch.tensor([True, False]))
    loss.backward()
    assert float(loss) == 0
    assert torch.equal(attention.grad, torch.zeros(2, 1, 8, 8))


@given(factor=st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_attention_loss_does_not_depend_on_the_scale_of_the_heatmap(factor):
    values = batch(13)
    attention, heatmap, has_pose = (
        torch.from_numpy(values[name]) for name in ("attention", "heatmap", "has_pose")
    )
    plain = float(attention_loss(attention, heatmap, has_pose))
    scaled = float(attention_loss(attention, heatmap * factor, has_pose))
    assert scaled == pytest.approx(plain, rel=1e-4)


def slope(function, values: np.ndarray) -> np.ndarray:
    """Differentiate a function of an array, one number after the other."""
    values, step = values.astype(np.float64), 1e-4
    found = np.empty_like(values)
    for index in np.ndindex(values.shape):
        above, below = values.copy(), values.copy()
        above[index] += step
        below[index] -= step
        found[index] = (function(above) - function(below)) / (2 * step)
    return found


@pytest.mark.parametrize("term", ["category", "attributes", "attention"])
def test_gradients_equal_the_slopes_of_the_formulas(term):
    values = batch(16, maps=8)
    output, target = tensors(values)
    terms = VsamLoss(class_weights=torch.from_numpy(WEIGHTS))(output, **target)
    name, formula = {
        "category": (
            "category_logits",
            lambda logits: slow_category_loss(logits, values["category"], WEIGHTS.tolist()),
        ),
        "attributes": (
            "attribute_logits",
            lambda logits: slow_attribute_loss(logits, values["attributes"], 2),
        ),
        "attention": (
            "attention",
            lambda maps: slow_attention_loss(maps, values["heatmap"], values["has_pose"]),
        ),
    }[term]
    getattr(terms, term).backward()
    expected = slope(formula, values[name])
    assert np.abs(expected).max() > 1e-4
    # Of a step of 1e-4 the error is some 1e-8 of the third derivative.
    np.testing.assert_allclose(getattr(output, name).grad.numpy(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("pose_weight", [0.0, 1.0, 10.0])
def test_total_is_the_weighted_sum_of_the_terms(pose_weight):
    values = batch(14)
    output, target = tensors(values)
    criterion = VsamLoss(class_weights=torch.from_numpy(WEIGHTS), pose_weight=pose_weight)
    terms = criterion(output, **target)
    expected = {
        "category": slow_category_loss(values["category_logits"], values["category"], WEIGHTS),
        "attributes": slow_attribute_loss(values["attribute_logits"], values["attributes"], 2),
        "attention": slow_attention_loss(
            values["attention"], values["heatmap"], values["has_pose"]
        ),
    }
    for name, value in expected.items():
        assert float(getattr(terms, name)) == pytest.approx(value, rel=1e-4), name
    total = expected["category"] + expected["attributes"] + pose_weight * expected["attention"]
    assert float(terms.total) == pytest.approx(total, rel=1e-4)
    terms.total.backward()
    gradient = output.attention.grad
    assert (gradient is not None) == (pose_weight > 0)


@given(seed=st.integers(0, 1000), repeats=st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_repeating_a_batch_leaves_the_loss(seed, repeats):
    values = batch(seed)
    criterion = VsamLoss(class_weights=torch.from_numpy(WEIGHTS))
    output, target = tensors(values)
    once = criterion(output, **target)
    output, target = tensors({k: np.concatenate([v] * repeats) for k, v in values.items()})
    often = criterion(output, **target)
    for name, a, b in zip(once._fields, once, often, strict=True):
        assert float(b) == pytest.approx(float(a), rel=1e-5), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_compared_in_float32(dtype):
    output, target = tensors(batch(15))
    criterion = VsamLoss(class_weights=torch.from_numpy(WEIGHTS))
    halved = VsamOutput(*(tensor.detach().to(dtype) for tensor in output))
    exact = criterion(VsamOutput(*(tensor.float() for tensor in halved)), **target)
    found = criterion(halved, **target)
    assert found.total.dtype == torch.float32
    for a, b in zip(exact, found, strict=True):
        assert torch.equal(a, b)


@given(counts=st.lists(st.integers(0, 500), min_size=1, max_size=8).filter(any))
@settings(max_examples=50, deadline=None)
def test_class_weights_average_to_one_over_the_samples(counts):
    weights = inverse_frequency_weights(counts)
    assert weights.dtype == torch.float32
    present = [count for count in counts if count]
    for count, weight in zip(counts, weights.tolist(), strict=True):
        expected = sum(counts) / (len(counts) * count) if count else 0.0
        assert weight == pytest.approx(expected, rel=1e-5)
    mean = sum(c * w for c, w in zip(counts, weights.tolist(), strict=True)) / sum(counts)
    assert mean == pytest.approx(len(present) / len(counts), rel=1e-5)


def test_class_weights_without_any_category_are_zero():
    assert inverse_frequency_weights([0]).tolist() == [0.0]
