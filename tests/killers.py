"""Photos that kill, hang or fail whoever looks at them, for tests of the worker processes."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vsam_heatmaps.poses import PoseEstimator, Poses, no_poses

HARMLESS = (0, 0, 0)
KILLED = (255, 0, 0)
CRASHED = (0, 255, 0)
HANGING = (0, 0, 255)
KILLED_ONCE = (255, 255, 0)
FAILING = (255, 0, 255)
BUG = (0, 255, 255)
TOO_LARGE = (255, 255, 255)
TOO_LARGE_FOR_OPENCV = (255, 255, 254)


class Killer(PoseEstimator):
    name, precision = "killer", "f32"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def estimate(self, image: np.ndarray) -> Poses:
        colour = tuple(int(value) for value in image[0, 0])
        once = self._folder / "killed-once"
        if colour == KILLED or (colour == KILLED_ONCE and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if colour == CRASHED:
            os.kill(os.getpid(), signal.SIGSEGV)
        if colour == HANGING:
            time.sleep(600)
        if colour == FAILING:
            raise RuntimeError("this network can't\nlook at it")
        if colour == TOO_LARGE:
            raise MemoryError
        if colour == TOO_LARGE_FOR_OPENCV:
            raise cv2.error("Failed to allocate 9 bytes")
        if colour == BUG:
            raise ZeroDivisionError("a bug")
        if colour[0] == 77:  # a slow one, of 77 ms
            time.sleep(0.077)
        return no_poses()

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class KillerEngine:
    """Stands for an `Engine`; `dies` is what its networks do when they are loaded."""

    folder: Path
    dies: bool = False

    def estimator(self) -> Killer:
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return Killer(self.folder)


def write_photo(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path
