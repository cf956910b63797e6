"""Measure VSAM's own speed and memory: training step, folder prediction, exported networks.

Weights are drawn, so nothing needs to be trained first. Sides of a ratio run by turns, each in a
process of its own that was warmed up and sleeps while the other works; the ratio is made in each
turn, and medians are given.

    python benchmarks/model.py step [--batch-size 8] [--turns 7]
        a training step (forward, loss, backward, clipping, optimizer) of VSAM, with a single map
        and with seven regions, against that of plain VGG-16 with the published heads, at 224
        pixels; and the peak memory of all
    python benchmarks/model.py folder PHOTOS [--photos 256] [--turns 5]
        `vsam-predict` on a folder against the model alone on tensors in memory, published size and
        a quarter of its width at 112 pixels
    python benchmarks/model.py runtimes PHOTOS [--tensorflow PYTHON] [--turns 7]
        photos a second of the published model: in TensorFlow (an interpreter that has tensorflow
        and tf_keras), torch, and each export

`--threads` is 2 by default, and both sides have as many.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

_WORKER = Path(__file__).with_name("model_worker.py")
_TENSORFLOW_WORKER = Path(__file__).with_name("model_tensorflow.py")

STEPS = {
    "fp32, channels last": [],
    "fp32, contiguous": ["--contiguous"],
    "bf16 autocast": ["--precision", "bf16"],
    "torch.compile": ["--compile"],
}


class Worker:
    """A process that loads something, warms up, and then measures it whenever it is asked.

    Args:
        command: Its command line. It prints one JSON line when it is ready, and one for each line
            on its standard input.
        threads: That it may use.
    """

    def __init__(self, command: list[str], threads: int) -> None:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",  # as the commands set it: who waits must not spin
        }
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ready = self._answer()

    def measure(self) -> dict[str, float]:
        """Have it measure once."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Let it end."""
        self._process.communicate()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"A worker ended with {self._process.wait()}.")
        return json.loads(line)


def by_turns(
    sides: dict[str, list[str]], turns: int, threads: int
) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """Measure all sides by turns.

    Returns:
        Seconds of each turn, and what each side said at last.
    """
    workers = {name: Worker(command, threads) for name, command in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    last: dict[str, dict[str, float]] = {}
    for _ in range(turns):
        for name, worker in workers.items():
            last[name] = worker.measure()
            seconds[name].append(last[name]["seconds"])
    for worker in workers.values():
        worker.end()
    return seconds, last


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Give the least, the median and the largest of the turns' ratios."""
    values = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return [round(value, 3) for value in (values[0], median(values), values[-1])]


def measure_steps(arguments: argparse.Namespace) -> dict[str, object]:
    """Compare training steps, in each way of computing."""
    report: dict[str, object] = {}
    for way in arguments.ways:
        sides = {
            attention: [
                *(sys.executable, str(_WORKER), "step", "--attention", attention),
                *("--batch-size", str(arguments.batch_size), *STEPS[way]),
            ]
            for attention in ("none", "single", "regions")
        }
        seconds, last = by_turns(sides, arguments.turns, arguments.threads)
        memory = {name: facts["peak_mb"] for name, facts in last.items()}
        own = {name: facts["peak_mb"] - facts["before_mb"] for name, facts in last.items()}
        report[way] = {
            "seconds a photo, plain VGG-16": median(seconds["none"]) / arguments.batch_size,
            "seconds a photo, VSAM": median(seconds["single"]) / arguments.batch_size,
            "VSAM / VGG-16, step": ratios(seconds["single"], seconds["none"]),
            "VSAM / VGG-16, peak memory of the process": memory["single"] / memory["none"],
            "VSAM / VGG-16, what the training adds": own["single"] / own["none"],
            "regions / VGG-16, step": ratios(seconds["regions"], seconds["none"]),
            "regions / VGG-16, peak memory of the process": memory["regions"] / memory["none"],
        }
        print(way, json.dumps(report[way]), file=sys.stderr, flush=True)
    return report


def measure_folders(arguments: argparse.Namespace) -> dict[str, object]:
    """Compare `vsam-predict` with the model alone."""
    report: dict[str, object] = {}
    for name, options in {
        "224 px, width 1": ["--size", "224", "--width", "1"],
        "112 px, width 0.25": ["--size", "112", "--width", "0.25", "--batch-norm"],
    }.items():
        photos = arguments.photos * (1 if name.startswith("224") else 8)
        common = [*options, "--photos", str(photos), "--folder", str(arguments.folder)]
        sides = {
            side: [sys.executable, str(_WORKER), side, *common] for side in ("alone", "folder")
        }
        seconds, _ = by_turns(sides, arguments.turns, arguments.threads)
        report[name] = {
            "photos/s, model alone": photos / median(seconds["alone"]),
            "photos/s, vsam-predict": photos / median(seconds["folder"]),
            "vsam-predict / model alone": ratios(seconds["alone"], seconds["folder"]),
        }
        print(name, json.dumps(report[name]), file=sys.stderr, flush=True)
    return report


def measure_runtimes(arguments: argparse.Namespace) -> dict[str, object]:
    """Compare the published model in TensorFlow with torch and the exports."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        subprocess.run(
            [
                *(sys.executable, str(_WORKER), "make", "--work", folder),
                *("--folder", str(arguments.folder), "--formats", *arguments.formats),
            ],
            check=True,
        )
        sides = {}
        if arguments.tensorflow:
            weights = str(work / "weights.h5")
            command = [str(arguments.tensorflow), str(_TENSORFLOW_WORKER), weights]
            sides["tensorflow"] = [*command, str(arguments.batch_size)]
        for model in arguments.formats:
            path, _, precision = model.partition(":")
            sides[model] = [sys.executable, str(_WORKER), "network", "--run", str(work / path)]
            sides[model] += ["--batch-size", str(arguments.batch_size)]
            sides[model] += ["--precision", precision or "fp32"]
        seconds, _ = by_turns(sides, arguments.turns, arguments.threads)
    first = next(iter(seconds))
    return {
        name: {
            "photos/s": arguments.batch_size / median(values),
            f"times as fast as {first}": ratios(seconds[first], values),
        }
        for name, values in seconds.items()
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    kinds = parser.add_subparsers(required=True)
    step = kinds.add_parser("step")
    step.add_argument("--batch-size", type=int, default=8)
    step.add_argument("--turns", type=int, default=7)
    step.add_argument("--ways", nargs="+", choices=STEPS, default=list(STEPS))
    step.set_defaults(measure=measure_steps)
    folder = kinds.add_parser("folder")
    folder.add_argument("folder", type=Path)
    folder.add_argument("--photos", type=int, default=256)
    folder.add_argument("--turns", type=int, default=5)
    folder.set_defaults(measure=measure_folders)
    runtimes = kinds.add_parser("runtimes")
    runtimes.add_argument("folder", type=Path)
    runtimes.add_argument("--tensorflow", type=Path, help="Interpreter that has TensorFlow.")
    runtimes.add_argument("--batch-size", type=int, default=16)
    runtimes.add_argument("--turns", type=int, default=7)
    runtimes.add_argument(
        "--formats",
        nargs="+",
        default=["run", "torch-export", "onnx", "openvino", "openvino:bf16", "openvino-int8"],
        help="Folder names of `make`, with `:precision` where it is not fp32.",
    )
    runtimes.set_defaults(measure=measure_runtimes)
    arguments = parser.parse_args()
    print(json.dumps(arguments.measure(arguments), indent=2))


if __name__ == "__main__":
    main()
