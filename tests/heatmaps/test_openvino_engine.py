"""The pose networks on OpenVINO: the same as MediaPipe's own, always the same, and people cut off.

MediaPipe is the reference. The two differ by how a region is cut (one rounds it to whole grey
levels) and by the order of sums. MediaPipe's own results, on photos of which each pixel was changed
by one level at most, move about as much as the tolerances here allow: landmarks by 0.1 % of the
longer side in the median and 0.6 % at the 95th percentile, visibility by 0.03, presence by 0.01.
"""

import csv
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest

from vsam_datasets.mannequins import draw_mannequin
from vsam_heatmaps import LANDMARKS, MediaPipePoseEstimator, Poses, VsamError, read_photo
from vsam_heatmaps.blazepose.detection import decode_detections, letterbox
from vsam_heatmaps.blazepose.landmarks import decode_landmarks
from vsam_heatmaps.landmarks import landmark_indices
from vsam_heatmaps.openvino_backend import OpenVinoPoseEstimator
from vsam_heatmaps.openvino_networks import OpenVinoNetworks
from vsam_heatmaps.pose_model import find_pose_model

pytest.importorskip("openvino")
pytest.importorskip("mediapipe")

STREET = 60
GREY = (128, 128, 128)

# (median, 95th percentile) of distances, as shares of the photo's longer side.
F32, BF16 = (0.003, 0.01), (0.005, 0.02)
# 95th percentile of differences of visibility and presence, which are 0..1: 0.05 is what a fifth
# of a logit makes where the sigmoid is steepest; rounding to bf16 makes about twice as much.
F32_LIKELY, BF16_LIKELY = 0.05, 0.1


@pytest.fixture(scope="module")
def model():
    """Give the default bundle; tests that need it are skipped where it can't be had."""
    try:
        return find_pose_model()
    except VsamError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def mediapipe(model):
    with MediaPipePoseEstimator(model.path) as estimator:
        yield estimator


@pytest.fixture(scope="module")
def openvino(model):
    """Give the engine that does what MediaPipe does, and no more."""
    with OpenVinoPoseEstimator(model.path, precision="f32", crops=False) as estimator:
        yield estimator


@pytest.fixture(scope="module", params=["mixed", "bf16"])
def rounded(request, model):
    """Give the same with the landmark network, or both networks, in bf16."""
    try:
        estimator = OpenVinoPoseEstimator(model.path, precision=request.param, crops=False)
    except VsamError as error:
        pytest.skip(str(error))  # this processor has no bf16
    with estimator:
        assert estimator.precision == request.param
        yield estimator


@pytest.fixture(scope="module")
def drawn(mannequins):
    photos = [read_photo(path) for path in sorted((mannequins / "photos").glob("*.jpg"))]
    assert len(photos) == 24
    return photos


