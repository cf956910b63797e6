"""Say in one line how the weights of a file differ from those that a model needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_SHOWN = 10

Shape = tuple[int, ...]


def listed(names: Iterable[str]) -> str:
    """Join names, the first ten of many.

    >>> listed("abc")
    'a, b, c'
    >>> listed("abcdefghijklm")
    'a, b, c, d, e, f, g, h, i, j and 3 more'
    """
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def describe_misfits(wanted: Mapping[str, Shape], given: Mapping[str, Shape]) -> str:
    """Name what is missing, what is unknown and what has another shape; empty if all fits.

    >>> describe_misfits({"a": (1,), "b": (2, 2), "c": (3,)}, {"b": (2, 1), "c": (3,), "d": (4,)})
    'it lacks a; it holds the unknown d; b should be of shape (2, 2), but got (2, 1)'
    """
    misshapen = [
        f"{name} should be of shape {wanted[name]}, but got {given[name]}"
        for name in sorted(set(wanted) & set(given))
        if wanted[name] != given[name]
    ]
    problems = {
        "it lacks ": sorted(set(wanted) - set(given)),
        "it holds the unknown ": sorted(set(given) - set(wanted)),
        "": misshapen,
    }
    return "; ".join(said + listed(names) for said, names in problems.items() if names)
