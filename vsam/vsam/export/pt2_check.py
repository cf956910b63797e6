"""Check that a `.pt2` archive holds numbers and arithmetic alone, before torch loads it.

`torch.export.load` would run code from the file: it unpickles weights, constants and example inputs
where the archive says so, evaluates the text of symbolic sizes and of guards, and calls whatever
function below `torch` a step names. So only what `torch_format.write_program` writes passes:

- members: the graph, raw numbers and the lists that name them; example inputs are empty. No other
  member, compiled libraries least of all;
- no number is pickled;
- each step of the graph is an operator of PyTorch's Core ATen set (arithmetic on tensors, without
  side effects), takes an item of a tuple or multiplies a size; no sub-graphs, foreign objects,
  guards or notes;
- each other text is a plain name, infinity, the symbol of the batch or a multiple of it, or the
  tree of inputs and outputs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch

_GRAPH = "models/model.json"
_EXAMPLES = "data/sample_inputs/model.pt"
_LISTS = {
    "data/weights/model_weights_config.json": re.compile(r"weight_\d+"),
    "data/constants/model_constants_config.json": re.compile(r"tensor_\d+"),
}
_MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+"
    + "".join(f"|{re.escape(name)}" for name in (_GRAPH, _EXAMPLES, *_LISTS))
)

# Arguments of a step, and kinds of a value, that are numbers, tensors or their names.
_VALUES = frozenset(
    "as_none as_tensor as_tensors as_int as_ints as_float as_floats as_bool as_bools as_string "
    "as_sym_int as_sym_ints as_expr as_name as_scalar_type as_memory_format as_layout as_device "
    "as_optional_tensor as_optional_tensors".split()
)
_PLAIN = re.compile(r"[\w.]*", re.ASCII)
_SYMBOL = r"(Symbol\('s\d+'(, \w+=True)*\)|s\d+)"
# The batch, or a multiple of it: the patches of all photos, say.
_SIZE = re.compile(rf"{_SYMBOL}|Mul\(Integer\(\d{{1,9}}\), {_SYMBOL}\)", re.ASCII)
_VERSION = re.compile(r"[\w.+]+", re.ASCII)
_OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)", re.ASCII)
_PYTHON_OPERATORS = ("_operator.getitem", "_operator.mul")
_NUMBER = re.compile(r"-?Infinity|NaN")  # as JSON's text
_TREE_TYPES = (None, "builtins.tuple", "builtins.list", "builtins.dict")


class UnsafeArchiveError(Exception):
    """The archive holds something that torch might run, or that can't be judged."""


def require_harmless(names: list[str], read: Callable[[str], bytes]) -> None:
    """Check an archive.

    Args:
        names: Its members.
        read: Gives a member's bytes. torch must load the same bytes afterwards, with the same
            reader: another one might find other members in a file that is made for it.

    Raises:
        UnsafeArchiveError: If there is anything in it but numbers and arithmetic.
    """
    if len(set(names)) != len(names):
        raise UnsafeArchiveError("members are there twice")
    for name in names:
        if not _MEMBERS.fullmatch(name):
            raise UnsafeArchiveError(f"there is the unknown member {name!r}")
    for name in (_GRAPH, _EXAMPLES, *_LISTS):
        if name not in names:
            raise UnsafeArchiveError(f"there is no member {name!r}")
    if read(_EXAMPLES):
        raise UnsafeArchiveError(f"{_EXAMPLES} holds a pickle")
    for name, payload in _LISTS.items():
        _check_payloads(name, _parse(name, read(name)), payload)
    _check_graph(_parse(_GRAPH, read(_GRAPH)))


def _parse(name: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnsafeArchiveError(f"{name} is no JSON") from error
    if not isinstance(value, dict):
        raise UnsafeArchiveError(f"{name} is no JSON object")
    return value


def _check_payloads(name: str, value: dict[str, Any], allowed: re.Pattern[str]) -> None:
    entries = value.get("config")
    if set(value) != {"config"} or not isinstance(entries, dict):
        raise UnsafeArchiveError(f"{name} is no list of tensors")
    for entry in entries.values():
        path = entry.get("path_name") if isinstance(entry, dict) else None
        if not isinstance(path, str) or not allowed.fullmatch(path):
            raise UnsafeArchiveError(f"{name} names {path!r}, which is no file of numbers")
        if entry.get("use_pickle") is not False:
            raise UnsafeArchiveError(f"{name} says that {path} is a pickle")


def _check_graph(program: dict[str, Any]) -> None:
    for key, value in _walk(program):
        if not _PLAIN.fullmatch(key):
            raise UnsafeArchiveError(f"{_GRAPH} has the name {_short(key)}")
        if key == "target":
            _check_operator(value)
        elif key in ("in_spec", "out_spec"):
            _check_tree(value)
        elif key in ("metadata", "guards_code", "custom_obj_values", "treespec_namedtuple_fields"):
            if value:
                raise UnsafeArchiveError(f"{_GRAPH} has {key}")
        elif key.startswith("as_") and key not in _VALUES:
            raise UnsafeArchiveError(f"{_GRAPH} has a value of the kind {key}")
        else:
            rule = {"as_float": _NUMBER, "expr_str": _SIZE, "torch_version": _VERSION}.get(
                key, _PLAIN
            )
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and not rule.fullmatch(text):
                    raise UnsafeArchiveError(f"{_GRAPH} has {_short(text)} as {key}")


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Give each key with its value, however deep; texts in lists come with the list's key."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            # A list in a list has no key of its own.
            yield from (("", inner) for inner in value if isinstance(inner, list))
            waiting += value


def _check_operator(name: Any) -> None:
    if name in _PYTHON_OPERATORS:
        return
    found = _OPERATOR.fullmatch(name) if isinstance(name, str) else None
    packet = getattr(torch.ops.aten, found[1], None) if found else None
    operator = getattr(packet, found[2], None) if found else None
    if not isinstance(operator, torch._ops.OpOverload) or torch.Tag.core not in operator.tags:
        raise UnsafeArchiveError(f"{_GRAPH} has the step {_short(name)}, no core operator")


def _check_tree(text: Any) -> None:
    """Check the tree of inputs or outputs: tuples, lists and dictionaries with plain keys."""
    if not isinstance(text, str):
        raise UnsafeArchiveError(f"{_GRAPH} has a tree that is no text")
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnsafeArchiveError(f"{_GRAPH} has a tree that is no JSON") from error
    for key, value in _walk(tree):
        if key == "type" and value not in _TREE_TYPES:
            raise UnsafeArchiveError(f"{_GRAPH} has a tree of {_short(value)}")
        if key == "context" and value is not None:
            names = _parse_context(value)
            if not all(isinstance(name, str) and _PLAIN.fullmatch(name) for name in names):
                raise UnsafeArchiveError(f"{_GRAPH} has a tree with {_short(value)}")


def _parse_context(text: Any) -> list[Any]:
    try:
        names = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return [None]
    return [] if names is None else names if isinstance(names, list) else [None]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
