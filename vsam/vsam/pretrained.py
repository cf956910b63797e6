"""A run as a model of the Hugging Face hub: saved, pushed, loaded. It stays a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import nn

from vsam_heatmaps.atomic import write_text

from . import run_folder
from .hub import find_run
from .model_card import CARD, describe_model, without_folders
from .modeling.model import VsamOutput


class VsamModel(nn.Module, PyTorchModelHubMixin):
    """A run's model with all that belongs to it, for the hub.

    What it saves and pushes is a run folder with a model card: `Predictor.from_pretrained` reads
    it, and so does every command. The mixin's own format is never written, nor its pickles read.

    Args:
        run: A run folder; see `load_checkpoint`.

    Raises:
        VsamError: If it is missing or damaged.
    """

    def __init__(self, run: str | Path) -> None:
        super().__init__()
        self.checkpoint = run_folder.load_checkpoint(Path(run))
        self.model = self.checkpoint.model
        self.record = run_folder.read_record(Path(run))
        self.eval()

    def forward(self, images: torch.Tensor) -> VsamOutput:
        """Tag a batch; see `VSAM.forward`."""
        return self.model(images)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, model: str | Path, *, revision: str | None = None
    ) -> VsamModel:
        """Load a run folder, or a model of the hub; see `find_run`."""
        return cls(find_run(model, revision=revision))

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        license: str | None = None,
        model_card_kwargs: dict[str, Any] | None = None,
        config: None = None,
    ) -> None:
        """Save it as a run folder with a model card, which appears whole or not at all.

        Args:
            save_directory: The folder; it must not exist, or be empty.
            license: The model's licence as the hub names it, such as `apache-2.0`.
            model_card_kwargs: For `generate_model_card`.
            config: Always None; the mixin's `push_to_hub` names it.

        Raises:
            VsamError: If the folder is there already, or can't be written.
        """
        card = {"license": license} | (model_card_kwargs or {})
        with run_folder.new_run(Path(save_directory)) as folder:
            self._save_pretrained(folder)
            write_text(folder / CARD, str(self.generate_model_card(**card)))

    def push_to_hub(self, repo_id: str, *, license: str | None = None, **options: Any) -> str:
        """Push it to the hub.

        Args:
            repo_id: `user/name`; it is made if it isn't there.
            license: See `save_pretrained`.
            options: See the mixin: `private`, `branch`, `create_pr`, `commit_message`, `token`, ….

        Returns:
            The commit's address.
        """
        card = {"license": license, "name": repo_id} | (
            options.pop("model_card_kwargs", None) or {}
        )
        return super().push_to_hub(repo_id, model_card_kwargs=card, **options)

    def generate_model_card(self, *args: Any, **facts: Any) -> ModelCard:
        """Write the model card; see `describe_model` for `license` and `name`."""
        return ModelCard(describe_model(self.checkpoint, self.record, **facts))

    def _save_pretrained(self, save_directory: Path) -> None:
        found = self.checkpoint
        run_folder.save_tensors(
            save_directory / run_folder.WEIGHTS, self.model.state_dict(), self.record.metadata
        )
        run_folder.save_description(
            save_directory,
            config=found.config,
            preprocessing=found.preprocessing,
            labels=found.labels,
            threshold=found.threshold,
            training=without_folders(found.training),
            calibration=found.calibration,
        )
        if self.record.metrics:
            write_text(save_directory / run_folder.METRICS, self.record.metrics)
