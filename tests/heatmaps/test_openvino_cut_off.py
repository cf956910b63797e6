"""People cut off, whom MediaPipe does not find: OpenVINO's engine with crops does."""

import numpy as np
import pytest
from estimators import Remembering, as_bytes, beside, in_pixels, small, walls

from vsam_datasets.mannequins import draw_mannequin
from vsam_heatmaps import VsamError
from vsam_heatmaps.landmarks import landmark_indices
from vsam_heatmaps.openvino_backend import OpenVinoPoseEstimator

pytest.importorskip("openvino")

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
            yield Remembering(estimator)

    @pytest.fixture(scope="class")
    def without_crops(self, model, precision):
        with OpenVinoPoseEstimator(model.path, precision=precision, crops=False) as estimator:
            yield Remembering(estimator)

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
