"""No code in a `.pt2` archive is run: attacks that work on torch's own loader are refused."""

import io
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

from vsam.export import torch_format
from vsam.export.folder import Exported
from vsam.export.program import trace
from vsam.export.pt2_check import UnsafeArchiveError, require_harmless
from vsam.modeling.model import VsamOutput
from vsam_heatmaps.errors import VsamError

GRAPH, EXAMPLES = "models/model.json", "data/sample_inputs/model.pt"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"

Members = dict[str, bytes]


class _Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 4, stride=4)
        self.register_buffer("scale", torch.tensor([2.0]), persistent=False)

    def forward(self, images: torch.Tensor) -> VsamOutput:
        x = self.conv(images) * self.scale
        pooled = x.mean(dim=(2, 3))
        none = pooled.new_zeros(pooled.shape[0], 0, 1)
        return VsamOutput(pooled[:, :3], pooled[:, 3:], x[:, :1].sigmoid(), none)


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> Members:
    """Give the members of an archive that is in order. Only read them."""
    folder = tmp_path_factory.mktemp("pt2")
    torch_format.write_program(trace(_Model().eval(), 32), folder)
    reader = PT2ArchiveReader(str(folder / "model.pt2"))
    return {name: reader.read_bytes(name) for name in reader.get_file_names()}


class _Payload:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return subprocess.call, (["sh", "-c", self.command],)


def write(path: Path, members: Members) -> Path:
    made_by_the_writer = {"archive_format", "byteorder", ".data/version", ".data/serialization_id"}
    with PT2ArchiveWriter(str(path)) as writer:
        for name, data in members.items():
            if name not in made_by_the_writer and name != "archive_version":
                writer.write_bytes(name, data)
    return path


def load(path: Path) -> torch_format.TorchExportNetwork:
    outputs = {
        "category_logits": (3,),
        "attribute_logits": (1,),
        "attention": (1, 8, 8),
        "contributions": (0, 1),
    }
    return torch_format.TorchExportNetwork(
        Exported(network=path, format="torch-export", image_size=32, outputs=outputs)
    )


def edited(members: Members, name: str, edit: Callable[[dict], object]) -> Members:
    value = json.loads(members[name])
    edit(value)
    return members | {name: json.dumps(value).encode()}


def first_node(graph: dict) -> dict:
    return graph["graph_module"]["graph"]["nodes"][0]


def first_size(graph: dict) -> dict:
    values = graph["graph_module"]["graph"]["tensor_values"].values()
    return next(size for value in values for size in value["sizes"] if "as_expr" in size)


def saved(command: str) -> bytes:
    buffer = io.BytesIO()
    torch.save((_Payload(command),), buffer)
    return buffer.getvalue()


def pickled_examples(members: Members, command: str) -> Members:
    return members | {EXAMPLES: saved(command)}


def pickled_weights(members: Members, command: str) -> Members:
    def edit(config: dict) -> None:
        next(iter(config["config"].values()))["use_pickle"] = True

    return edited(members, WEIGHTS, edit) | {"data/weights/weight_0": saved(command)}


def legacy_weights(members: Members, command: str) -> Members:
    return members | {"data/weights/model.pt": saved(command)}


def legacy_constants(members: Members, command: str) -> Members:
    return members | {"data/constants/model.pt": saved(command)}


def pickled_constant(members: Members, command: str) -> Members:
    def edit(config: dict) -> None:
        next(iter(config["config"].values()))["use_pickle"] = True

    return edited(members, CONSTANTS, edit) | {"data/constants/tensor_0": saved(command)}


def foreign_object(members: Members, command: str) -> Members:
    def edit(config: dict) -> None:
        entry = dict(next(iter(config["config"].values())))
        config["config"]["more"] = entry | {"path_name": "opaque_obj_0"}

    data = pickle.dumps(_Payload(command))
    data += bytes(-len(data) % 4)  # torch asks first whether it could be numbers of four bytes
    return edited(members, CONSTANTS, edit) | {"data/constants/opaque_obj_0": data}


def size_that_is_code(members: Members, command: str) -> Members:
    def edit(graph: dict) -> None:
        text = f"__import__('os').system({command!r})"
        first_size(graph)["as_expr"]["expr_str"] = text

    return edited(members, GRAPH, edit)


# What torch.export.load runs, by what the file says.
ATTACKS = [
    pickled_examples,
    pickled_weights,
    legacy_weights,
    legacy_constants,
    pickled_constant,
    foreign_object,
    size_that_is_code,
]


_LOAD_ALL = """
import contextlib, sys, torch
for path in sys.argv[1:]:
    with contextlib.suppress(Exception):  # the payload is no tensor, but by then it has run
        torch.export.load(path)
"""


