"""The pose model: MediaPipe's two networks as one `.task` bundle that MediaPipe 1.x loads.

MediaPipe 1.x ships no weights. The wheel of release 0.10.21 holds the official networks
(Apache-2.0) as plain data; pip fetches it, whatever the interpreter and system. Two things are
missing for the Tasks API and added here: the input normalisation as metadata inside each network,
and the zip around both. `leave_out_segmentation` makes a copy of a bundle that is faster.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import write_bytes
from .errors import VsamError, explain_os_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WHEEL = "mediapipe==0.10.21"
_FILE_NAME = "pose_landmarker_full-0.10.21.task"
_SEGMENTATION = (1, 256, 256, 1)  # shape of the mask that nobody reads

DETECTOR, LANDMARKER = "pose_detector.tflite", "pose_landmarks_detector.tflite"
"""The names that a bundle gives its two networks."""


@dataclass(frozen=True)
class _Network:
    """One network: where the wheel holds it, what the bundle calls it, how its input is scaled."""

    source: str
    member: str
    sha256: str
    mean: float
    std: float
    shapes: tuple[tuple[int, ...], ...]  # of its input, and of outputs that it must have


# Input pixels 0..255 become (pixel - mean) / std: the detector wants -1..1, the other 0..1.
_NETWORKS = (
    _Network(
        source="mediapipe/modules/pose_detection/pose_detection.tflite",
        member=DETECTOR,
        sha256="9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        mean=127.5,
        std=127.5,
        shapes=((1, 224, 224, 3), (1, 2254, 12), (1, 2254, 1)),
    ),
    _Network(
        source="mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        member=LANDMARKER,
        sha256="e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        mean=0.0,
        std=255.0,
        shapes=((1, 256, 256, 3), (1, 195), (1, 1), (1, 64, 64, 39)),
    ),
)


@dataclass(frozen=True)
class PoseModel:
    """A bundle on disk and the SHA-256 of its bytes, which every shard records."""

    path: Path
    sha256: str


def find_pose_model(path: Path | None = None) -> PoseModel:
    """Find the pose model; get and assemble the default one if it is not cached yet.

    Args:
        path: A `.task` bundle of MediaPipe's PoseLandmarker. The default is the official "full"
            model, kept in the user's cache folder.

    Raises:
        VsamError: If the bundle is missing or damaged, or the default can't be fetched.
    """
    if path is not None:
        if not path.is_file():
            raise VsamError(f"Expected `--pose-model` to be a .task file, but {path} is not there.")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise explain_os_error(error, f"read {path}") from error
        _check_bundle(data, path)
        return PoseModel(path, hashlib.sha256(data).hexdigest())

    found = cached_pose_model()
    if found is not None:
        return found
    # Missing, or damaged by something else than us: we write whole files only. Two processes that
    # come here at once write the same bytes, and the rename makes either result whole.
    cached, data = _cache_folder() / _FILE_NAME, _assemble(_fetch_networks())
    write_bytes(cached, data)
    return PoseModel(cached, hashlib.sha256(data).hexdigest())


def cached_pose_model() -> PoseModel | None:
    """Give the default model if it is in the user's cache folder and whole; never fetch it."""
    cached = _cache_folder() / _FILE_NAME
    try:
        data = cached.read_bytes()
        _check_bundle(data, cached)
    except (OSError, VsamError):
        return None
    return PoseModel(cached, hashlib.sha256(data).hexdigest())


def leave_out_segmentation(model: PoseModel) -> Path:
    """Copy a bundle without the layers of the segmentation mask, which nobody reads.

    They cost MediaPipe a fifth of its time, asked for or not. All other outputs stay the same to
    the bit. The copy is kept in the user's cache folder.

    Returns:
        The copy; the bundle itself if its landmark network has no such mask, or no copy can be
        written.

    Raises:
        VsamError: If the networks are not a pose landmarker's. MediaPipe would load them, and fail
            with the first photo.
    """
    copy = _cache_folder() / f"{model.sha256[:16]}-without-segmentation.task"
    with contextlib.suppress(OSError, VsamError):
        _check_bundle(copy.read_bytes(), copy)
        return copy
    with zipfile.ZipFile(model.path) as bundle:
        networks = {name: bundle.read(name) for name in bundle.namelist()}
    for network in _NETWORKS:
        _check_network(networks[network.member], network, model.path)
    lean = _without_output(networks[LANDMARKER], _SEGMENTATION)
    if lean is None:
        return model.path
    with contextlib.suppress(VsamError):  # it is only faster
        write_bytes(copy, _zip(networks | {LANDMARKER: lean}))
        return copy
    return model.path


