"""What all commands share: how they end, and where they log."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from vsam_heatmaps import interrupts
from vsam_heatmaps.errors import VsamError, explain_os_error, one_line

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_SOME_UNREADABLE = 3
EXIT_FINDINGS = 4
EXIT_INTERRUPTED = 128 + signal.SIGINT

EXIT_CODES = (
    "Exit codes: 0 done; 1 an error, told in one line; 2 wrong usage; "
    "3 done, but some photos could not be read; 4 checked, and something is wrong; "
    "130 interrupted (Ctrl-C); 143 terminated (SIGTERM); 129 the terminal was closed (SIGHUP)."
)


class _Terminated(BaseException):
    """The system, or the user with `kill`, asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


# Packages that only one stage needs, and the extra that installs them.
_EXTRA_OF = dict.fromkeys(
    (
        *("accelerate", "huggingface_hub", "safetensors", "tensorboard"),
        *("torch", "torchmetrics", "torchvision"),
    ),
    "train",
) | {
    "mediapipe": "extract",
    "flatbuffers": "extract",
    "openvino": "fast",
    "nncf": "export",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "ray": "ray",
    "pyarrow": "arrow",
    "jinja2": "extract",
}
_EXTRA_OF |= dict.fromkeys(
    ("google", "grpc", "grpc_health", "grpc_reflection", "prometheus_client"), "serve"
)
_EXTRA_OF |= dict.fromkeys(("gradio", "fastapi", "uvicorn"), "web")


