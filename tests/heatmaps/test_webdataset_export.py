"""Export to WebDataset, read back with WebDataset itself and compared with shards and photos."""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import filelock
import numpy as np
import pytest
import torch
import webdataset as wds
from hypothesis import given
from hypothesis import strategies as st
from image_files import chunk, png, zeros
from PIL import Image
from processes import started, wait_until
from tiny import keypoints, record, shard_info, write_shards

from vsam_heatmaps import Shards, VsamError, list_photos
from vsam_heatmaps.export import ExportOptions, export
from vsam_heatmaps.export.samples import sample_key
from vsam_heatmaps.images import decode_photo
from vsam_heatmaps.landmarks import LANDMARKS
from vsam_heatmaps.shards import Status, write_shard

KINDS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}
# Ids that differ in what WebDataset takes for an extension, or that it would leave out or mix up.
ODD = [
    "a.jpg", "a.png", "a", "a%2Ejpg", "v1.2/x.jpg", "v1.2/x.y.jpg", "__meta__/a.jpg", "__a__",
    "new\nline.jpg", "été 日本 👗.jpg", "space and # and %.jpg", "dress/00.JPG", "UPPER.PNG",
    "n" * 150 + "/" + "m" * 90 + ".webp", "z.json", "z.heatmaps.npy",
]  # fmt: skip


def picture(number: int, kind: str) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (20 + number, 16, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


def make(folder: Path, ids: list[str], **statuses: Status) -> Path:
    """Write photos of all kinds whatever their names say, and shards of random poses."""
    records = []
    rng = np.random.default_rng(0)
    for number, id_ in enumerate(sorted(ids)):
        data = picture(number, list(KINDS)[number % len(KINDS)])
        path = folder / "photos" / id_
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        status = statuses.get(id_.partition(".")[0], Status.OK)
        points = keypoints(*rng.uniform(0.2, 0.8, 2)) if status is Status.OK else None
        if points is not None:
            points = (points + rng.normal(0, 0.01, points.shape)).astype(np.float32)
            points[number % 33, 2] = np.nan
        made = replace(
            record(id_, points),
            sha256=hashlib.sha256(data).digest(),
            status=status,
            people=number if status is Status.OK else 0,
            size=(16, 20 + number),
        )
        if status is Status.UNREADABLE:
            made = replace(made, reason="it is broken")
        records.append(made)
    return write_shards(folder / "shards", records)


def photos_of(folder: Path, names: list[str] | None = None):
    """List the photos, also those without an extension, under their paths."""
    root = folder / "photos"
    paths = (
        [root / name for name in names] if names else [p for p in root.rglob("*") if p.is_file()]
    )
    return list_photos(paths, root=root)


def run(folder: Path, out: str = "out", **options):
    report = export(
        Shards(folder / "shards"), photos_of(folder), folder / out, options=ExportOptions(**options)
    )
    return report, sorted(path for path in (folder / out).iterdir() if path.suffix == ".tar")


def samples_in(paths) -> list[dict]:
    dataset = wds.WebDataset([str(path) for path in paths], shardshuffle=False)
    return list(dataset.decode("rgb8"))


def check(sample: dict, shards: Shards, photos: Path) -> str:
    """Compare a decoded sample with its record and its photo; give the id."""
    about = sample["json"]
    id_ = about["id"]
    kept = shards[id_]
    assert unquote(sample["__key__"]) == id_
    assert about["status"] == kept.status.name.lower()
    assert about["size"] == list(kept.size)
    assert about["people"] == kept.people
    assert about["channels"] == list(shards.info.channels)
    assert about["sha256"] == kept.sha256.hex()
    assert set(about) == {"id", "status", "size", "people", "channels", "keypoints", "sha256"}
    maps = np.asarray(sample["heatmaps.npy"])
    assert maps.dtype == np.uint8
    assert np.array_equal(maps, kept.heatmaps)
    points = np.array(
        [[np.nan if x is None else x for x in point] for point in about["keypoints"]], np.float32
    )
    assert np.array_equal(points, kept.keypoints, equal_nan=True)
    data = (photos / id_).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        extension = KINDS[image.format]
        pixels = np.array(image.convert("RGB"))
    assert set(sample) - {"__key__", "__url__", "__local_path__"} == {
        extension, "heatmaps.npy", "json",
    }  # fmt: skip
    assert np.array_equal(np.asarray(sample[extension]), pixels)
    return id_


def test_webdataset_reads_every_record(tmp_path):
    make(tmp_path, ODD)
    report, paths = run(tmp_path, maxcount=5)
    assert report.tars == {f"vsam-{n:06d}.tar": count for n, count in enumerate([5, 5, 5, 1])}
    assert report.counts == {"ok": 16, "no_pose": 0}
    assert (report.left_out, report.without_record) == ([], 0)
    shards = Shards(tmp_path / "shards")
    found = [check(sample, shards, tmp_path / "photos") for sample in samples_in(paths)]
    assert found == sorted(ODD)
    # The photos' own bytes, not only their pixels.
    raw = {s["__key__"]: s for s in wds.WebDataset([str(p) for p in paths], shardshuffle=False)}
    for id_ in ODD:
        [data] = [
            raw[sample_key(id_)][ext] for ext in KINDS.values() if ext in raw[sample_key(id_)]
        ]
        assert data == (tmp_path / "photos" / id_).read_bytes()


def test_a_loader_with_two_processes_gives_each_record_once(tmp_path):
    ids = [f"{number:02d}.jpg" for number in range(30)]
    make(tmp_path, ids)
    _, paths = run(tmp_path, maxcount=7)
    assert len(paths) == 5
    dataset = (
        wds.WebDataset([str(path) for path in paths], shardshuffle=False)
        .decode("rgb8")
        .map(lambda sample: (sample["json"]["id"], torch.from_numpy(sample["heatmaps.npy"])))
    )
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
    found = dict(loader)
    assert sorted(found) == ids
    shards = Shards(tmp_path / "shards")
    for id_, maps in found.items():
        assert np.array_equal(maps.numpy(), shards[id_].heatmaps)


@given(
    st.lists(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1),
        min_size=1,
        max_size=4,
    ).map("/".join)
)
def test_a_key_is_the_id_again_and_whole_for_webdataset(id_):
    key = sample_key(id_)
    assert unquote(key) == id_
    assert re.fullmatch(r"[A-Za-z0-9_~%/-]+", key)
    assert not key.startswith("__")
    for extension in ("jpg", "heatmaps.npy", "json"):
        assert wds.tariterators.base_plus_ext(f"{key}.{extension}") == (key, extension)