def _cache_folder() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("vsam")


def _check_bundle(data: bytes, path: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            missing = {network.member for network in _NETWORKS} - set(bundle.namelist())
            damaged = bundle.testzip()
    except zipfile.BadZipFile as error:
        raise VsamError(
            f"Expected {path} to be a MediaPipe .task bundle, but it is no zip file."
        ) from error
    except Exception as error:  # zipfile and the decompressors raise whatever damage leads them to
        raise VsamError(
            f"Expected {path} to be a MediaPipe .task bundle, but it is damaged ({error})."
        ) from error
    if missing or damaged:
        what = f"it lacks {', '.join(sorted(missing))}" if missing else f"{damaged} is damaged"
        raise VsamError(f"Expected {path} to be a pose landmarker bundle, but {what}.")


def _check_network(data: bytes, network: _Network, path: Path) -> None:
    """Check the shapes of a network's input and outputs."""
    _, tflite_fb = _schemas()
    try:
        graph = tflite_fb.Model.GetRootAs(data, 0).Subgraphs(0)
        shapes = [tuple(graph.Tensors(graph.Inputs(0)).ShapeAsNumpy().tolist())] + [
            tuple(graph.Tensors(graph.Outputs(index)).ShapeAsNumpy().tolist())
            for index in range(graph.OutputsLength())
        ]
    except Exception as error:  # flatbuffers raises whatever damage leads it to
        raise VsamError(
            f"Expected {network.member} in {path} to be a TFLite network, but it is damaged."
        ) from error
    missing = [shape for shape in network.shapes if shape not in shapes]
    if missing:
        raise VsamError(
            f"Expected {network.member} in {path} to have an input or output of shape "
            f"{missing[0]}, but it has {', '.join(map(str, shapes))}. "
            "Give a MediaPipe pose landmarker bundle."
        )


def _fetch_networks() -> list[bytes]:
    """Download the wheel with pip and take both networks out of it, in the order of `_NETWORKS`."""
    with tempfile.TemporaryDirectory(prefix="vsam-pose-model-") as folder:
        # The platform is named because the networks are the same for all of them, and no wheel of
        # this release exists for some.
        command = [
            *(sys.executable, "-m", "pip", "download", _WHEEL, "--dest", folder),
            *("--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"),
            *("--python-version", "3.12", "--platform", "manylinux_2_28_x86_64"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise VsamError(
                f"Could not get the pose model out of {_WHEEL}: pip says "
                f"{said[-1] if said else done.stderr.strip()[-200:] or 'nothing'!r}. Run the "
                "command again with a connection, or give a bundle with --pose-model FILE.task."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            networks = [wheel.read(network.source) for network in _NETWORKS]
    for network, data in zip(_NETWORKS, networks, strict=True):
        found = hashlib.sha256(data).hexdigest()
        if found != network.sha256:
            raise VsamError(
                f"Expected {network.source} in {_WHEEL} to have SHA-256 {network.sha256}, but it "
                f"has {found}. Do not use it; give a bundle with --pose-model FILE.task."
            )
    return networks


def _assemble(networks: list[bytes]) -> bytes:
    return _zip(
        {
            network.member: _with_normalization(data, network)
            for network, data in zip(_NETWORKS, networks, strict=True)
        }
    )


def _zip(members: dict[str, bytes]) -> bytes:
    """Zip networks, stored and aligned to four bytes: MediaPipe maps them where they lie."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for name, data in members.items():
            # A fixed date keeps the bytes, and so the recorded hash, the same on every machine.
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            header = 30 + len(name)  # of a local file header, before the extra field
            padding = -(buffer.tell() + header + 4) % 4
            # Extra field 0xD935: padding for alignment, as Android's zipalign writes it.
            entry.extra = (0xD935).to_bytes(2, "little") + padding.to_bytes(2, "little")
            entry.extra += bytes(padding)
            bundle.writestr(entry, data)
    return buffer.getvalue()


def _with_normalization(data: bytes, network: _Network) -> bytes:
    """Add the input normalisation to a TFLite file, as its metadata format (fbs) defines it.

    MediaPipe's own metadata writer does the same, but fails to import in 1.2.2; its generated
    flatbuffer classes work.
    """
    import flatbuffers
    import numpy as np

    metadata_fb, tflite_fb = _schemas()
    options = metadata_fb.NormalizationOptionsT()
    options.mean, options.std = [network.mean], [network.std]
    unit = metadata_fb.ProcessUnitT()
    unit.optionsType = metadata_fb.ProcessUnitOptions.NormalizationOptions
    unit.options = options
    tensor = metadata_fb.TensorMetadataT()
    tensor.name, tensor.processUnits = "image", [unit]
    subgraph = metadata_fb.SubGraphMetadataT()
    subgraph.inputTensorMetadata = [tensor]
    metadata = metadata_fb.ModelMetadataT()
    metadata.name, metadata.subgraphMetadata = network.member, [subgraph]
    builder = flatbuffers.Builder(0)
    builder.Finish(metadata.Pack(builder), b"M001")

    model = tflite_fb.ModelT.InitFromObj(tflite_fb.Model.GetRootAs(data, 0))
    entry = tflite_fb.MetadataT()
    entry.name = "TFLITE_METADATA"
    entry.buffer = _append_buffer(model, np.frombuffer(bytes(builder.Output()), np.uint8))
    model.metadata = [*(model.metadata or []), entry]
    return _packed(model)


def _without_output(data: bytes, shape: tuple[int, ...]) -> bytes | None:
    """Make the output of this shape a constant, and drop the layers that only it needed.

    MediaPipe insists on an output of its shape, and fetches it, even where no mask is wanted.

    Returns:
        The TFLite file, or None if it has no such output.
    """
    import numpy as np

    _, tflite_fb = _schemas()
    model = tflite_fb.ModelT.InitFromObj(tflite_fb.Model.GetRootAs(data, 0))
    graph = model.subgraphs[0]
    unread = [out for out in graph.outputs if tuple(graph.tensors[out].shape) == shape]
    if len(unread) != 1:
        return None
    zeros = np.zeros(4 * math.prod(shape), np.uint8)
    graph.tensors[unread[0]].buffer = _append_buffer(model, zeros)
    made_by = {out: index for index, op in enumerate(graph.operators) for out in op.outputs}
    waiting = [out for out in graph.outputs if out not in unread]
    needed: set[int] = set()
    while waiting:
        index = made_by.get(waiting.pop())
        if index is not None and index not in needed:
            needed.add(index)
            waiting += list(graph.operators[index].inputs)
    graph.operators = [graph.operators[index] for index in sorted(needed)]
    return _packed(model)


def _append_buffer(model: Any, values: NDArray[np.uint8]) -> int:
    """Add a buffer to a TFLite model; give its index."""
    _, tflite_fb = _schemas()
    buffer = tflite_fb.BufferT()
    buffer.data = values
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 23)  # bytes, about the size of the networks
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _schemas() -> tuple[Any, Any]:
    """Give the flatbuffer classes of TFLite's metadata and of TFLite itself."""
    try:
        import flatbuffers  # noqa: F401
        from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_fb
        from mediapipe.tasks.metadata import schema_py_generated as tflite_fb
    except ImportError as error:
        raise VsamError(
            f"Could not assemble the pose model ({error}). "
            "Install what it needs with: pip install 'vsam[extract]'."
        ) from error
    return metadata_fb, tflite_fb
