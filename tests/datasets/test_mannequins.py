"""Mannequins: determinism, labels, true joints, refusals, and what MediaPipe makes of them."""

import csv
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import started, wait_until

from vsam_datasets.mannequins import (
    ATTRIBUTES,
    CATEGORIES,
    draw_mannequin,
    write_mannequins,
)
from vsam_datasets.mannequins.canvas import Canvas, Frame, colour
from vsam_datasets.mannequins.drawing import draw_person, sample_person
from vsam_datasets.mannequins.outfit import sample_distractor
from vsam_datasets.mannequins.shapes import band, box, ellipse, smooth
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.extraction import ExtractOptions, extract
from vsam_heatmaps.landmarks import LANDMARKS
from vsam_heatmaps.shards import Shards, Status

COUNT = 12


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mannequins") / "series"
    assert write_mannequins(out, count=COUNT, workers=1, progress=False) == out / "labels.csv"
    return out


class TestWrittenFolder:
    def test_any_number_of_workers_and_a_repetition_give_the_same_bytes(
        self, folder: Path, tmp_path: Path
    ) -> None:
        first = contents(folder)
        assert len(first) == COUNT + 3  # photos, two tables and the marker
        write_mannequins(tmp_path / "two", count=COUNT, workers=2, progress=False)
        assert contents(tmp_path / "two") == first
        write_mannequins(folder, count=COUNT, workers=1, progress=False)
        assert contents(folder) == first

    def test_labels(self, folder: Path) -> None:
        assert (folder / "labels.csv").read_text().splitlines()[0] == (
            "image,split,category,attributes"
        )
        table = rows(folder / "labels.csv")
        assert [row["image"] for row in table] == [f"{i:05d}.jpg" for i in range(COUNT)]
        for index, row in enumerate(table):
            assert row["split"] in ("train", "val", "test")
            assert row["category"] in CATEGORIES
            attributes = row["attributes"].split(";")
            assert attributes == sorted(set(attributes) & set(ATTRIBUTES))
            drawn = draw_mannequin(index, 0)
            assert (drawn.category, ";".join(drawn.attributes)) == (
                row["category"],
                row["attributes"],
            )
            photo = cv2.imread(str(folder / "photos" / row["image"]))
            assert photo.shape == (512, 384, 3)
            # JPEG changes a pixel by a few levels, a wrong channel order by dozens.
            change = np.abs(photo[..., ::-1].astype(int) - drawn.photo).mean()
            assert change < 5

    def test_joints_are_those_drawn(self, folder: Path) -> None:
        table = rows(folder / "joints.csv")
        assert list(table[0]) == ["image", "joint", "x", "y"]
        third = {row["joint"]: row for row in table if row["image"] == "00003.jpg"}
        joints = draw_mannequin(3, 0).joints
        assert list(third) == [n for n, j in zip(LANDMARKS, joints, strict=True) if j[2]]
        for name, row in third.items():
            truth = joints[LANDMARKS.index(name), :2]
            # Two decimals are written.
            assert [float(row["x"]), float(row["y"])] == pytest.approx(truth, abs=0.0051)

    def test_a_shorter_series_leaves_nothing_of_the_longer_one(self, tmp_path: Path) -> None:
        write_mannequins(tmp_path, count=4, workers=1, progress=False)
        (tmp_path / "photos" / ".00002.jpg.77.tmp").write_bytes(b"half")
        write_mannequins(tmp_path, count=2, workers=1, progress=False)
        assert sorted(p.name for p in (tmp_path / "photos").iterdir()) == ["00000.jpg", "00001.jpg"]
        assert len(rows(tmp_path / "labels.csv")) == 2
        assert {row["image"] for row in rows(tmp_path / "joints.csv")} == {"00000.jpg", "00001.jpg"}

    @pytest.mark.parametrize(
        ("number", "said"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGHUP, "")]
    )
    def test_ended_with_all_processes_and_the_folder_can_be_finished(
        self, tmp_path: Path, number: int, said: str
    ) -> None:
        program = (
            "import sys; from pathlib import Path\n"
            "from vsam_datasets.mannequins import write_mannequins\n"
            "if __name__ == '__main__':\n"
            "    write_mannequins(Path(sys.argv[1]), count=5000, workers=2)\n"
        )
        script, out = tmp_path / "script.py", tmp_path / "out"
        script.write_text(program)
        with started([sys.executable, script, out], stderr=subprocess.PIPE, text=True) as process:
            wait_until((out / "photos" / "00001.jpg").exists, process)
            os.killpg(process.pid, number)  # as a terminal does
            # Workers inherit stderr, so that it is closed only when all of them have ended.
            _, errors = process.communicate(timeout=30)
        assert process.returncode != 0
        assert said in errors
        assert errors.count("Traceback") == (number == signal.SIGINT)
        assert not (out / "labels.csv").exists()
        write_mannequins(out, count=1, workers=1, progress=False)
        assert [p.name for p in (out / "photos").iterdir()] == ["00000.jpg"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"count": 0}, "Expected `count` to be at least 1, but got 0."),
            ({"count": 1, "seed": -1}, "Expected `seed` to be at least 0, but got -1."),
            ({"count": 1, "workers": 0}, "Expected `workers` to be at least 1, but got 0."),
        ],
    )
    def test_arguments(self, tmp_path: Path, arguments: dict[str, int], message: str) -> None:
        with pytest.raises(VsamError) as caught:
            write_mannequins(tmp_path / "out", **arguments)
        assert str(caught.value) == message
        assert not (tmp_path / "out").exists()

    def test_a_folder_with_other_photos_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        mine = tmp_path / "photos" / "00007.jpg"
        mine.write_bytes(b"holiday")
        with pytest.raises(VsamError, match="it holds something else"):
            write_mannequins(tmp_path, count=1)
        assert mine.read_bytes() == b"holiday"

    def test_a_file_is_not_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(VsamError, match="but it is a file"):
            write_mannequins(tmp_path / "file", count=1)

    @pytest.mark.parametrize(("index", "seed"), [(-1, 0), (0, -1)])
    def test_negative_numbers(self, index: int, seed: int) -> None:
        with pytest.raises(VsamError, match="at least 0, but got -1"):
            draw_mannequin(index, seed)

    def test_tiny_photos(self) -> None:
        with pytest.raises(VsamError, match="at least 64 × 64 pixels, but got 63 × 512"):
            draw_mannequin(0, 0, size=(63, 512))


