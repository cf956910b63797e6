"""`vsam-heatmaps verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vsam_heatmaps.counting import counted

from ..common import EXIT_FINDINGS
from .options import ImageColumn, Root

if TYPE_CHECKING:
    from vsam_heatmaps.verification import VerifyReport

_SHOWN = 50


def verify(
    shards: Annotated[Path, typer.Argument(help="Folder of shards.")],
    photos: Annotated[
        list[Path] | None,
        typer.Option(help="What was extracted: a folder or a photo. May be given several times."),
    ] = None,
    root: Root = None,
    image_column: ImageColumn = None,
    all_findings: Annotated[
        bool, typer.Option("--all", help=f"Print all findings, not the first {_SHOWN}.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all findings.")] = False,
) -> None:
    """Read shards from end to end and tell all that is wrong; with --photos, whether they fit."""
    from dataclasses import asdict

    from vsam_heatmaps.photos import list_photos
    from vsam_heatmaps.verification import verify as run_verify

    report = run_verify(
        shards,
        list_photos(photos, root=root, image_column=image_column) if photos else None,
        limit=None if all_findings or as_json else _SHOWN,
        progress=True,
    )
    if as_json:
        typer.echo(json.dumps({"whole": not report.found, **asdict(report)}, indent=2))
    else:
        _print(report)
    if report.found:
        raise typer.Exit(EXIT_FINDINGS)


def _print(report: VerifyReport) -> None:
    for finding in report.findings:
        typer.echo(str(finding))
    if report.found > len(report.findings):
        typer.echo(f"… and {report.found - len(report.findings)} more, which --all shows.")
    for name in report.stale:
        typer.echo(f"{name} is no finding: a killed extraction left it, and the next removes it.")
    told = f"{counted(report.shards, 'shard')}, {counted(report.records, 'record')}"
    told += f", {counted(report.photos, 'photo')}" if report.photos else ""
    result = counted(report.found, "finding") if report.found else "whole"
    typer.echo(
        f"{told}: {result}. Maps rendered again: {report.rendered}; "
        f"records that later ones supersede: {report.superseded}."
    )