def make_app(about: str, **options: Any) -> typer.Typer:
    """Make an app with the settings that all commands share."""
    return typer.Typer(
        help=about,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


def run_app(app: typer.Typer, name: str) -> None:
    """Run a command and end the process with its exit code.

    What the user can mend becomes one line on stderr; a bug keeps its traceback.
    """
    # Threads of torch that wait must sleep, not spin: beside a second busy process (a loader, a
    # browser) spinning made a training step several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _open_closed_streams()
    _end_in_order()
    _keep_interrupts()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("absl", "urllib3", "httpx", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Large photos are refused by --max-pixels, with a line of ours; Pillow need not warn before.
    warnings.filterwarnings("ignore", message=".*decompression bomb.*")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A name that the terminal's encoding does not know must not end what is done.
        sys.stdout.reconfigure(errors="backslashreplace")
    code = _refuse_empty(sys.argv[1:]) or _run(app, name)
    try:
        sys.stdout.flush()
    except OSError as error:
        # Without a word if the reader of our output is gone: `… | head`.
        code = code or (0 if isinstance(error, BrokenPipeError) else _fail_to_write(error))
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _open_closed_streams() -> None:
    """Let nobody read what goes to streams that the caller has closed, as some daemons do.

    Python has None in their place. And the next file that is opened would have their number, so
    that what a library says about a damaged photo would be written into a result.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", errors="replace"))


def _end_in_order() -> None:
    """Make SIGTERM and SIGHUP end the command as Ctrl-C does: what is finished is kept.

    Each is noted, so that work can tell that it was lost.
    """

    def terminate(number: int, frame: object) -> None:
        raise interrupts.noted(_Terminated(number))

    def interrupt(number: int, frame: object) -> None:
        raise interrupts.noted(KeyboardInterrupt())

    for number in interrupts.signals_to_end():
        before = signal.getsignal(number)
        if before is signal.default_int_handler:
            signal.signal(number, interrupt)
        elif before is signal.SIG_DFL:
            signal.signal(number, terminate)


def _keep_interrupts() -> None:
    """Make Ctrl-C, and what `_end_in_order` does, end the command where Python would drop it.

    What is raised in a finalizer or in a weak reference's callback is printed and forgotten. torch
    runs many of them while it trains, and a Ctrl-C was seen to be lost in one. Where it is not even
    printed, `interrupts.raise_lost` ends a training at its next step. So it does with other
    interrupts that were noted, as that of a page that loads: they are not printed.
    """
    otherwise, main = sys.unraisablehook, threading.get_ident()

    def interrupt_again(unraisable: Any) -> None:
        raised = unraisable.exc_value
        if isinstance(raised, KeyboardInterrupt | _Terminated):
            number = raised.number if isinstance(raised, _Terminated) else signal.SIGINT
            # Later and from another thread: raised here it would be dropped once more.
            threading.Timer(0.05, signal.pthread_kill, (main, number)).start()
        elif not interrupts.is_noted(raised):
            otherwise(unraisable)

    sys.unraisablehook = interrupt_again


def _refuse_empty(words: Sequence[str]) -> int:
    """Refuse empty arguments, which as paths would be the current folder; 0 if there is none."""
    for before, word in pairwise(("", *words)):
        if not word or (word.startswith("--") and word.endswith("=")):
            where = f"`{word}`" if word else f"the one after `{before}`" if before else "the first"
            return _fail(
                f"error: Expected no argument to be empty, but {where} is. "
                "Is a variable of the shell not set?",
                EXIT_USAGE,
            )
    return 0


def _run(app: typer.Typer, name: str) -> int:
    try:
        app(prog_name=name)
    except VsamError as error:
        return _fail(f"error: {error}", EXIT_ERROR)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_OF:
            raise
        remedy = f"pip install 'vsam[{_EXTRA_OF[package]}]'"
        return _fail(f"error: This needs {package}. Install it with: {remedy}.", EXIT_ERROR)
    except BrokenPipeError:
        return EXIT_ERROR
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail_to_write(error)
        if error.filename is None:
            raise
        # Not even whether it exists can be asked where a folder is closed or a name too long.
        told = explain_os_error(error, f"use {os.fsdecode(error.filename)}")
        return _fail(f"error: {told}", EXIT_ERROR)
    except KeyboardInterrupt:
        return _interrupted()
    except _Terminated as ended:
        return _fail("Terminated; what was finished is kept.", 128 + ended.number)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        # Typer turns Ctrl-C into this exit code without a word.
        return _interrupted() if code == EXIT_INTERRUPTED else code
    return 0


def _interrupted() -> int:
    return _fail("Interrupted; what was finished is kept.", EXIT_INTERRUPTED)


def _fail(message: str, code: int) -> int:
    print(one_line(message), file=sys.stderr)
    return code


def _fail_to_write(error: OSError) -> int:
    return _fail(f"error: {explain_os_error(error, 'write')}", EXIT_ERROR)


def print_version(asked: bool) -> None:
    """Print the version and end, if asked."""
    if asked:
        from vsam_heatmaps import __version__

        typer.echo(f"vsam {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
]
"""The option that every command has."""


Root = Annotated[
    Path | None, typer.Option(help="Folder that ids are relative to. Default: the one given.")
]
ImageColumn = Annotated[
    str | None, typer.Option(help="Column of Parquet files that holds the photos.")
]
"""Options of commands that tag photos; see `heatmaps.options` for those that look at them again."""


def tell_unreadable(
    unreadable: list[tuple[str, str]],
    what: str = "unreadable",
    *,
    shown: int = 10,
    all_are_in: str = "",
    count: int | None = None,
) -> None:
    """List unreadable photos with their reasons on stderr, the first few of many.

    Args:
        unreadable: Ids and reasons.
        what: What they are.
        shown: How many are listed.
        all_are_in: Where all of them can be seen, if more are not listed.
        count: How many there are, if only the first ones are given.
    """
    log = logging.getLogger("vsam")
    for id_, reason in unreadable[:shown]:
        log.warning("%s: %r: %s", what, id_, one_line(reason))
    more = (len(unreadable) if count is None else count) - min(shown, len(unreadable))
    if more:
        where = f": {all_are_in}" if all_are_in else ""
        log.warning("… and %d more%s.", more, where)
