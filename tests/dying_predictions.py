"""Folder predictions that die by SIGKILL at a chosen moment, and others that go on after them.

A process of its own, for torch to be imported once: it forks before torch has any threads. Each
child is a real process, and ends where it is killed or when it is done.

    python dying_predictions.py RUN PHOTOS WORK FORMAT
"""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import cv2  # noqa: F401  once, not in each child
import jinja2  # noqa: F401

import vsam.predictor  # noqa: F401
from vsam.folder_prediction import FolderOptions, output, partial, predict_folder, report, run
from vsam.folder_prediction.journal import Journal
from vsam.folder_prediction.pictures import PictureFile
from vsam_heatmaps.photos import list_photos

MODEL, PHOTOS, WORK, FORMAT = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(function: Callable, call: int = 1, *, after: bool = False) -> Callable:
    """Die at the n-th call of a function."""
    calls = 0

    def replaced(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == call and not after:
            die()
        result = function(*arguments, **named)
        if calls == call:
            die()
        return result

    return replaced


def torn(share: float) -> None:
    """Write a part of the third block, and die."""

    def append(self, lines, form, whole=Journal.append):
        if self.lines >= 2 * len(lines):
            start = self._file.seek(0, os.SEEK_END)
            whole(self, lines, form)
            size = self._file.tell() - start
            self._file.truncate(start + int(share * size))
            die()
        return whole(self, lines, form)

    Journal.append = append


def torn_pictures() -> None:
    def append(self, pictures, whole=PictureFile.append):
        whole(self, pictures)
        size = self._path.stat().st_size
        if size > 4000:
            os.truncate(self._path, size - 100)
            die()

    PictureFile.append = append


def patch(module: object, name: str, *arguments: int, after: bool = False) -> Callable[[], None]:
    return lambda: setattr(module, name, dying(getattr(module, name), *arguments, after=after))


MOMENTS = {
    "before the settings": patch(partial, "write_text"),
    "after the settings": patch(partial, "write_text", after=True),
    "before the first block": patch(Journal, "append"),
    "between pictures of the attention and their block": patch(Journal, "append", 3),
    "a torn line": lambda: torn(0.3),
    "a closing line without its end": lambda: torn(0.999),
    "lines without a closing one": lambda: torn(0.9),
    "torn pictures": torn_pictures,
    "between two blocks": patch(Journal, "append", 4, after=True),
    "while a picture of the attention is renamed": patch(os, "fsync", 12),
    "before the output": patch(run, "write_output"),
    "while the output is written": patch(output, "write_line", 7),
    "between output and report": patch(run, "finish_report"),
    "after the report": patch(report, "write_text", after=True),
    "while the journal is removed": patch(partial.shutil, "rmtree"),
}


def predict(folder: Path, resume: bool) -> None:
    options = FolderOptions(
        model=MODEL,
        device="cpu",
        batch_size=4,
        workers=2,
        format=FORMAT,
        attention=folder / "attention",
        report=folder / "report.html",
        report_photos=10,
        resume=resume,
    )
    predict_folder(list_photos([PHOTOS]), folder / f"p.{FORMAT}", options)


def in_child(work: Callable[[], None]) -> int:
    """Do it in a fork; give its exit code, or the number of the signal that ended it, negative."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def main() -> None:
    assert in_child(lambda: predict(WORK / "whole", resume=False)) == 0
    wanted = contents(WORK / "whole")
    found = {"files": sorted(wanted), "moments": {}}
    for number, (name, prepare) in enumerate(MOMENTS.items()):
        folder = WORK / str(number)

        def first(prepare=prepare, folder=folder) -> None:
            prepare()
            predict(folder, resume=False)

        ended = in_child(first)
        early = (folder / f"p.{FORMAT}").exists()
        resumed = in_child(lambda folder=folder: predict(folder, resume=True))
        found["moments"][name] = {
            "ended": ended,
            "early": early,
            "resumed": resumed,
            "same": contents(folder) == wanted,
            "other": sorted(set(contents(folder).items()) ^ set(wanted.items()))[:2],
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
