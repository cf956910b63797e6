"""A run folder of a small model whose scores and maps spread between 0 and 1, untrained."""

from pathlib import Path

import torch
from torch import nn

CATEGORIES = ("coat", "dress", "jeans", "skirt", "tee")
ATTRIBUTES = ("belt", "collar", "dotted", "floral", "long", "short", "striped")
SIDE = 64


def draw_run(folder: Path, *, batch_norm: bool, regions: tuple[str, ...] = ()) -> Path:
    """Write a run with drawn weights: kernels sum to zero, so that photos differ in the outputs.

    With `regions` it has region attention.
    """
    from vsam import run_folder
    from vsam.modeling.build import ModelConfig, build_vsam
    from vsam.run_folder import Labels
    from vsam_datasets.preprocessing import Preprocessing

    config = ModelConfig(
        categories=len(CATEGORIES),
        attributes=len(ATTRIBUTES),
        image_size=SIDE,
        width=0.125,
        batch_norm=batch_norm,
        **({"attention": "regions", "regions": regions} if regions else {}),
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = build_vsam(config)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight -= layer.weight.mean(dim=(1, 2, 3), keepdim=True)
                layer.weight *= (2 / (layer.weight[0].numel() * layer.weight.var())).sqrt()
                layer.bias.uniform_(-0.1, 0.1)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.2, 0.2)
                layer.running_var.uniform_(0.5, 1.5)
                layer.weight.uniform_(0.8, 1.2)
                layer.bias.uniform_(-0.1, 0.1)
            elif isinstance(layer, nn.Linear):
                layer.weight.normal_(0, (18 / layer.in_features) ** 0.5)
                layer.weight -= layer.weight.mean(dim=1, keepdim=True)
                layer.bias.uniform_(-0.1, 0.1)
    with run_folder.new_run(folder) as made:
        run_folder.save_tensors(made / run_folder.WEIGHTS, model.state_dict(), {})
        run_folder.save_description(
            made,
            config=config,
            preprocessing=Preprocessing(image_size=SIDE),
            labels=Labels(CATEGORIES, ATTRIBUTES),
            threshold=0.5,
            training={},
        )
    return folder
