"""`vsam tag`: photos to tags, by a server that `vsam serve` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vsam_heatmaps.errors import UnreadablePhotoError, VsamError

from .common import EXIT_SOME_UNREADABLE, ImageColumn, Root, tell_unreadable


def tag(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTOS…",
            help="Folders (with sub-folders), photos, .tar and .parquet files, .txt lists.",
        ),
    ],
    server: Annotated[str, typer.Option(help="Its host and port.")] = "localhost:8061",
    all_scores: Annotated[
        bool, typer.Option("--all-scores", help="List every category and attribute.")
    ] = False,
    root: Root = None,
    image_column: ImageColumn = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File whose first line is a token of the server.")
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Use TLS, with the usual authorities.")
    ] = False,
    tls_ca: Annotated[
        Path | None, typer.Option(help="PEM file of who signed the server's certificate; uses TLS.")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM file of a certificate for the server.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds for each photo.")] = 60.0,
) -> None:
    """Tag photos with a server, and print what vsam-predict writes: one JSON object a line.

    Attributes come without their region, for which the service's messages have no field.
    """
    from vsam.prediction_files import jsonl_writer, opened_output
    from vsam.serving.client import TagClient, TagError
    from vsam.serving.tokens import read_tokens
    from vsam_heatmaps.images import MAX_BYTES
    from vsam_heatmaps.photos import list_photos

    token = read_tokens(token_file)[0] if token_file else None
    listed = list_photos(photos, root=root, image_column=image_column)
    unreadable: list[tuple[str, str]] = []
    with (
        TagClient(
            server,
            token=token,
            tls=tls,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            timeout=timeout,
        ) as client,
        opened_output("-") as file,
    ):
        write = jsonl_writer(file)

        def refuse(id_: str, reason: str) -> None:
            unreadable.append((id_, reason))
            write(id_, None, reason)

        for photo in listed.reading_order:
            try:
                tags = client.predict(
                    photo.read(max_bytes=MAX_BYTES),
                    all_categories=True,
                    all_attributes=all_scores,
                )
            except UnreadablePhotoError as error:
                refuse(photo.id, str(error))
            except TagError as error:
                if error.refusal is None:
                    raise VsamError(f"Could not tag {photo.id!r}. {error}") from error
                refuse(photo.id, error.refusal)
            else:
                write(photo.id, tags.describe(all_scores=all_scores), "")
            file.flush()
    tell_unreadable(unreadable)
    if unreadable:
        raise typer.Exit(EXIT_SOME_UNREADABLE)
