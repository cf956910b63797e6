"""The pipeline's rounds in this process."""

import logging
import shutil
import threading
from collections.abc import Iterator

import pytest

from vsam.serving.model import PredictorModel
from vsam.serving.photo_rounds import Given, PhotoRounds
from vsam.serving.pictures import Pictures
from vsam.serving.pipeline import run_pipeline


def test_rounds_without_a_photo_that_can_be_read_are_told_once_and_pause(
    tiny_run, tiny_data, tmp_path, caplog
):
    good = tiny_data / "photos" / "tee" / "00.png"
    (folder := tmp_path / "photos").mkdir()
    shutil.copy(good, photo := folder / "a.png")
    stop, begun, waited = threading.Event(), 0, list[float]()

    class Rounds(PhotoRounds):
        def one(self) -> Iterator[Given]:
            nonlocal begun
            begun += 1
            if begun in (2, 6):
                photo.write_bytes(b"no photo")
            if begun == 5:
                shutil.copy(good, photo)
            if begun == 8:
                stop.set()
            return super().one()

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return stop.is_set()

    stop.wait = wait
    pictures = Pictures(10)
    model = PredictorModel.load(
        tiny_run, device="cpu", precision="fp32", max_pixels=10**8, max_batch=2
    )
    with caplog.at_level(logging.INFO, "vsam.serving"):
        run_pipeline(
            Rounds(folder, max_bytes=10**7, max_pixels=10**8),
            model,
            pictures,
            stop,
            max_batch=2,
            repeat=True,
        )
    assert len(pictures.newest_first()) == 2
    assert waited == pytest.approx([0, 1, 1, 1, 0, 1, 1, 1])
    assert caplog.text.count("event=empty") == 2
