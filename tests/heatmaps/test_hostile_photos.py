"""No photo ends an extraction, hangs it, or takes more than a bounded time and memory."""

import os
import random
import socket
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from hostile import CASES, write
from image_files import bmp, chunk, encode, gif, gif_codes, gif_picture, noise, png, samples, tiff
from PIL import Image
from watched_decoder import watched

from vsam_heatmaps import extract
from vsam_heatmaps.errors import UnreadablePhotoError
from vsam_heatmaps.extraction import ExtractOptions
from vsam_heatmaps.images import MAX_PIXELS, decode, decode_photo, max_bytes, read_bytes, read_photo

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="it is measured through /proc")

# What heatmaps/README.md promises.
BYTES_PER_PIXEL, TIMES_THE_FILE, BYTES_BESIDE = 16, 2, 256 << 20
SECONDS = 2


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    """Decode all cases in one other process; give what came of each."""
    paths = write(tmp_path_factory.mktemp("hostile"))
    requests = [
        {"path": str(path), "max_pixels": CASES[name].max_pixels} for name, path in paths.items()
    ]
    answers = watched(*requests)
    for path in paths.values():
        path.unlink()
    for name, answer in zip(CASES, answers, strict=False):
        assert "error" not in answer, f"{name} ended the process: {answer['error']}"
    return dict(zip(CASES, answers, strict=True))


@on_linux
@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_decoded_or_refused_within_bounds(name, outcomes):
    case, found = CASES[name], outcomes[name]
    if case.outcome != "either":
        assert found["outcome"] == case.outcome, found
    if found["outcome"] == "readable":
        width, height = found["size"]
        assert found["shape"] == [height, width, 3]
        assert found["dtype"] == "uint8"
        assert case.size in (None, (width, height))
    else:
        assert found["outcome"] == "unreadable", found
        assert case.reason in found["reason"]
        assert found["reason"].isprintable()
        assert len(found["reason"]) < 150
    assert found["reduced"]["outcome"] == found["outcome"]
    assert found["reduced"].get("reason") == found.get("reason")
    assert found["reduced"].get("size") == found.get("size")
    assert found["seconds"] < SECONDS
    bound = BYTES_PER_PIXEL * case.max_pixels + TIMES_THE_FILE * found["bytes"] + BYTES_BESIDE
    assert found["peak"] < bound


@on_linux
def test_random_changes_end_in_a_photo_or_a_reason(tmp_path):
    files = samples()
    requests = []
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        requests.append({"path": str(tmp_path / name), "mutations": 300})
    answers = watched(*requests)
    assert len(answers) == len(files), answers[-1]
    assert sum(answer["readable"] for answer in answers) > 300
    for name, answer in zip(files, answers, strict=True):
        assert answer["wrong"] == [], name
        assert answer["readable"] + answer["unreadable"] == 300
        assert answer["unreadable"] > 30, name
        assert answer["peak"] < BYTES_PER_PIXEL * 1_000_000 + BYTES_BESIDE