class TestLabels:
    def test_every_label_is_frequent_enough_to_be_learnt(self) -> None:
        count = 800
        outfits = [sample_person(np.random.default_rng([1, i])).outfit for i in range(count)]
        categories = Counter(outfit.category for outfit in outfits)
        attributes = Counter(name for outfit in outfits for name in outfit.attributes)
        assert set(categories) == set(CATEGORIES)
        assert set(attributes) == set(ATTRIBUTES)
        rarest = min([*categories.values(), *attributes.values()])
        assert rarest >= 0.04 * count
        assert max(attributes.values()) <= 0.7 * count

    def test_a_pattern_tells_nothing_of_the_category_but_denim(self) -> None:
        outfits = [sample_person(np.random.default_rng([2, i])).outfit for i in range(800)]
        for pattern in ("solid", "striped", "dotted", "floral", "checked"):
            worn = {outfit.category for outfit in outfits if outfit.fabric.pattern == pattern}
            assert worn == set(CATEGORIES) - {"Jeans"}

    def test_the_worn_category_never_hangs_behind(self) -> None:
        rng = np.random.default_rng(0)
        for worn in CATEGORIES:
            hung = {sample_distractor(rng, worn)[0] for _ in range(100)}
            assert hung == set(CATEGORIES) - {worn}

    def test_sampling_agrees_with_drawing(self) -> None:
        for index in range(4):
            outfit = sample_person(np.random.default_rng([5, index])).outfit
            drawn = draw_mannequin(index, 5)
            assert (outfit.category, outfit.attributes) == (drawn.category, drawn.attributes)


