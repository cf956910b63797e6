"""What `supervision.py` makes of scores: paired differences, which seeds count, what is best."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scoring import draw_photos
from supervision_plan import NONE, REGIONS, REGIONS_FREE, SINGLE_FREE, parts, sizes
from supervision_report import report
from supervision_results import ATTRIBUTES, CATEGORY, PartResults

PHOTOS, LABELS, CLASSES = 40, 4, 3
WEIGHTS = {kind: {"single": 100.0, "regions": 10.0} for kind in ("scratch", "frozen", "tuned")}
PARTS = parts(sizes(quick=True), WEIGHTS)


def write_run(runs, part, variant, seed, strength, *, validation=0.5, pasted=0):
    """Write the files of a training whose scores know the truth more or less."""
    truth = np.random.default_rng(99)
    category = truth.integers(-1, CLASSES, PHOTOS)
    category[category < 0] = -100
    attributes = truth.random((PHOTOS, LABELS)) < 0.3
    rng = np.random.default_rng([seed, int(1000 * strength)])
    arrays = {
        "category_scores": rng.normal(size=(PHOTOS, CLASSES))
        + strength * (category[:, None] == np.arange(CLASSES)),
        "attribute_scores": rng.normal(size=(PHOTOS, LABELS)) + strength * attributes,
        "category": category,
        "attributes": attributes,
        "images": np.array([f"{n}.jpg" for n in range(PHOTOS)]),
    }
    named = {f"test_{name}": values for name, values in arrays.items()}
    if pasted:
        named |= {f"pasted_{name}": values[:pasted] for name, values in arrays.items()}
    folder = runs / part
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{variant.name}-{seed}.npz", **named)
    told = {
        "attributes": [f"label {n}" for n in range(LABELS)],
        "validation": {ATTRIBUTES: validation, CATEGORY: validation},
    }
    (folder / f"{variant.name}-{seed}.json").write_text(json.dumps(told))
    return arrays


def test_a_difference_is_the_loop_over_resamples(tmp_path):
    strong = [write_run(tmp_path, "b", REGIONS, s, 1.5) for s in (0, 1)]
    weak = [write_run(tmp_path, "b", REGIONS_FREE, s, 0.5) for s in (0, 1)]
    counts = draw_photos(PHOTOS, seed=0)

    def accuracy(runs, drawn):
        """Mean over seeds of the share of right photos, of those with a known category."""
        shares = []
        for run in runs:
            right = [
                run["category_scores"][n].argmax() == run["category"][n]
                for n in drawn
                if run["category"][n] >= 0
            ]
            shares.append(np.mean(right))
        return np.mean(shares)

    every = range(PHOTOS)
    gaps = [
        accuracy(strong, drawn) - accuracy(weak, drawn)
        for drawn in (np.repeat(every, row) for row in counts[:300])
    ]
    results = PartResults(PARTS["b"], tmp_path)
    measured = [
        results.of(variant).measure(CATEGORY).mean(axis=0) for variant in (REGIONS, REGIONS_FREE)
    ]
    np.testing.assert_allclose((measured[0] - measured[1])[1:301], gaps)
    found = results.difference(REGIONS.name, REGIONS_FREE.name, CATEGORY)
    assert found.value == pytest.approx(accuracy(strong, every) - accuracy(weak, every))
    assert (found.low, found.high) == pytest.approx(
        np.quantile(measured[0][1:] - measured[1][1:], (0.025, 0.975))
    )


def test_equal_variants_differ_by_exactly_nothing(tmp_path):
    for variant in (REGIONS, NONE):
        write_run(tmp_path, "b", variant, 0, 1.0)
    found = PartResults(PARTS["b"], tmp_path).difference(REGIONS.name, NONE.name)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert not found.excludes_zero
    assert PartResults(PARTS["b"], tmp_path).ratio(REGIONS.name, NONE.name).low == 1


def test_a_strong_variant_is_told_from_a_weak_one(tmp_path):
    write_run(tmp_path, "b", REGIONS, 0, 3.0)
    write_run(tmp_path, "b", NONE, 0, 0.0)
    found = PartResults(PARTS["b"], tmp_path).difference(REGIONS.name, NONE.name)
    assert found.excludes_zero
    assert 0 < found.low < found.value < found.high


def test_only_seeds_count_that_all_variants_have(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path, "b", REGIONS, seed, 1.0)
    for seed in (1, 2, 7):
        write_run(tmp_path, "b", REGIONS_FREE, seed, 0.5)
    results = PartResults(PARTS["b"], tmp_path)
    assert results.seeds == [1, 2]
    assert results.of(REGIONS).measure(ATTRIBUTES).shape[0] == 2


def test_a_part_without_trainings_is_empty(tmp_path):
    assert PartResults(PARTS["b"], tmp_path).variants == ()


def test_the_best_unsupervised_variant_is_chosen_on_the_validation_split(tmp_path):
    write_run(tmp_path, "b", NONE, 0, 3.0, validation=0.2)  # better in tests
    write_run(tmp_path, "b", SINGLE_FREE, 0, 0.1, validation=0.4)
    write_run(tmp_path, "b", REGIONS, 0, 1.0, validation=0.9)  # has seen poses
    assert PartResults(PARTS["b"], tmp_path).best_unsupervised() == SINGLE_FREE.name


def test_unpasted_photos_are_the_originals_of_the_pasted_ones(tmp_path):
    write_run(tmp_path, "b", NONE, 0, 1.0, pasted=9)
    results = PartResults(PARTS["b"], tmp_path)
    assert len(results.photos("pasted")) == 9
    before, after = (
        results.of(NONE, split).measure(ATTRIBUTES) for split in ("unpasted", "pasted")
    )
    np.testing.assert_array_equal(before, after)  # here they are the same scores


def test_the_report_tells_of_what_is_there(tmp_path):
    part = replace(PARTS["b"], variants=(NONE, REGIONS_FREE, REGIONS))
    for strength, variant in ((0.2, NONE), (0.4, REGIONS_FREE), (3.0, REGIONS)):
        for seed in (0, 1):
            write_run(tmp_path / "runs", "b", variant, seed, strength, pasted=20)
    text = report(tmp_path, {"b": part, "a100": PARTS["a100"]}, {}, {"quick": True})
    told = json.loads((tmp_path / "report.json").read_text())
    assert list(told["parts"]) == ["b"]
    gains = {(d["first"], d["second"]): d for d in told["parts"]["b"]["differences"]}
    gain = gains["regions", "none"][ATTRIBUTES]
    assert gain["95%"][0] > 0
    assert len(gain["seeds"]) == 2
    assert f"**+{gain['value']:.3f}"[:7] in text
    assert "[2 of 2]" in text
    assert (tmp_path / "report.md").read_text() == text
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_point_of_a_sweep_is_compared_on_the_seeds_that_its_part_has(tmp_path):
    point = replace(PARTS["b"], name="b-wrong")
    for seed in (0, 1, 2):
        write_run(tmp_path, "b", REGIONS, seed, 1.0)
    write_run(tmp_path, "b-wrong", REGIONS, 1, 1.0)  # the same scores
    write_run(tmp_path, "b-wrong", REGIONS, 2, 4.0)
    write_run(tmp_path, "b-wrong", REGIONS, 7, 0.0)
    base, found = PartResults(PARTS["b"], tmp_path), PartResults(point, tmp_path)
    change = found.change(REGIONS.name, base)
    assert change.seeds[0] == 0 < change.seeds[1]
    assert change.value == pytest.approx(change.seeds[1] / 2)
    assert change.excludes_zero
    others = PartResults(replace(point, data="mannequins"), tmp_path)
    assert others.change(REGIONS.name, base) is None
