"""The detector's output: anchors from the layers' layout, people from raw values."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vsam_heatmaps.blazepose.detection import (
    Detections,
    anchor_centres,
    decode_detections,
    letterbox,
    sigmoid,
)
from vsam_heatmaps.blazepose.regions import Region

ANCHORS = 2254
SILENT = -50.0  # a logit of no person
FRAME = Region(320.0, 240.0, 640.0)  # a photo of 640 x 480


def test_anchors_follow_the_layers():
    """Five layers with two anchors a cell; layers of the same stride share their cells."""
    expected = []
    strides = [8, 16, 32, 32, 32]
    for stride in sorted(set(strides)):
        cells = 224 // stride
        for row in range(cells):
            for column in range(cells):
                for _ in range(2 * strides.count(stride)):
                    expected.append(((column + 0.5) / cells, (row + 0.5) / cells))
    centres = anchor_centres()
    assert centres.shape == (ANCHORS, 2) == (28 * 28 * 2 + 14 * 14 * 2 + 7 * 7 * 6, 2)
    assert centres.dtype == np.float32
    np.testing.assert_array_equal(centres, np.array(expected, np.float32))
    np.testing.assert_allclose(centres[0], [0.5 / 28, 0.5 / 28])
    np.testing.assert_allclose(centres[2], [1.5 / 28, 0.5 / 28])  # along the row first
    np.testing.assert_allclose(centres[-1], [6.5 / 7, 6.5 / 7])


@pytest.mark.parametrize(
    ("width", "height", "region"),
    [(640, 480, FRAME), (3, 10, Region(1.5, 5.0, 10.0)), (1, 1, Region(0.5, 0.5, 1.0))],
)
def test_a_letterbox_holds_the_whole_photo(width, height, region):
    assert letterbox(width, height) == region


def silent() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((ANCHORS, 12), np.float32), np.full(ANCHORS, SILENT, np.float32)


def place(boxes, anchor, box, points):
    """Write what the detector would say at an anchor of a box and four points on the photo.

    box is left, top, right, bottom in pixels of the photo that `FRAME` shows.
    """
    across, down = anchor_centres()[anchor]

    def offset(x, y):
        left, top = FRAME.x - FRAME.side / 2, FRAME.y - FRAME.side / 2
        return (
            224 * ((x - left) / FRAME.side - across),
            224 * ((y - top) / FRAME.side - down),
        )

    left, top, right, bottom = box
    boxes[anchor, :2] = offset((left + right) / 2, (top + bottom) / 2)
    boxes[anchor, 2:4] = 224 * (right - left) / FRAME.side, 224 * (bottom - top) / FRAME.side
    for index, point in enumerate(points):
        boxes[anchor, 4 + 2 * index : 6 + 2 * index] = offset(*point)


def overlap(a, b) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = width * height if width > 0 and height > 0 else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def merged(people: list[tuple[float, tuple, list]]) -> list[tuple[float, list, list]]:
    """Weighted non-maximum suppression, written out; each person is (score, box, points)."""
    waiting = sorted(people, key=lambda person: -person[0])
    result = []
    while waiting:
        best = waiting[0]
        same = [other for other in waiting if other is best or overlap(best[1], other[1]) > 0.3]
        total = sum(score for score, _, _ in same)
        box = [sum(s * b[i] for s, b, _ in same) / total for i in range(4)]
        points = [
            [sum(s * p[i][axis] for s, _, p in same) / total for axis in (0, 1)] for i in range(4)
        ]
        result.append((best[0], box, points))
        waiting = [other for other in waiting if all(other is not one for one in same)]
    return result


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def check(found: Detections, expected: list) -> None:
    """Compare people; coordinates go through 224ths of a frame of 640 pixels in float32."""
    assert len(found) == len(found.boxes) == len(found.points) == len(expected)
    for index, (score, box, points) in enumerate(expected):
        assert found.scores[index] == pytest.approx(score, abs=1e-6)
        np.testing.assert_allclose(found.boxes[index], box, rtol=0, atol=2e-3)
        np.testing.assert_allclose(found.points[index], points, rtol=0, atol=2e-3)


ONE = ((200, 100, 260, 170), [(230, 300), (232, 90), (228, 180), (229, 80)])
TWO = ((450, 120, 520, 190), [(480, 310), (530, 100), (482, 200), (500, 90)])


def test_one_person_at_any_anchor():
    for anchor in (0, 777, 1568, 1959, 1960, ANCHORS - 1):
        boxes, logits = silent()
        place(boxes, anchor, *ONE)
        logits[anchor] = logit(0.8)
        check(decode_detections(boxes, logits, FRAME, min_confidence=0.5), [(0.8, *ONE)])


def test_where_the_landmark_network_is_to_look():
    boxes, logits = silent()
    place(boxes, 400, *TWO)
    logits[400] = logit(0.9)
    region = decode_detections(boxes, logits, FRAME, min_confidence=0.5).region(0)
    dx, dy = 530 - 480, 100 - 310
    assert (region.x, region.y) == pytest.approx((480, 310), abs=2e-3)
    assert region.side == pytest.approx(2.5 * math.hypot(dx, dy), abs=2e-2)
    assert region.angle == pytest.approx(math.atan2(dx, -dy), abs=1e-4)  # leans to the right


def test_two_people_of_several_anchors_each():
    """Each person's anchors are merged, weighted by score; the more confident person is first."""
    people = []
    for person, base, scores in ((ONE, 300, (0.6, 0.9)), (TWO, 900, (0.95, 0.7, 0.51))):
        for index, score in enumerate(scores):
            box = tuple(value + 3 * index for value in person[0])
            points = [(x - 2 * index, y + index) for x, y in person[1]]
            people.append((base + index, score, box, points))
    boxes, logits = silent()
    for anchor, score, box, points in people:
        place(boxes, anchor, box, points)
        logits[anchor] = logit(score)
    expected = merged([(score, box, points) for _, score, box, points in people])
    assert [score for score, _, _ in expected] == [0.95, 0.9]
    check(decode_detections(boxes, logits, FRAME, min_confidence=0.5), expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(count=st.integers(1, 25), seed=st.integers(0, 10_000))
def test_any_boxes_equal_the_suppression_written_out(count, seed):
    rng = np.random.default_rng(seed)
    boxes, logits = silent()
    scores = rng.permutation(np.linspace(0.2, 0.99, count + 1)[1:])  # apart: order is certain
    people = []
    for anchor, score in zip(rng.choice(ANCHORS, count, replace=False), scores, strict=True):
        corner, extent = rng.uniform(100, 300, 2), rng.uniform(40, 160, 2)
        box = (*corner, *(corner + extent))
        points = [tuple(point) for point in rng.uniform(0, 500, (4, 2))]
        place(boxes, anchor, box, points)
        logits[anchor] = logit(score)
        if score >= 0.5:
            people.append((float(score), box, points))
    near = [
        abs(overlap(a[1], b[1]) - 0.3) < 1e-4 or abs(a[0] - 0.5) < 1e-6
        for a in people
        for b in people
    ]
    assume(not any(near))  # there rounding decides
    check(decode_detections(boxes, logits, FRAME, min_confidence=0.5), merged(people))


def test_nobody():
    boxes, logits = silent()
    place(boxes, 10, *ONE)
    logits[10] = logit(0.49)
    for threshold, count in ((0.5, 0), (0.48, 1)):
        found = decode_detections(boxes, logits, FRAME, min_confidence=threshold)
        assert len(found) == count
        assert found.scores.shape == (count,)
        assert found.boxes.shape == (count, 4)
        assert found.points.shape == (count, 4, 2)


def test_a_score_at_the_threshold_counts():
    boxes, logits = silent()
    place(boxes, 10, *ONE)
    logits[10] = 0.0
    assert len(decode_detections(boxes, logits, FRAME, min_confidence=0.5)) == 1


def test_boxes_without_area():
    """Nothing overlaps them, so that each stays, unchanged, whatever else there is."""
    boxes, logits = silent()
    flat, thin, point = (300, 50, 300, 90), (300, 50, 340, 50), (310, 60, 310, 60)
    people = [
        (0.9 - 0.05 * index, box, ONE[1]) for index, box in enumerate((flat, thin, point, ONE[0]))
    ]
    for index, (score, box, points) in enumerate(people):
        place(boxes, 500 + index, box, points)
        logits[500 + index] = logit(score)
    with np.errstate(all="raise"):
        found = decode_detections(boxes, logits, FRAME, min_confidence=0.5)
    check(found, people)


def test_logits_beyond_all_measure():
    boxes, logits = silent()
    logits[:] = -1e4
    place(boxes, 10, *ONE)
    logits[10] = 1e4
    with np.errstate(all="raise"):
        check(decode_detections(boxes, logits, FRAME, min_confidence=0.5), [(1.0, *ONE)])


class TestSigmoid:
    def test_no_overflow(self):
        with np.errstate(all="raise"):
            values = sigmoid(np.array([-1e4, -100, 0, 100, 1e4, -3e38, 3e38], np.float32))
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, [0, 0, 0.5, 1, 1, 0, 1], rtol=0, atol=1e-7)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(x=st.floats(-30, 30, width=32))
    def test_the_formula(self, x):
        expected = 1 / (1 + math.exp(-x))
        # float32 near 1 has steps of 6e-8; the sum and the product round once each.
        assert float(sigmoid(np.float32(x))) == pytest.approx(expected, abs=1.5e-7)
