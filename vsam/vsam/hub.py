"""Find a model: a run folder on this machine, or else one that lies on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from vsam_heatmaps.errors import VsamError

from .run_folder import CONFIG, LABELS, WEIGHTS, read_description

_DOWNLOADED = (CONFIG, LABELS, WEIGHTS)

# `user/name`, as the hub allows it: what else could be meant by it is a path.
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def find_run(model: str | Path, *, revision: str | None = None) -> Path:
    """Find a run folder; a model of the hub is downloaded into the hub's cache first.

    Of the hub's files only the three of a run are asked for, and none of them is a pickle or code.
    The description is read before the weights are downloaded. Without a connection, what was
    downloaded before is used.

    Args:
        model: A run folder, or else the hub's `user/name`. What is there as a path always wins.
        revision: Branch, tag or commit on the hub; by default the newest.

    Returns:
        The folder.

    Raises:
        VsamError: If there is no such folder and no such model, or it can't be downloaded.
    """
    folder, name = Path(model), str(model)
    if folder.exists():
        if revision is not None:
            raise VsamError(
                f"Expected `revision` to be left out, because {folder} is a folder on this "
                "machine: only models of the hub have revisions."
            )
        return folder
    if not _HUB_ID.fullmatch(name):
        raise VsamError(
            f"Expected the model {name} to be a run folder, but it is not there. Name a folder of "
            "vsam-train, or a model of the Hugging Face hub as user/name."
        )
    found = _download(name, revision, [CONFIG, LABELS])
    missing = [file for file in (CONFIG, LABELS) if not (found / file).is_file()]
    if missing:
        raise VsamError(
            f"Expected the hub's {name} to be a run of vsam, but it has no {missing[0]}. Name "
            "another model."
        )
    read_description(found)  # half a gigabyte can wait until it is known to be of use
    return _download(name, revision, list(_DOWNLOADED))


def _download(name: str, revision: str | None, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    nowhere = f"Expected the model {name} to be a run folder or a model of the hub, but"
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except GatedRepoError as error:
        raise VsamError(
            f"The hub's {name} is gated. Ask for access on its page, then log in with: hf auth "
            "login."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise VsamError(
            f"{nowhere} there is no such folder, and the hub has none of this name that you may "
            "see. Check the name; for a private one log in with: hf auth login."
        ) from error
    except RevisionNotFoundError as error:
        raise VsamError(
            f"Expected `revision` to be a branch, tag or commit of the hub's {name}, but got "
            f"{revision!r}."
        ) from error
    except LocalEntryNotFoundError as error:
        raise VsamError(
            f"{nowhere} there is no such folder, and the hub can't be reached. Check the name and "
            "the connection; what was downloaded once is found without one."
        ) from error
    except Exception as error:  # the HTTP library behind it differs from version to version
        said = " ".join(str(error).split())
        raise VsamError(
            f"Could not download {name} from the hub: {said or type(error).__name__}. Try again."
        ) from error