def test_tars_are_plain_and_always_the_same(tmp_path):
    make(tmp_path, ODD)
    _, paths = run(tmp_path)
    time.sleep(0.01)
    os.utime(tmp_path / "photos" / "a.jpg", (1, 1))
    _, again = run(tmp_path, "again")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    about = [
        (folder / "dataset.json").read_bytes() for folder in (paths[0].parent, again[0].parent)
    ]
    assert about[0] == about[1]
    with tarfile.open(paths[0]) as archive:
        members = archive.getmembers()
    assert len(members) == 3 * len(ODD)
    for member in members:
        assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
        assert (member.uname, member.gname) == ("", "")
    # What we write we can read.
    listed = list_photos(paths)
    assert len(listed) == len(ODD)
    for photo in listed:
        id_ = unquote(photo.id.rpartition(".")[0])
        assert photo.read() == (tmp_path / "photos" / id_).read_bytes()


def test_no_file_is_larger_than_asked(tmp_path):
    make(tmp_path, [f"{number:02d}.jpg" for number in range(20)])
    _, [whole] = run(tmp_path, "whole")
    maxsize = whole.stat().st_size // 3
    report, paths = run(tmp_path, maxsize=maxsize)
    assert len(paths) >= 3
    assert all(path.stat().st_size <= maxsize for path in paths)
    assert sum(report.tars.values()) == 20
    assert [s["json"]["id"] for s in samples_in(paths)] == [f"{n:02d}.jpg" for n in range(20)]
    # A sample that is larger than that has its own file.
    report, paths = run(tmp_path, "small", maxsize=1)
    assert list(report.tars.values()) == [1] * 20