@pytest.fixture(scope="module")
def fallen_for(members, tmp_path_factory) -> set[str]:
    """Name the attacks that run their command when torch alone loads them, in a fresh process."""
    folder = tmp_path_factory.mktemp("attacks")
    paths = [
        write(folder / f"{each.__name__}.pt2", each(members, f"touch {folder / each.__name__}"))
        for each in ATTACKS
    ]
    subprocess.run([sys.executable, "-c", _LOAD_ALL, *paths], timeout=120, capture_output=True)
    return {each.__name__ for each in ATTACKS if (folder / each.__name__).exists()}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_that_torch_falls_for_is_refused(members, fallen_for, attack, tmp_path):
    assert attack.__name__ in fallen_for, "this attack does nothing, so nothing is tested"
    mark = tmp_path / "was-here"
    path = write(tmp_path / "model.pt2", attack(members, f"touch {mark}"))
    with pytest.raises(VsamError, match="it is not loaded, because it might run code") as refused:
        load(path)
    assert "\n" not in str(refused.value)
    assert not mark.exists()


def set_target(name: str) -> Callable[[dict], None]:
    return lambda graph: first_node(graph).update(target=name)


EDITS: dict[str, Callable[[dict], object]] = {
    "os.system": set_target("torch.os.system"),
    "hub": set_target("torch.hub.load"),
    "not an aten operator": set_target("torch.ops.prim.Print.default"),
    "not a core operator": set_target("torch.ops.aten.from_file.default"),
    "no operator": set_target("torch.ops.aten.__class__.mro"),
    "operator": set_target("_operator.attrgetter"),
    "extension": set_target("#higher_order:x"),
    "no text": lambda graph: first_node(graph).update(target=[1]),
    "guards": lambda graph: graph.update(guards_code=["print(1)"]),
    "notes": lambda graph: first_node(graph)["metadata"].update(stack_trace="x"),
    "name": lambda graph: first_node(graph).update(name="a = print(1)\nb"),
    "names": lambda graph: graph.update(verifiers=["ATEN", "a b"]),
    "nested names": lambda graph: graph.update(verifiers=[["ATEN", ["a b"]]]),
    "key": lambda graph: graph["range_constraints"].update({"a b": {}}),
    "object": lambda graph: first_node(graph)["inputs"][0].update(arg={"as_custom_obj": {}}),
    "sub-graph": lambda graph: first_node(graph)["inputs"][0].update(arg={"as_graph": {}}),
    "function": lambda graph: first_node(graph)["inputs"][0].update(arg={"as_operator": "print"}),
    "tree type": lambda graph: graph["graph_module"]["module_call_graph"][0]["signature"].update(
        in_spec='[1, {"type": "os.system", "context": null, "children_spec": []}]'
    ),
    "tree key": lambda graph: graph["graph_module"]["module_call_graph"][0]["signature"].update(
        out_spec='[1, {"type": "builtins.dict", "context": "[\\"a b\\"]", "children_spec": []}]'
    ),
    "tree text": lambda graph: graph["graph_module"]["module_call_graph"][0]["signature"].update(
        out_spec="print(1)"
    ),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_graph_of_more_than_arithmetic_is_refused(members, edit, tmp_path):
    path = write(tmp_path / "model.pt2", edited(members, GRAPH, edit))
    with pytest.raises(VsamError, match="it is not loaded, because it might run code"):
        load(path)


@pytest.mark.parametrize(
    "name",
    ["data/aotinductor/model/a.so", "extra/note", "models/other.json", "data/weights/../x", "code"],
)
def test_another_member_is_refused(members, name, tmp_path):
    path = write(tmp_path / "model.pt2", members | {name: b"{}"})
    with pytest.raises(VsamError, match="there is the unknown member"):
        load(path)


@pytest.mark.parametrize("name", [GRAPH, EXAMPLES, WEIGHTS, CONSTANTS])
def test_missing_or_senseless_members_are_refused(members, name, tmp_path):
    rest = {key: data for key, data in members.items() if key != name}
    with pytest.raises(VsamError, match="there is no member"):
        load(write(tmp_path / "missing.pt2", rest))
    for number, data in enumerate((b"x", b"[]", b"\xff", b'{"config": 3}', b"[" * 10**5)):
        path = write(tmp_path / f"{number}.pt2", members | {name: data})
        with pytest.raises(VsamError, match="Export the run again"):
            load(path)


def test_members_that_are_there_twice_are_refused(members):
    names = [*members, GRAPH]
    with pytest.raises(UnsafeArchiveError, match="twice"):
        require_harmless(names, members.__getitem__)


def test_what_is_in_order_is_loaded(members, tmp_path):
    assert b"use_pickle" in members[CONSTANTS], "there is no constant, so nothing is tested"
    network = load(write(tmp_path / "model.pt2", members))
    output = network(torch.rand(3, 3, 32, 32))
    assert output.attention.shape == (3, 1, 8, 8)
    # A damaged graph that is harmless is told as such.
    damaged = edited(members, GRAPH, lambda graph: graph["graph_module"]["graph"].update(nodes=[]))
    with pytest.raises(VsamError, match="to be a network of the format torch-export"):
        load(write(tmp_path / "damaged.pt2", damaged))


def test_a_model_with_other_steps_is_not_written(tmp_path):
    class Random(_Model):
        def forward(self, images: torch.Tensor) -> VsamOutput:
            return VsamOutput(*(torch.special.bessel_j0(x) for x in super().forward(images)))

    with pytest.raises(VsamError, match=r"can't be exported to torch-export: .* no core operator"):
        torch_format.write_program(trace(Random().eval(), 32), tmp_path)