@on_linux
def test_memory_is_bounded_by_the_pixels(tmp_path):
    """The ways that take most, at a size where pixels outweigh all else."""
    width, height = 2500, 2000
    rgb, rgba = noise(width // 50, height // 50), noise(width // 50, height // 50, 4)
    rgb, rgba = (image.resize((width, height), Image.Resampling.NEAREST) for image in (rgb, rgba))
    turned = Image.Exif()
    turned[274] = 6
    deep = np.asarray(rgba).astype("<u2") * 257
    tags = {258: (3, [16] * 4), 277: (3, [4]), 338: (3, [2]), 259: (3, [8])}
    strip = {"compression": "tiff_adobe_deflate", "strip_size": 1 << 30}
    frames = {"save_all": True, "append_images": [rgba.transpose(Image.Transpose.ROTATE_180)]}
    whole = {"subsampling": 0, "progressive": True, "exif": turned}
    photos = {
        "jpeg": encode(rgb.convert("CMYK"), "JPEG", **whole),
        "png": encode(rgba, "PNG", exif=turned),
        "webp": encode(rgba, "WEBP", lossless=True, method=0, quality=0, exif=turned),
        "webp-animated": encode(rgba, "WEBP", lossless=True, method=0, quality=0, **frames),
        "gif": encode(rgb.quantize(64), "GIF", transparency=3),
        "tiff": encode(rgba, "TIFF", **strip),
        "tiff-16": tiff(width, height, pixels=zlib.compress(deep.tobytes(), 1), tags=tags),
    }
    requests = []
    for name, data in photos.items():
        (tmp_path / name).write_bytes(data)
        requests.append({"path": str(tmp_path / name), "max_pixels": width * height})
    for name, answer in zip(photos, watched(*requests), strict=True):
        assert answer["outcome"] == "readable", name
        less = answer["peak"] - TIMES_THE_FILE * answer["bytes"] - (4 << 20)
        assert less / (width * height) < BYTES_PER_PIXEL, name


class TestFiles:
    """What lies in a folder need not be a file, nor a small one."""

    @pytest.mark.timeout(10)
    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
    def test_a_pipe_is_refused_at_once(self, tmp_path):
        os.mkfifo(tmp_path / "x.jpg")
        (tmp_path / "link.jpg").symlink_to(tmp_path / "x.jpg")
        for name in ("x.jpg", "link.jpg"):
            with pytest.raises(UnreadablePhotoError, match=r"^it is a pipe, a socket or a device"):
                read_photo(tmp_path / name)

    @pytest.mark.timeout(10)
    @pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no endless device")  # noqa: PTH110
    def test_an_endless_device_is_not_read(self, tmp_path):
        (tmp_path / "zero.jpg").symlink_to("/dev/zero")
        with pytest.raises(UnreadablePhotoError, match=r"^it is a pipe, a socket or a device"):
            read_bytes(tmp_path / "zero.jpg")

    @pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no such sockets")
    def test_a_socket_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("s.jpg")
            with pytest.raises(UnreadablePhotoError, match=r"^it is a pipe, a socket or a device"):
                read_bytes(tmp_path / "s.jpg")

    def test_folders_and_links_to_nothing_are_refused(self, tmp_path):
        (tmp_path / "folder.jpg").mkdir()
        (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
        (tmp_path / "round.jpg").symlink_to(tmp_path / "round.jpg")
        for name, reason in (
            ("folder.jpg", "^Is a directory$"),
            ("gone.jpg", "^No such file or directory$"),
            ("round.jpg", "^Too many levels of symbolic links$"),
        ):
            with pytest.raises(UnreadablePhotoError, match=reason):
                read_bytes(tmp_path / name)

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read anything")
    def test_what_may_not_be_read_is_refused(self, tmp_path):
        path = tmp_path / "secret.jpg"
        path.write_bytes(samples()["jpeg"])
        path.chmod(0)
        with pytest.raises(UnreadablePhotoError, match=r"^Permission denied$"):
            read_bytes(path)

    def test_files_too_large_for_a_photo_are_not_read(self, tmp_path):
        path = tmp_path / "sparse.jpg"
        with path.open("wb") as file:
            file.truncate(1 << 40)
        limit = 8 * MAX_PIXELS + (64 << 20)
        reason = f"^it has {1 << 40} bytes, more than the limit of {limit} for a photo$"
        with pytest.raises(UnreadablePhotoError, match=reason):
            read_bytes(path)
        with path.open("wb") as file:
            file.write(bytes(1001))
        assert len(read_bytes(path, max_bytes=1001)) == 1001
        with pytest.raises(UnreadablePhotoError, match=r"more than the limit of 1000 for a photo$"):
            read_bytes(path, max_bytes=1000)

    def test_the_largest_photo_that_may_be_decoded_may_be_read(self, tmp_path):
        rows = np.random.default_rng(1).integers(0, 256, (40, 1 + 50 * 8), np.uint8)
        rows[:, 0] = 0
        data = png(50, 40, colour=6, depth=16, pixels=zlib.compress(rows.tobytes(), 0))
        assert 8 * 50 * 40 < len(data) <= max_bytes(50 * 40)
        (tmp_path / "deep.png").write_bytes(data)
        assert read_photo(tmp_path / "deep.png", max_pixels=50 * 40).shape == (40, 50, 3)

    def test_a_file_that_grows_while_it_is_read_is_refused(self, tmp_path, monkeypatch):
        path = tmp_path / "upload.jpg"
        path.write_bytes(b"a photo's first half")
        fstat = os.fstat

        def grow(descriptor):
            found = fstat(descriptor)
            with path.open("ab") as file:
                file.write(b" and its second")
            return found

        monkeypatch.setattr(os, "fstat", grow)
        with pytest.raises(UnreadablePhotoError, match=r"^it grew while it was read"):
            read_bytes(path)

    def test_what_a_file_becomes_before_it_is_opened_is_checked_too(self, tmp_path, monkeypatch):
        path, folder = tmp_path / "photo.jpg", tmp_path / "folder"
        path.write_bytes(b"x")
        folder.mkdir()
        monkeypatch.setattr(os, "fstat", lambda descriptor: os.stat(folder))  # noqa: PTH116
        with pytest.raises(UnreadablePhotoError, match=r"^Is a directory$"):
            read_bytes(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
def test_an_extraction_lists_them_and_goes_on(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (60, 50), "teal").save(photos / "wall.png")
    os.mkfifo(photos / "pipe.jpg")
    (photos / "zero.jpg").symlink_to("/dev/zero")
    with (photos / "sparse.jpg").open("wb") as file:
        file.truncate(1 << 40)
    names = ["scans-1000", "bomb-png-1000-texts-after", "pieces-tiff-same-data", "other-heic"]
    for name in names:
        (photos / f"{name}.jpg").write_bytes(CASES[name].make())
    report = extract([photos], tmp_path / "out", options=ExtractOptions(workers=1))
    assert report.counts["unreadable"] == 6
    assert report.photos == 8
    reasons = dict(report.unreadable)
    assert reasons["other-heic.jpg"].endswith("but a HEIC image")
    assert reasons["pipe.jpg"] == reasons["zero.jpg"]
    assert "bomb-png-1000-texts-after.jpg" not in reasons


class TestDecoders:
    """Which decoder is taken must not show."""

    def test_large_pngs_are_the_same_as_small_ones(self):
        """Those of more than half a megabyte are Pillow's, the others OpenCV's."""
        rng = np.random.default_rng(2)
        rows, columns = 500, 700
        for colour, depth, samples_ in ((2, 8, 3), (0, 8, 1), (2, 16, 3), (0, 16, 1)):
            values = rng.integers(0, 256, (rows, columns, samples_, depth // 8), np.uint8)
            # 16 bits become 8: the first byte of each.
            wanted = np.broadcast_to(values[..., 0], (rows, columns, 3))
            lines = np.concatenate(
                [np.zeros((rows, 1), np.uint8), values.reshape(rows, -1)], axis=1
            )
            for level in (0, 9):
                pixels = zlib.compress(lines.tobytes(), level) + bytes(600_000)
                photo = decode_photo(png(columns, rows, colour=colour, depth=depth, pixels=pixels))
                np.testing.assert_array_equal(photo, wanted)
            few = zlib.compress(lines[:9].tobytes())
            photo = decode_photo(png(columns, 9, colour=colour, depth=depth, pixels=few))
            np.testing.assert_array_equal(photo, wanted[:9])

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_large_pngs_are_turned_too(self, orientation):
        turned = Image.Exif()
        turned[274] = orientation
        small, large = noise(90, 50), noise(900, 500)
        large.paste(small)
        for image in (small, large):
            photo = decode_photo(encode(image, "PNG", exif=turned))
            plain = np.asarray(image)
            across = plain.transpose(1, 0, 2)
            wanted = {
                2: plain[:, ::-1],
                3: plain[::-1, ::-1],
                4: plain[::-1],
                5: across,
                6: across[:, ::-1],
                7: across[::-1, ::-1],
                8: across[::-1],
            }.get(orientation, plain)
            np.testing.assert_array_equal(photo, wanted)

    def test_what_a_gifs_first_picture_leaves_out_is_white(self):
        picture = gif_picture(gif_codes([1] * 6), 3, 2, left=4, top=1)
        photo = decode_photo(gif(9, 5, pictures=[picture]))
        wanted = np.full((5, 9, 3), 255)
        wanted[1:3, 4:7] = 85
        np.testing.assert_array_equal(photo, wanted)

    @pytest.mark.parametrize(
        "masks",
        [
            (0xFF0000, 0xFF00, 0xFF),
            (0xFF000000, 0xFF0000, 0xFF00),
            (0xFF000000, 0xFF00, 0xFF),
            (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
            (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        ],
    )
    def test_the_masks_of_a_bmp_count(self, masks):
        red, green, blue, alpha = 200, 100, 50, 255
        value = sum(
            part * (mask & -mask)
            for part, mask in zip((red, green, blue, alpha), masks, strict=False)
        )
        pixels = struct.pack("<I", value) * 12
        photo = decode_photo(bmp(4, 3, bits=32, compression=3, masks=masks, pixels=pixels))
        np.testing.assert_array_equal(photo, np.full((3, 4, 3), (red, green, blue)))

    @pytest.mark.parametrize("bits", [2, 4])
    def test_tiffs_of_few_greys_are_read(self, bits):
        most = 2**bits - 1
        greys = np.arange(16 * 16).reshape(16, 16) % (most + 1)
        unpacked = (greys[..., None] >> np.arange(bits)[::-1]) & 1
        tags = {277: (3, [1]), 258: (3, [bits]), 262: (3, [1])}
        photo = decode_photo(tiff(pixels=np.packbits(unpacked).tobytes(), tags=tags))
        np.testing.assert_array_equal(photo, np.dstack([greys * 255 // most] * 3))

    def test_an_animated_png_shows_its_still_image(self):
        still = encode(noise(16, 16), "PNG")
        control = chunk(b"acTL", struct.pack(">II", 1, 0))
        frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 16, 16, 0, 0, 1, 10, 0, 0))
        black = chunk(b"fdAT", bytes(3) + b"\1" + zlib.compress(bytes(49 * 16)))
        end = chunk(b"IEND")
        animated = still[:33] + control + still[33 : -len(end)] + frame + black + end
        np.testing.assert_array_equal(decode_photo(animated), noise(16, 16))

    def test_no_limit_of_pillows_holds_or_is_changed(self):
        """It warns from 89 megapixels on and refuses more than 178, in `Image.open`."""
        before = Image.MAX_IMAGE_PIXELS
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for transparent in (b"", chunk(b"tRNS", bytes(2))):
                # Its pixels are missing: nothing large is decoded before that is found.
                bare = png(20_000, 10_000, colour=0, depth=1, before=transparent, pixels=b"x")
                with pytest.raises(UnreadablePhotoError, match=r"^it is truncated, damaged"):
                    decode(bare, max_pixels=200_000_000)
                with pytest.raises(UnreadablePhotoError, match=r"more than the limit of 199999999"):
                    decode(bare, max_pixels=199_999_999)
        assert before == Image.MAX_IMAGE_PIXELS

    def test_the_level_of_opencvs_log_stays(self):
        import cv2

        before = cv2.utils.logging.getLogLevel()
        for data in (samples()["jpeg"], samples()["jpeg"][:900]):
            try:
                decode(data)
            except UnreadablePhotoError:
                assert len(data) == 900
            assert cv2.utils.logging.getLogLevel() == before

    def test_too_little_memory_is_a_reason(self, monkeypatch):
        import cv2

        turned = Image.Exif()
        turned[274] = 6
        no_memory = cv2.error("Failed to allocate")
        no_memory.code, no_memory.err = cv2.Error.StsNoMem, "Failed to allocate"
        for name, error, data in (
            ("imdecode", no_memory, samples()["jpeg"]),
            ("transpose", no_memory, encode(noise(channels=4), "PNG", exif=turned)),
            ("imdecode", MemoryError(), samples()["webp-alpha"]),
        ):

            def fail(*_, error=error):
                raise error

            with monkeypatch.context() as patched:
                patched.setattr(cv2, name, fail)
                with pytest.raises(UnreadablePhotoError, match=r"^there is not enough memory"):
                    decode(data)
            assert decode(data).image.any()


def test_random_bytes_after_any_signature_are_refused():
    rng = random.Random(4)
    starts = {data[:12] for data in samples().values()}
    assert len(starts) >= 6
    for start in starts:
        for length in (0, 20, 2000):
            with pytest.raises(UnreadablePhotoError):
                decode(start + rng.randbytes(length))
