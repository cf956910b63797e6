"""`vsam-train`: labelled photos and heatmaps to a run folder."""

from __future__ import annotations

import logging
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vsam_heatmaps.counting import counted

from .common import EXIT_CODES, Version, make_app, run_app

app = make_app(f"Train VSAM on labelled photos and their heatmaps. {EXIT_CODES}")


class Device(StrEnum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Attention(StrEnum):
    """How many maps the model attends with."""

    single = "single"
    regions = "regions"
    none = "none"


class Precision(StrEnum):
    """In what arithmetic the model runs."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Regulariser(StrEnum):
    """How the attention's distance from the pose is measured."""

    auto = "auto"
    l2 = "l2"
    l2_squared = "l2-squared"
    kl = "kl"
    bce = "bce"
    none = "none"


class LambdaDecay(StrEnum):
    """How λ falls after its warm-up."""

    auto = "auto"
    none = "none"
    linear = "linear"
    cosine = "cosine"


# Options are None where they are not given, so that a --config file can give them; the defaults
# live in vsam.config.TrainConfig, and the help texts name them (a test compares the two).
@app.command(no_args_is_help=True)
def train(
    data: Annotated[
        Path | None,
        typer.Option(help="CSV with the columns image, split, category, attributes. Required."),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder that the images are relative to. Required.")
    ] = None,
    heatmaps: Annotated[
        Path | None,
        typer.Option(
            help="Folder of shards from vsam-heatmaps extract. Required unless λ is 0 or the "
            "regulariser none."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. Required.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file of these options; the command line goes before it."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last whole epoch in --out.")
    ] = False,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="vgg16, vgg16_bn, a ResNet or ConvNeXt of torchvision (resnet50, convnext_tiny, "
            "…), or a ViT or CNN of timm (vit_small_patch14_dinov2, …). [default: vgg16]"
        ),
    ] = None,
    attention: Annotated[
        Attention | None,
        typer.Option(
            help="The published map, one map for each of --regions, or none, which needs "
            "--lambda 0. [default: single]"
        ),
    ] = None,
    regions: Annotated[
        str | None,
        typer.Option(
            help="Regions of --attention regions with a comma between: parts of the body or of a "
            "garment, torso, upper, lower, full; none takes head, shoulders, elbows, hands, hips, "
            "knees, feet. [default: none]"
        ),
    ] = None,
    width: Annotated[
        float | None, typer.Option(help="Factor on VGG-16's channels. [default: 1.0]")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of the input in pixels. [default: 224]")
    ] = None,
    batch_norm: Annotated[
        bool | None,
        typer.Option(
            "--batch-norm/--no-batch-norm",
            help="Normalise after each convolution of VGG-16 and the heads. "
            "[default: no-batch-norm]",
        ),
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="In the heads. [default: 0.5]")] = None,
    region: Annotated[
        str | None,
        typer.Option(
            help="Body region that supervises the attention: full, upper, lower, torso, a part, "
            "or by-category; garment or its part for garment landmarks. [default: by-category]"
        ),
    ] = None,
    category_regions: Annotated[
        str | None,
        typer.Option(
            help="CSV with the columns category, region for by-category; goes before DeepFashion's "
            "types, and who is in neither gets full. [default: none]"
        ),
    ] = None,
    pose_weight: Annotated[
        float | None,
        typer.Option("--lambda", help="Weight λ of the pose; 0 trains without. [default: 10.0]"),
    ] = None,
    lambda_warmup: Annotated[
        float | None,
        typer.Option(help="Epochs over which λ rises from 0; may be a fraction. [default: 0.0]"),
    ] = None,
    lambda_decay: Annotated[
        LambdaDecay | None,
        typer.Option(
            help="How λ falls from there to 0 at the end; auto is cosine with region attention, "
            "else none. [default: auto]"
        ),
    ] = None,
    regulariser: Annotated[
        Regulariser | None,
        typer.Option(
            help="Measure between attention and pose: l2 (published), l2-squared, kl, bce of each "
            "pixel, or none, which trains without poses; auto is l2, with regions kl. "
            "[default: auto]"
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Of the soft maximum of a map in l2, l2-squared and kl; less is sharper. "
            "[default: 1.0]"
        ),
    ] = None,
    learn_temperature: Annotated[
        bool | None,
        typer.Option(
            "--learn-temperature/--no-learn-temperature",
            help="Learn the temperature, which starts from --temperature. "
            "[default: no-learn-temperature]",
        ),
    ] = None,
    attribute_weight: Annotated[
        float | None, typer.Option(help="Weight of the attributes' loss. [default: 1.0]")
    ] = None,
    backbone_weights: Annotated[
        str | None,
        typer.Option(
            help="The backbone's weights: a file of torchvision or timm (.pth, .safetensors), of "
            "Keras for VGG-16 (.h5), or imagenet, which downloads torchvision's. [default: none]"
        ),
    ] = None,
    freeze_backbone: Annotated[
        bool | None,
        typer.Option(
            "--freeze-backbone/--no-freeze-backbone",
            help="Train the rest only. [default: no-freeze-backbone]",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Run folder whose weights to start from. [default: none]"),
    ] = None,
    min_crop: Annotated[
        float | None,
        typer.Option(help="Smallest share of a photo that random crops keep. [default: 0.7]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="[default: 20]")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Photos a step and device. [default: 32]")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate of AdamW. [default: 0.0003]")
    ] = None,
    backbone_lr_factor: Annotated[
        float | None,
        typer.Option(
            help="Factor on the backbone's learning rate; try 0.1 for a pretrained one. "
            "[default: 1.0]"
        ),
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="[default: 0.0001]")] = None,
    seed: Annotated[int | None, typer.Option(help="[default: 0]")] = None,
    device: Annotated[Device | None, typer.Option(help="[default: auto]")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="bf16 autocast, or fp16 with a GPU. [default: fp32]")
    ] = None,
    num_workers: Annotated[
        int | None, typer.Option(help="Processes that load photos. [default: up to 4]")
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(help="Photos with more pixels can't be read. [default: 100000000]"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Attributes above this probability are predicted. [default: 0.5]"),
    ] = None,
    fit_threshold: Annotated[
        bool | None,
        typer.Option(
            "--fit-threshold/--no-fit-threshold",
            help="Take the threshold with the best F1 on the validation split. "
            "[default: no-fit-threshold]",
        ),
    ] = None,
    version: Version = False,
) -> None:
    """Train VSAM on labelled photos and their heatmaps, matched by image id.

    Exit codes: 0 done; 1 an error, told in one line; 2 wrong usage; 130 interrupted.
    """
    # torchrun starts this command several times: the first process speaks for all.
    speaks = os.environ.get("RANK", "0") == "0"
    if not speaks:
        logging.getLogger().setLevel(logging.ERROR)

    from vsam.config import resolve_config

    given = {
        "data": data,
        "photos": photos,
        "heatmaps": heatmaps,
        "out": out,
        "backbone": backbone,
        "attention": attention and attention.value,
        "regions": regions,
        "width": width,
        "image_size": image_size,
        "batch_norm": batch_norm,
        "dropout": dropout,
        "region": region,
        "pose_weight": pose_weight,
        "freeze_backbone": freeze_backbone,
        "lambda_warmup": lambda_warmup,
        "lambda_decay": lambda_decay and lambda_decay.value,
        "regulariser": regulariser and regulariser.value,
        "temperature": temperature,
        "learn_temperature": learn_temperature,
        "min_crop": min_crop,
        "attribute_weight": attribute_weight,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "backbone_lr_factor": backbone_lr_factor,
        "weight_decay": weight_decay,
        "seed": seed,
        "device": device and device.value,
        "precision": precision and precision.value,
        "num_workers": num_workers,
        "max_pixels": max_pixels,
        "threshold": threshold,
        "fit_threshold": fit_threshold,
    }
    for name, path in {
        "backbone_weights": backbone_weights,
        "category_regions": category_regions,
        "init": init,
    }.items():
        given[name] = path if path in (None, "none") else Path(path)
    settings = resolve_config(config, given)
    if speaks and settings.heatmaps is not None and not settings.supervised:
        why = "λ is 0" if settings.pose_weight == 0 else "The regulariser is none"
        typer.echo(f"{why}: the heatmaps are not used.", err=True)

    from vsam.training import train as run_train

    report = run_train(settings, resume=resume, progress=True)
    if not speaks:
        return
    typer.echo(f"Best epoch {report.best_epoch}; the model is in {settings.out}.")
    for name, metrics in {"validation": report.validation, "test": report.test}.items():
        if metrics is not None:
            typer.echo(
                f"{name}: category accuracy {metrics.category_accuracy:.3f}, "
                f"top 3 {metrics.category_top3:.3f}, attribute mAP {metrics.attribute_map:.3f} "
                f"(chance {metrics.chance_map:.3f}), {counted(metrics.photos, 'photo')}"
            )


def run() -> None:
    """Run `vsam-train`."""
    run_app(app, "vsam-train")
