"""Names in one block of bytes: they must be what a tuple of strings would be."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsam_heatmaps.names import NameBlock, Names

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def make_names(names) -> Names:
    return Names(name.encode() for name in sorted(set(names)))


@given(st.lists(texts), texts)
def test_they_behave_like_a_sorted_tuple_of_strings(given_names, other):
    wanted, names = tuple(sorted(set(given_names))), make_names(given_names)
    assert (tuple(names), len(names)) == (wanted, len(wanted))
    assert names == wanted
    assert names == make_names(wanted)
    assert names != (*wanted, "x")
    assert names[1:4] == wanted[1:4]
    assert [names.find(name) for name in wanted] == list(range(len(wanted)))
    assert [names[number] for number in range(-len(wanted), 0)] == list(wanted)
    assert (other in names) == (other in wanted)
    if other not in wanted:
        assert names.find(other) is None
    assert tuple(pickle.loads(pickle.dumps(names))) == wanted


@given(st.lists(texts), st.lists(texts))
def test_missing_names_are_counted(ours, theirs):
    names = make_names(ours)
    missing = [names[position] for position in names.missing_positions(make_names(theirs))]
    assert missing == sorted(set(ours) - set(theirs))


@given(st.lists(st.binary(max_size=2)))
def test_groups_say_where_each_name_was_added(added):
    block = NameBlock()
    for name in added:
        block.add(name)
    assert [block[number] for number in range(len(block))] == added
    wanted = [
        (name, [number for number, other in enumerate(added) if other == name])
        for name in sorted(set(added))
    ]
    assert list(block.groups()) == wanted


def test_what_is_not_there():
    names = make_names(["a", "b"])
    assert "\udce9" not in names  # half a character, as in a name that is no UTF-8
    assert 3 not in names
    assert (names == ("a", "c"), names == ["a", "b"], names == 3) == (False, False, False)
    for position in (2, -3):
        with pytest.raises(IndexError):
            names[position]
    with pytest.raises(TypeError):
        hash(names)