def test_photos_without_a_pose_have_zero_maps_or_are_left_out(tmp_path):
    make(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], b=Status.NO_POSE, d=Status.UNREADABLE)
    report, paths = run(tmp_path)
    assert report.counts == {"ok": 2, "no_pose": 1}
    assert report.left_out == [("d.jpg", "it could not be read: it is broken")]
    samples = samples_in(paths)
    assert [s["json"]["status"] for s in samples] == ["ok", "no_pose", "ok"]
    assert not samples[1]["heatmaps.npy"].any()
    assert samples[1]["json"]["keypoints"] == [[None] * 4] * len(LANDMARKS)
    report, paths = run(tmp_path, "ok", only_ok=True)
    assert report.counts == {"ok": 2, "no_pose": 0}
    assert report.left_out == []
    assert [s["json"]["id"] for s in samples_in(paths)] == ["a.jpg", "c.jpg"]


def test_the_description_tells_how_the_maps_were_made(tmp_path):
    make(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], b=Status.NO_POSE)
    run(tmp_path, maxcount=2)
    about = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert (about["format"], about["format_version"]) == ("vsam-webdataset", 1)
    assert (about["samples"], about["ok"], about["no_pose"]) == (3, 2, 1)
    assert about["tars"] == {"vsam-000000.tar": 2, "vsam-000001.tar": 1}
    info = shard_info()
    assert about["heatmaps"]["channels"] == list(info.channels)
    assert (about["heatmaps"]["sigma"], about["heatmaps"]["side"]) == (info.sigma, info.side)
    assert about["heatmaps"]["pose_model_sha256"] == info.pose_model_sha256