@pytest.fixture(scope="module")
def street(shared_data):
    paths = sorted((shared_data / "ccp" / "images").glob("*.jpg"))
    photos = [read_photo(path) for path in paths[:: len(paths) // STREET][:STREET]]
    assert len(photos) == STREET
    return photos


def in_pixels(keypoints: np.ndarray, photo: np.ndarray) -> np.ndarray:
    return keypoints[..., :2] * photo.shape[1::-1]


def assert_the_same(
    photos: Sequence[np.ndarray],
    expected: Sequence[Poses],
    found: Sequence[Poses],
    *,
    distance: tuple[float, float] = F32,
    likely: float = F32_LIKELY,
    equal_counts: float = 0.995,
) -> int:
    """Compare results of two engines; give for how many photos both found the main person."""
    counts = np.array([len(poses) for poses in expected]), np.array([len(p) for p in found])
    assert np.mean(counts[0] == counts[1]) >= equal_counts, counts
    both = [index for index in range(len(photos)) if expected[index] and found[index]]
    if both:
        a, b = (np.stack([one[index].keypoints[0] for index in both]) for one in (expected, found))
        away = np.concatenate(
            [
                np.linalg.norm(in_pixels(x - y, photos[index]), axis=1) / max(photos[index].shape)
                for index, x, y in zip(both, a, b, strict=True)
            ]
        )
        assert np.median(away) <= distance[0]
        assert np.quantile(away, 0.95) <= distance[1]
        assert np.quantile(np.abs(a - b)[..., 2], 0.95) <= likely  # visibility
        assert np.quantile(np.abs(a - b)[..., 3], 0.95) <= likely  # presence
    return len(both)


def people_apart(
    photos: Sequence[np.ndarray], reference, estimator, *, unequal: int
) -> list[float]:
    """Tell how far apart the same people are, as both find them.

    Args:
        photos: Of any number of people.
        reference: Finds the people who are looked for among those that `estimator` finds.
        estimator: Finds them, too.
        unequal: For how many photos one may find more than the other.

    Returns:
        For each person whom both found the median distance of a joint, as a share of the photo.
    """
    off, other = [], 0
    for photo in photos:
        expected, found = (one.estimate(photo).keypoints for one in (reference, estimator))
        other += len(expected) != len(found)
        few, many = sorted((expected, found), key=len)
        for person in few:
            joints = np.linalg.norm(in_pixels(many - person, photo), axis=2) / max(photo.shape)
            off.append(float(np.median(joints, axis=1).min()))
    assert other <= unequal
    return off


def turned(photo: np.ndarray, degrees: int) -> np.ndarray:
    """Turn a photo counterclockwise, on a grey ground where it is not by quarters."""
    if degrees % 90 == 0:
        return np.ascontiguousarray(np.rot90(photo, degrees // 90))
    height, width = photo.shape[:2]
    side = int(np.hypot(height, width)) + 1
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    matrix[:, 2] += (side - width) / 2, (side - height) / 2
    return cv2.warpAffine(photo, matrix, (side, side), borderValue=GREY)


def small(photo: np.ndarray, scale: float, place: int, side: int = 512) -> np.ndarray:
    """Paste a photo into a grey one, at a scale and one of nine places."""
    canvas = np.full((side, side, 3), GREY, np.uint8)
    scale *= side / max(photo.shape[:2])
    pasted = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = pasted.shape[:2]
    top, left = (side - height) * (place // 3 % 3) // 2, (side - width) * (place % 3) // 2
    canvas[top : top + height, left : left + width] = pasted
    return canvas


def walls() -> dict[str, np.ndarray]:
    """Make photos of nothing: flat colours, noise, a gradient."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 300)[:, None, None]
    return {
        "grey": np.full((400, 300, 3), GREY, np.uint8),
        "teal": np.full((90, 120, 3), (0, 128, 128), np.uint8),
        "white": np.full((300, 300, 3), 255, np.uint8),
        "black": np.zeros((300, 300, 3), np.uint8),
        "noise": rng.integers(0, 256, (400, 300, 3), np.uint8),
        "grain": rng.normal(128, 20, (400, 300, 3)).clip(0, 255).astype(np.uint8),
        "ramp": np.broadcast_to(ramp, (300, 400, 3)).astype(np.uint8),
    }


def beside(photos: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Put photos beside each other, `count` in each."""
    groups = [photos[start : start + count] for start in range(0, len(photos), count)]
    return [np.concatenate(group, axis=1) for group in groups]


class TestTheSameAsMediaPipe:
    def compare(self, mediapipe, openvino, photos, **tolerances) -> int:
        expected = [mediapipe.estimate(photo) for photo in photos]
        found = [openvino.estimate(photo) for photo in photos]
        return assert_the_same(photos, expected, found, **tolerances)

    def test_on_mannequins(self, mediapipe, openvino, drawn):
        assert self.compare(mediapipe, openvino, drawn) == len(drawn)

    def test_on_street_photos(self, mediapipe, openvino, street):
        assert self.compare(mediapipe, openvino, street) >= STREET - 1

    def test_rounded_to_bf16(self, mediapipe, rounded, drawn):
        both = self.compare(mediapipe, rounded, drawn, distance=BF16, likely=BF16_LIKELY)
        assert both == len(drawn)

    def test_rounded_to_bf16_on_street_photos(self, mediapipe, rounded, street):
        both = self.compare(mediapipe, rounded, street, distance=BF16, likely=BF16_LIKELY)
        assert both >= STREET - 1

    @pytest.mark.parametrize("degrees", [30, 90, 180, 270])
    def test_turned(self, mediapipe, openvino, drawn, degrees):
        photos = [turned(photo, degrees) for photo in drawn]
        assert self.compare(mediapipe, openvino, photos) >= len(drawn) // 2

    def test_small_people(self, mediapipe, openvino, drawn):
        """From people who fill most of the photo to some so small that none is found.

        Below half of the photo the networks are at their limit: for one photo in 24 a change by a
        grey level moves MediaPipe's own joints by 2 % of the photo, or finds one person more.
        """
        found = []
        for scale in (0.7, 0.45, 0.3, 0.2, 0.1, 0.05):
            photos = [small(photo, scale, place) for place, photo in enumerate(drawn)]
            off = people_apart(photos, mediapipe, openvino, unequal=1)
            assert np.mean([one > 0.01 for one in off] or [0]) <= 0.1
            found.append(len(off))
        assert found[0] >= 20
        assert found[-1] == 0

    @pytest.mark.parametrize(("count", "unequal"), [(2, 0), (3, 1)])
    def test_several_people(self, mediapipe, openvino, drawn, count, unequal):
        """Of three beside each other one may be at the limit: each fills a ninth of the view."""
        photos = beside(drawn, count)
        off = people_apart(photos, mediapipe, openvino, unequal=unequal)
        assert len(off) > 1.5 * len(photos)
        assert max(off) <= 0.01

    @pytest.mark.parametrize("max_people", [1, 2])
    def test_no_more_people_than_wanted(self, model, drawn, max_people):
        photos = beside(drawn[6:12], 3)
        options = {"max_people": max_people}
        with (
            MediaPipePoseEstimator(model.path, **options) as mediapipe,
            OpenVinoPoseEstimator(model.path, precision="f32", crops=False, **options) as openvino,
        ):
            expected = [len(mediapipe.estimate(photo)) for photo in photos]
            assert [len(openvino.estimate(photo)) for photo in photos] == expected
        assert max(expected) == max_people

    @pytest.mark.parametrize("min_confidence", [0.2, 0.8, 0.9])
    def test_at_another_confidence(self, model, drawn, min_confidence):
        photos = [small(photo, 0.7, place) for place, photo in enumerate(drawn)]
        options = {"min_confidence": min_confidence}
        with (
            MediaPipePoseEstimator(model.path, **options) as mediapipe,
            OpenVinoPoseEstimator(model.path, precision="f32", crops=False, **options) as openvino,
        ):
            # At the threshold rounding decides on one of 24.
            both = self.compare(mediapipe, openvino, photos, equal_counts=0.95)
        assert both >= len(drawn) // 2

    def test_nobody(self, mediapipe, openvino):
        for name, wall in walls().items():
            for estimator in (mediapipe, openvino):
                poses = estimator.estimate(wall)
                assert len(poses) == 0, name
                assert poses.keypoints.shape == (0, 33, 4)

    def test_photos_of_one_line(self, mediapipe, openvino, drawn):
        for photo in (drawn[0][:1, :1], drawn[0][:1], drawn[0][:, :1]):
            for estimator in (mediapipe, openvino):
                assert len(estimator.estimate(photo)) == 0

    def test_joints_lie_where_they_were_drawn(self, openvino, mannequins, drawn):
        """The photos' true joints are known: a reference besides MediaPipe."""
        with (mannequins / "joints.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        away = []
        for index, photo in enumerate(drawn):
            joints = in_pixels(openvino.estimate(photo).keypoints[0], photo) - 0.5
            for row in rows:
                if row["image"] == f"{index:05}.jpg" and row["joint"].endswith(
                    ("shoulder", "hip", "knee", "ankle")
                ):
                    x, y = joints[LANDMARKS.index(row["joint"])]
                    off = np.hypot(x - float(row["x"]), y - float(row["y"]))
                    away.append(off / photo.shape[0])
        assert len(away) > 100
        # Errors of left for right, or of half a photo, would lie far above.
        assert np.median(away) < 0.02
        assert np.mean(np.array(away) < 0.1) > 0.9


def test_a_mirrored_look_sees_the_same_person(model, drawn):
    """The landmark network on a region and on its mirror image: the same joints, the same sides.

    It was trained on both sides alike, but is not exactly symmetric: some pixels of 256. Exchanged
    sides, or a region that is not mirrored back, would lie tens of pixels off.
    """
    networks = OpenVinoNetworks(model, precision="f32")
    away = []
    for photo in drawn:
        frame = letterbox(photo.shape[1], photo.shape[0])
        seen = networks.detect(frame.cut(photo, 224, repeat_border=False))
        people = decode_detections(seen.boxes, seen.logits, frame, min_confidence=0.5)
        region = people.region(0)
        view = region.cut(photo, 256, repeat_border=True)
        plain = decode_landmarks(*networks.find_landmarks(view), region)
        mirror_image = np.ascontiguousarray(view[:, ::-1])
        mirrored = decode_landmarks(*networks.find_landmarks(mirror_image), region, mirrored=True)
        clear = (plain.keypoints[:, 2] > 0.8) & (mirrored.keypoints[:, 2] > 0.8)
        off = (plain.keypoints - mirrored.keypoints)[clear, :2] / region.side * 256
        away += np.linalg.norm(off, axis=1).tolist()
    assert len(away) > 24 * 15
    assert np.median(away) < 3
    assert np.quantile(away, 0.95) < 8


def as_bytes(poses: Poses) -> bytes:
    return poses.keypoints.tobytes()


class TestAlwaysTheSame:
    @pytest.fixture(params=["f32", "auto"], scope="class")
    def estimators(self, request, model):
        """Give two estimators that were loaded one after the other, with crops."""
        options = {"precision": request.param}
        with (
            OpenVinoPoseEstimator(model.path, **options) as first,
            OpenVinoPoseEstimator(model.path, **options) as second,
        ):
            yield first, second

    def test_to_the_byte(self, estimators, drawn):
        """Again, after other photos, and from an estimator that was loaded anew."""
        photos = [*drawn[:6], *(photo[150:] for photo in drawn[:4]), *beside(drawn[6:10], 2)]
        first, second = estimators
        once = [first.estimate(photo) for photo in photos]
        written = [as_bytes(poses) for poses in once]
        assert sum(map(len, once)) >= len(photos) - 2
        assert [as_bytes(first.estimate(photo)) for photo in photos[::-1]] == written[::-1]
        assert [as_bytes(second.estimate(photo)) for photo in photos] == written
        # What was given before did not change with the networks' memory.
        assert [as_bytes(poses) for poses in once] == written

    def test_any_layout_of_a_photo(self, estimators, drawn):
        for photo in (drawn[0], drawn[1][150:]):
            expected = as_bytes(estimators[0].estimate(np.ascontiguousarray(photo)))
            doubled = np.repeat(np.repeat(photo, 2, axis=0), 2, axis=1)[::2, ::2]
            backwards = np.ascontiguousarray(photo[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
            for layout in (doubled, backwards, np.asfortranarray(photo)):
                assert not layout.flags.c_contiguous
                layout.flags.writeable = False
                before = layout.copy()
                assert as_bytes(estimators[0].estimate(layout)) == expected
                np.testing.assert_array_equal(layout, before)

    def test_results_are_of_the_declared_types(self, estimators, drawn):
        for photo in (drawn[0], walls()["grey"]):
            poses = estimators[0].estimate(photo)
            assert poses.keypoints.dtype == np.float32
            assert poses.keypoints.flags.c_contiguous


BODY = [
    f"{side}_{name}"
    for side in ("left", "right")
    for name in ("shoulder", "elbow", "hip", "knee", "ankle")
]


class TestPeopleCutOff:
    @pytest.fixture(scope="class", params=["f32", "auto"])
    def precision(self, request):
        return request.param

    @pytest.fixture(scope="class")
    def with_crops(self, model, precision):
        with OpenVinoPoseEstimator(model.path, precision=precision) as estimator:
            yield estimator

    @pytest.fixture(scope="class")
    def without_crops(self, model, precision):
        with OpenVinoPoseEstimator(model.path, precision=precision, crops=False) as estimator:
            yield estimator

    @pytest.fixture(scope="class")
    def headless(self):
        """Give 24 mannequins cut between mouth and shoulders, and where their joints are."""
        cut = []
        for index in range(24):
            mannequin = draw_mannequin(index, 0)
            heights = [
                mannequin.joints[list(landmark_indices(names)), 1].mean()
                for names in (("mouth_left", "mouth_right"), ("left_shoulder", "right_shoulder"))
            ]
            top = int(np.mean(heights))
            # To the outer corner of the top-left pixel.
            joints = mannequin.joints[:, :2] + 0.5 - (0, top)
            cut.append((mannequin.photo[top:], joints))
        return cut

    def test_are_found(self, without_crops, with_crops, headless):
        without = [len(without_crops.estimate(photo)) > 0 for photo, _ in headless]
        found = [len(with_crops.estimate(photo)) > 0 for photo, _ in headless]
        assert sum(found) >= sum(without)
        assert sum(found) >= 22  # MediaPipe needs the face
        assert sum(without) <= 12

    def test_mostly_where_they_were_drawn(self, with_crops, headless):
        """Within a fifth of the torso's length; exchanged sides would be far beyond."""
        body = list(landmark_indices(BODY))
        right = []
        for photo, joints in headless:
            poses = with_crops.estimate(photo)
            shoulders, hips = joints[[11, 12]].mean(axis=0), joints[[23, 24]].mean(axis=0)
            torso = np.linalg.norm(shoulders - hips)
            inside = ((joints[body] >= 0) & (joints[body] <= photo.shape[1::-1])).all(axis=1)
            if len(poses):
                away = in_pixels(poses.keypoints[0], photo)[body] - joints[body]
                right += (np.linalg.norm(away, axis=1) < torso / 5)[inside].tolist()
            else:
                right += [False] * int(inside.sum())
        assert len(right) > 150
        assert np.mean(right) > 0.8

    def test_only_joints_in_the_photo_are_visible(self, with_crops, headless, drawn):
        inside_, outside_ = [], []
        for photo in (*(photo for photo, _ in headless), *drawn):
            poses = with_crops.estimate(photo)
            assert len(poses) == 1
            x, y, visibility, _ = poses.keypoints[0].T
            assert ((visibility >= 0) & (visibility <= 1)).all()
            outside = (x < 0) | (x > 1) | (y < 0) | (y > 1)
            inside_ += visibility[~outside].tolist()
            outside_ += visibility[outside].tolist()
        assert len(outside_) > 100
        assert not any(outside_)
        assert np.mean(inside_) > 0.5

    def test_whole_people_stay_where_mediapipe_finds_them(self, without_crops, with_crops, drawn):
        """Their visibility alone is judged anew."""
        keep = [0, 1, 3]
        same = [
            np.array_equal(
                without_crops.estimate(photo).keypoints[..., keep],
                with_crops.estimate(photo).keypoints[..., keep],
            )
            for photo in drawn
        ]
        assert sum(same) >= 22

    def test_several_people_stay_as_mediapipe_finds_them(self, without_crops, with_crops, drawn):
        """The proposal lies between them, and judges nobody."""
        pairs = [p for p in beside(drawn, 2) if len(without_crops.estimate(p)) == 2]
        assert len(pairs) >= 6
        for pair in pairs:
            assert as_bytes(with_crops.estimate(pair)) == as_bytes(without_crops.estimate(pair))

    @pytest.mark.parametrize("scale", [0.4, 0.6])
    def test_small_people_stay_as_mediapipe_finds_them(
        self, without_crops, with_crops, drawn, scale
    ):
        """The region network knows people who fill the photo: it must not judge those far away."""
        photos = [small(photo, scale, place=4) for photo in drawn]
        found = [photo for photo in photos if len(without_crops.estimate(photo))]
        assert len(found) >= 8
        unlike = [
            photo
            for photo in found
            if as_bytes(with_crops.estimate(photo)) != as_bytes(without_crops.estimate(photo))
        ]
        assert len(unlike) <= len(found) // 8

    def test_nobody_is_seen_on_a_wall(self, with_crops):
        for name, wall in walls().items():
            assert with_crops.propose(wall).person < 0.5, name
            assert len(with_crops.estimate(wall)) == 0, name

    def test_nobody_is_seen_on_a_background(self, with_crops):
        """Beside a mannequin, left of all its joints."""
        people = [draw_mannequin(index, 0) for index in range(24)]
        pieces = [person.photo[:, : int(person.joints[:, 0].min()) - 40] for person in people]
        pieces = [piece for piece in pieces if piece.shape[1] >= 40]
        assert len(pieces) >= 8
        assert sum(len(with_crops.estimate(piece)) > 0 for piece in pieces) <= len(pieces) // 8

    def test_the_proposal_is_near_the_person(self, with_crops, headless):
        away = []
        for photo, joints in headless:
            proposal = with_crops.propose(photo)
            assert proposal.person > 0.5
            hips = joints[[23, 24]].mean(axis=0)
            off = np.hypot(proposal.region.x - hips[0], proposal.region.y - hips[1])
            away.append(off / proposal.region.side)
        assert np.median(away) < 0.1

    def test_without_crops_there_is_no_proposal(self, without_crops, drawn):
        with pytest.raises(VsamError) as refused:
            without_crops.propose(drawn[0])
        assert len(str(refused.value).splitlines()) == 1
        assert "`crops`" in str(refused.value)


MEMBERS = ("pose_detector.tflite", "pose_landmarks_detector.tflite")
NOISE = bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8))


def packed(*networks: bytes, names: Sequence[str] = MEMBERS) -> bytes:
    """Zip networks as MediaPipe wants them: stored, each at a multiple of four bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for name, data in zip(names, networks, strict=True):
            entry = zipfile.ZipInfo(name)
            padding = -(buffer.tell() + 30 + len(name) + 4) % 4
            entry.extra = (0xD935).to_bytes(2, "little") + padding.to_bytes(2, "little")
            entry.extra += bytes(padding)
            bundle.writestr(entry, data)
    return buffer.getvalue()


# Makes a bundle that is none out of the official detector and landmark network.
BAD_BUNDLES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "truncated": lambda a, b: packed(a, b)[:1_000_000],
    "without its end": lambda a, b: packed(a, b)[:-40],
    "lacking a network": lambda a, b: packed(a, names=MEMBERS[:1]),
    "of another task": lambda a, b: packed(a, b, names=("hand_detector.tflite", "x.tflite")),
    "noise for a detector": lambda a, b: packed(NOISE, b),
    "noise for landmarks": lambda a, b: packed(a, NOISE),
    "half a detector": lambda a, b: packed(a[: len(a) // 2], b),
    "empty networks": lambda a, b: packed(b"", b""),
}
FOREIGN_NETWORKS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "exchanged": lambda a, b: packed(b, a),
    "the detector twice": lambda a, b: packed(a, a),
    "the landmarks twice": lambda a, b: packed(b, b),
}


class TestBadModels:
    @pytest.fixture
    def networks(self, model):
        with zipfile.ZipFile(model.path) as bundle:
            return [bundle.read(name) for name in MEMBERS]

    @pytest.fixture(params=["mediapipe", "openvino", "openvino with crops"])
    def load(self, request):
        """Give a function that loads a bundle."""
        return {
            "mediapipe": MediaPipePoseEstimator,
            "openvino": lambda path: OpenVinoPoseEstimator(path, crops=False),
            "openvino with crops": OpenVinoPoseEstimator,
        }[request.param]

    @pytest.fixture(autouse=True)
    def cache(self, model, monkeypatch, tmp_path):
        """MediaPipe's engine keeps a leaner copy of a bundle: not in the user's cache."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def check(self, refused, path):
        said = str(refused.value)
        assert len(said.splitlines()) == 1
        assert str(path) in said

    @pytest.mark.parametrize("kind", BAD_BUNDLES)
    def test_are_told_in_one_line(self, networks, load, kind, tmp_path):
        path = tmp_path / "own.task"
        path.write_bytes(BAD_BUNDLES[kind](*networks))
        with pytest.raises(VsamError) as refused:
            load(path)
        self.check(refused, path)

    @pytest.mark.parametrize("crops", [False, True])
    @pytest.mark.parametrize("kind", FOREIGN_NETWORKS)
    def test_openvino_tells_of_foreign_networks(self, networks, kind, crops, tmp_path):
        path = tmp_path / "own.task"
        path.write_bytes(FOREIGN_NETWORKS[kind](*networks))
        with pytest.raises(VsamError) as refused:
            OpenVinoPoseEstimator(path, crops=crops)
        self.check(refused, path)

    @pytest.mark.parametrize("kind", FOREIGN_NETWORKS)
    def test_mediapipe_tells_of_foreign_networks(self, networks, kind, tmp_path):
        """At the latest with the first person. In a process: a failed graph can hang when freed."""
        path = tmp_path / "own.task"
        path.write_bytes(FOREIGN_NETWORKS[kind](*networks))
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from vsam_datasets.mannequins import draw_mannequin\n"
            "from vsam_heatmaps import MediaPipePoseEstimator, VsamError\n"
            "try:\n"
            "    with MediaPipePoseEstimator(Path(sys.argv[1])) as estimator:\n"
            "        estimator.estimate(draw_mannequin(0, 0).photo)\n"
            "except VsamError as error:\n"
            "    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-1000:]
        [line] = done.stdout.splitlines()
        assert str(path) in line

    def test_a_bundle_packed_anew_works(self, model, networks, load, tmp_path, drawn):
        """So that the tests above refuse what is in the bundles, not how they were made."""
        path = tmp_path / "own.task"
        path.write_bytes(packed(*networks))
        with load(path) as own, load(model.path) as default:
            assert len(own.estimate(drawn[0])) == 1
            assert as_bytes(own.estimate(drawn[0])) == as_bytes(default.estimate(drawn[0]))
            assert own.model.path == path

    def test_weights_of_something_else(self, model, tmp_path):
        path = tmp_path / "own.npz"
        np.savez(path, a=np.zeros(3))
        with pytest.raises(VsamError) as refused:
            OpenVinoPoseEstimator(model.path, region_weights=path)
        assert len(str(refused.value).splitlines()) == 1
        assert str(path) in str(refused.value)

    def test_an_unknown_precision(self, model):
        with pytest.raises(VsamError) as refused:
            OpenVinoPoseEstimator(model.path, precision="f16", crops=False)
        assert str(refused.value) == (
            "Expected `precision` to be one of auto, f32, mixed, bf16, but got 'f16'."
        )


def test_a_signal_after_many_estimators_ends_nothing(tmp_path):
    """A core of OpenVINO brings a stack for signals: none that is gone may be left behind."""
    code = (
        "import os, signal\n"
        "from vsam_heatmaps.openvino_backend import OpenVinoPoseEstimator\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('heard'))\n"
        "one = OpenVinoPoseEstimator(crops=False)\n"
        "two = OpenVinoPoseEstimator(crops=True)\n"
        "del one\n"
        "del two\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (0, "heard\n")
