"""`vsam-heatmaps extract`."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vsam_heatmaps.counting import counted

from ..common import EXIT_SOME_UNREADABLE, ImageColumn, tell_unreadable


class Channels(StrEnum):
    """What the channels of a map are."""

    parts = "parts"
    joints = "joints"


class PoseEngine(StrEnum):
    """What runs the pose networks."""

    auto = "auto"
    mediapipe = "mediapipe"
    openvino = "openvino"


class PosePrecision(StrEnum):
    """Arithmetic of the networks."""

    auto = "auto"
    f32 = "f32"
    mixed = "mixed"
    bf16 = "bf16"


class Switch(StrEnum):
    """An option that depends on others unless it is said."""

    auto = "auto"
    on = "on"
    off = "off"


class People(StrEnum):
    """Whom the maps show."""

    main = "main"
    all = "all"


class RunEngine(StrEnum):
    """Where the work is done."""

    local = "local"
    ray = "ray"


class OnError(StrEnum):
    """What to do with a photo that can't be read."""

    skip = "skip"
    stop = "stop"


def extract(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTOS…",
            help="Folders (with sub-folders), photos, .tar and .parquet files, lists (.txt).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder that ids are relative to. Default: each folder given; for a file, its own."
        ),
    ] = None,
    image_column: ImageColumn = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes. Default: one for each core.")
    ] = None,
    side: Annotated[int, typer.Option(help="Height and width of a map in pixels.")] = 56,
    sigma: Annotated[
        float, typer.Option(help="Width of a joint's Gaussian as a share of the side.")
    ] = 0.05,
    channels: Annotated[
        Channels, typer.Option(help="One map for each of seven body parts, or for each joint.")
    ] = Channels.parts,
    min_visibility: Annotated[
        float, typer.Option(help="Joints that are less visible (0 to 1) are left out.")
    ] = 0.5,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            help="Least confidence (0 to 1) at which a person counts as found. Default: 0.5, with "
            "--keypoints 0."
        ),
    ] = None,
    keypoints: Annotated[
        Path | None,
        typer.Option(
            help="Take poses from this file (COCO, COCO-WholeBody or DeepFashion landmarks) or "
            "folder (OpenPose) instead of finding them."
        ),
    ] = None,
    pose_model: Annotated[
        Path | None,
        typer.Option(help="A MediaPipe pose landmarker bundle (.task). Default: the official one."),
    ] = None,
    pose_engine: Annotated[
        PoseEngine,
        typer.Option(help="Runtime of the networks. auto: OpenVINO if installed (vsam[fast])."),
    ] = PoseEngine.auto,
    precision: Annotated[
        PosePrecision,
        typer.Option(
            help="mixed: the landmark network in bf16; bf16: the detector, too. auto: mixed where "
            "engine and processor can, else f32."
        ),
    ] = PosePrecision.auto,
    crops: Annotated[
        Switch,
        typer.Option(
            help="Find people of whom only a part shows, too. auto: if the engine is OpenVINO; "
            "off: plain MediaPipe."
        ),
    ] = Switch.auto,
    people: Annotated[
        People, typer.Option(help="Draw the main person (by size and centrality), or all.")
    ] = People.main,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Photos with more pixels count as unreadable.")
    ] = 100_000_000,
    max_seconds: Annotated[
        float,
        typer.Option(help="A photo that takes longer, twice, counts as unreadable."),
    ] = 60.0,
    shard_size: Annotated[int, typer.Option(min=1, help="Photos in one shard.")] = 512,
    on_error: Annotated[
        OnError, typer.Option(help="Record an unreadable photo and go on, or stop at the first.")
    ] = OnError.skip,
    retry_unreadable: Annotated[
        bool,
        typer.Option("--retry-unreadable", help="Try again what could not be read before."),
    ] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="At the end remove records of photos that were not given."),
    ] = False,
    engine: Annotated[
        RunEngine,
        typer.Option(help="ray: on the Ray cluster of RAY_ADDRESS, or one started here."),
    ] = RunEngine.local,
) -> None:
    """Find the pose in each photo and write heatmaps into shards; again, only for what is new."""
    from vsam_heatmaps.extraction import ExtractOptions
    from vsam_heatmaps.extraction import extract as run_extract
    from vsam_heatmaps.rendering import RenderOptions

    options = ExtractOptions(
        render=RenderOptions(side, sigma, channels.value, min_visibility),
        keypoints=keypoints,
        pose_model=pose_model,
        pose_engine=pose_engine.value,
        precision=precision.value,
        crops={Switch.auto: None, Switch.on: True, Switch.off: False}[crops],
        people=people.value,
        min_confidence=min_confidence,
        max_pixels=max_pixels,
        max_seconds=max_seconds,
        shard_size=shard_size,
        workers=workers,
        stop_on_error=on_error is OnError.stop,
        retry_unreadable=retry_unreadable,
        prune=prune,
        engine=engine.value,
    )
    report = run_extract(
        photos, out, root=root, image_column=image_column, options=options, progress=True
    )
    all_of_them = f"vsam-heatmaps list {shlex.quote(str(out))} --status unreadable"
    tell_unreadable(report.unreadable, all_are_in=all_of_them)
    counts = ", ".join(f"{count} {name}" for name, count in report.counts.items())
    unchanged = counted(report.unchanged, "was there already", "were there already")
    typer.echo(f"{counted(report.photos, 'photo')}: {counts}; {unchanged}.")
    if report.renamed:
        renamed = counted(
            report.renamed,
            "has the contents of a photo that is gone: its record is kept.",
            "have the contents of photos that are gone: records kept.",
        )
        typer.echo(renamed)
    if report.pruned:
        gone = counted(
            report.gone,
            "record of a photo that was not given was removed",
            "records of photos that were not given were removed",
        )
        typer.echo(f"{gone} from {out}.")
    elif report.gone:
        gone = counted(
            report.gone,
            f"record in {out} belongs to a photo that was not given (--prune removes it).",
            f"records in {out} belong to photos that were not given (--prune removes them).",
        )
        typer.echo(gone)
    if report.unreadable:
        raise typer.Exit(EXIT_SOME_UNREADABLE)