def test_another_photo_is_told_and_stops_or_is_left_out(tmp_path):
    make(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    photos = tmp_path / "photos"
    (photos / "b.jpg").write_bytes(picture(7, "JPEG"))
    (photos / "c.jpg").unlink()
    (photos / "e.jpg").write_bytes(b"x")
    with pytest.raises(VsamError) as refused:
        run(tmp_path, maxcount=1)
    ours, theirs = (
        hashlib.sha256(data).hexdigest()[:16]
        for data in (picture(7, "JPEG"), picture(1, "PNG"))
    )  # fmt: skip
    assert str(refused.value) == (
        f"Could not export 'b.jpg': {photos}/b.jpg is another photo than the heatmaps were made "
        f"from, with the SHA-256 {ours}… instead of {theirs}…. Give the photos that the heatmaps "
        "were made from, extract them again, or leave such photos out: --on-error skip."
    )
    # Nothing with a name that is not whole, and no description: the export is not.
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [name for name in left if not name.startswith(".")] in ([], ["vsam-000000.tar"])
    assert left[0] == ".lock"
    report, paths = run(tmp_path, "skipped", stop_on_error=False)
    assert [id_ for id_, _ in report.left_out] == ["b.jpg", "c.jpg"]
    assert report.left_out[1][1] == "it is not among the photos"
    assert report.without_record == 1
    assert [s["json"]["id"] for s in samples_in(paths)] == ["a.jpg", "d.jpg"]


def test_pngs_with_large_texts_and_profiles_are_pngs(tmp_path):
    """More than 1 MB of them, which `extract` leaves unread and Pillow refuses."""
    (tmp_path / "photos").mkdir()
    records = []
    for name, kind in (("profile", b"iCCP"), ("text", b"zTXt")):
        data = png(before=chunk(kind, b"name\0\0" + zeros(2 << 20)))
        (tmp_path / "photos" / f"{name}.png").write_bytes(data)
        decode_photo(data)
        records.append(replace(record(f"{name}.png", None), sha256=hashlib.sha256(data).digest()))
    write_shards(tmp_path / "shards", records)
    report, [path] = run(tmp_path)
    assert report.left_out == []
    with tarfile.open(path) as tar:
        assert [name for name in tar.getnames() if name.endswith(".png")] == [
            "profile%2Epng.png",
            "text%2Epng.png",
        ]


def test_photos_come_from_any_source(tmp_path):
    ids = [f"{number:02d}.jpg" for number in range(8)]
    make(tmp_path, ids)
    packed = tmp_path / "photos.tar"
    with tarfile.open(packed, "w") as archive:
        for id_ in ids[::-1]:
            archive.add(tmp_path / "photos" / id_, id_)
    export(Shards(tmp_path / "shards"), list_photos([packed]), tmp_path / "packed")
    run(tmp_path)
    name = "vsam-000000.tar"
    assert (tmp_path / "packed" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_what_cannot_be_exported_is_refused(tmp_path):
    make(tmp_path, ["a.jpg", "b.jpg"], a=Status.NO_POSE, b=Status.NO_POSE)
    shards, out = Shards(tmp_path / "shards"), tmp_path / "out"
    with pytest.raises(VsamError) as refused:
        export(shards, list_photos([tmp_path / "photos"], root=tmp_path), out)
    assert str(refused.value) == (
        f"Expected the photos to be those of the shards in {shards.path}, but no id is the same: "
        "the first record is 'a.jpg', the first photo is 'photos/a.jpg'. Check --photos and --root."
    )
    with pytest.raises(VsamError, match=r"^None of the 2 records in .* can be exported\.$"):
        run(tmp_path, only_ok=True)
    out.mkdir(exist_ok=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(
        VsamError, match=r"out` to be new or empty, but it holds notes\.txt\. Name "
    ):
        run(tmp_path)
    (out / "notes.txt").unlink()
    run(tmp_path)
    with pytest.raises(
        VsamError, match=r"to be new or empty, but it holds dataset\.json\. Name an"
    ):
        run(tmp_path)
    with (
        filelock.FileLock(tmp_path / "taken" / ".lock"),
        pytest.raises(VsamError, match=r"^Another export is writing into .*taken\. Wait until"),
    ):
        run(tmp_path, "taken")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(VsamError, match=r"^Could not write into .*file: "):
        run(tmp_path, "file")
    for wrong in ({"maxcount": 0}, {"maxsize": 0}):
        with pytest.raises(VsamError, match=rf"^Expected `{next(iter(wrong))}` to be at least 1"):
            ExportOptions(**wrong)


def test_a_killed_export_leaves_whole_tars_alone(tmp_path):
    ids = [f"{number:04d}.jpg" for number in range(1500)]
    photos = tmp_path / "photos"
    photos.mkdir()
    data = picture(60, "BMP") * 30  # what follows an image's end is no matter
    records = []
    for id_ in ids:
        (photos / id_).write_bytes(data)
        records.append(replace(record(id_, None), sha256=hashlib.sha256(data).digest()))
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards" / "shard-000000.h5", shard_info(), records)
    out = tmp_path / "out"
    script = (
        "import sys; from pathlib import Path\n"
        "from vsam_heatmaps import Shards, list_photos\n"
        "from vsam_heatmaps.export import ExportOptions, export\n"
        "folder = Path(sys.argv[1])\n"
        "export(Shards(folder / 'shards'), list_photos([folder / 'photos']), folder / 'out',\n"
        "       options=ExportOptions(maxcount=40))"
    )
    with started([sys.executable, "-c", script, tmp_path]) as process:
        wait_until((out / "vsam-000003.tar").exists, process, pause=0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    tars = sorted(out.glob("*.tar"))
    assert 4 <= len(tars) < 38
    for path in tars:
        assert len(list_photos([path])) == 40  # a tar without its end is refused
    assert not (out / "dataset.json").exists()
    for path in tars:
        path.unlink()
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)
    assert len(samples_in(sorted(out.glob("*.tar")))) == 1500
    assert not list(out.glob(".vsam*"))