class TestJoints:
    @pytest.mark.parametrize("size", [(384, 512), (512, 384), (200, 300)])
    def test_the_whole_body_lies_in_the_photo(self, size: tuple[int, int]) -> None:
        for index in range(8):
            drawn = draw_mannequin(index, 3, size=size)
            assert drawn.photo.shape == (size[1], size[0], 3)
            assert drawn.joints.shape == (33, 3)
            assert (drawn.joints[:, 2] == 1).all()
            assert (drawn.joints[:, :2] >= -0.5).all()
            assert (drawn.joints[:, :2] <= np.array(size) - 0.5).all()

    def test_joints_lie_on_the_drawn_body(self) -> None:
        """The figure alone, on a colour that nothing has: every joint must be painted over."""
        for index in range(10):
            person = sample_person(np.random.default_rng([4, index]))
            canvas = Canvas(400, 560)
            canvas.pixels[:] = -1000.0
            frame = Frame(450.0, 0.05, (200.0, 270.0))
            draw_person(canvas, frame, person)
            spots = np.rint(frame.to_pixels(person.skeleton.landmarks())).astype(int)
            painted = canvas.pixels[:, spots[:, 1], spots[:, 0]].min(axis=0) > -1
            assert painted.all(), [n for n, p in zip(LANDMARKS, painted, strict=True) if not p]

    def test_left_is_the_persons_own(self) -> None:
        joints = draw_mannequin(0, 0).joints
        for name in ("shoulder", "hip", "eye", "ear"):
            left, right = (LANDMARKS.index(f"{side}_{name}") for side in ("left", "right"))
            assert joints[left, 0] > joints[right, 0]

    def test_mediapipe_finds_them(self, tmp_path: Path) -> None:
        """In a worker process: MediaPipe is not to be loaded beside torch."""
        pytest.importorskip("mediapipe")
        names = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        index = [LANDMARKS.index(f"{side}_{n}") for n in names for side in ("left", "right")]
        count, errors = 40, []
        drawn = {f"{k:02}.png": draw_mannequin(k, 0) for k in range(count)}
        for name, mannequin in drawn.items():
            cv2.imwrite(str(tmp_path / name), mannequin.photo[..., ::-1])
        options = ExtractOptions(pose_engine="mediapipe", workers=1)
        extract([tmp_path], tmp_path / "shards", options=options)
        for record in Shards(tmp_path / "shards"):
            if record.status is not Status.OK:
                continue
            found = record.keypoints[:, :2] * record.size - 0.5
            true = drawn[record.id].joints[:, :2]
            torso = np.linalg.norm(true[[11, 12]].mean(axis=0) - true[[23, 24]].mean(axis=0))
            errors.append(np.linalg.norm(found - true, axis=1)[index] / torso)
        assert len(errors) >= 0.97 * count
        assert np.median(errors) <= 0.05


class TestCanvas:
    def test_a_frame_and_its_grid_are_inverse(self) -> None:
        frame = Frame(37.0, 0.3, (12.0, 20.0))
        x, y = frame.grid(3, 5, 8, 6)
        assert x.shape == y.shape == (6, 8)
        there = frame.to_pixels(np.stack([x.ravel(), y.ravel()], axis=1).astype(float))
        columns, lines = np.meshgrid(np.arange(3, 11), np.arange(5, 11))
        assert np.allclose(there, np.stack([columns.ravel(), lines.ravel()], axis=1), atol=1e-4)

    def test_fill_covers_a_box_and_nothing_else(self) -> None:
        canvas = Canvas(40, 30)
        canvas.fill(Frame(10.0), box(1.0, 1.0, 3.0, 2.0), colour("#ff8000"))
        # Anti-aliasing may touch the pixels along the edge.
        assert canvas.pixels[:, 11:20, 11:30] == pytest.approx(
            np.broadcast_to(colour("#ff8000")[:, None, None], (3, 9, 19))
        )
        outside = np.ones((30, 40), bool)
        outside[9:22, 9:32] = False
        assert canvas.pixels[:, outside].max() == 0

    def test_shapes_beyond_the_edge_are_clipped(self) -> None:
        canvas = Canvas(20, 20)
        canvas.fill(Frame(1.0), ellipse((-50, -50), 5, 5), colour("#ffffff"))
        assert canvas.pixels.max() == 0
        canvas.fill(Frame(1.0), ellipse((0, 0), 30, 30), colour("#ffffff"), relief=0.5)
        assert canvas.pixels[:, 5, 5].min() > 150

    def test_a_curve_passes_through_its_points(self) -> None:
        points = np.array([(0, 0), (2, 1), (3, 4), (-1, 2)], float)
        for closed in (True, False):
            curve = smooth(points, closed=closed)
            distance = np.linalg.norm(curve[:, None] - points[None], axis=2).min(axis=0)
            assert distance.max() < 1e-9

    def test_a_band_has_its_width(self) -> None:
        strip = band(np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 3.0)]), 0.5)
        # Mitred at the corner: both sides stay parallel to the line.
        assert strip[1] == pytest.approx((3.5, 0.5))
        assert strip[4] == pytest.approx((4.5, -0.5))
