"""The stream of JSON agrees with Python's own reader, wherever its pieces end."""

import hashlib
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_heatmaps import VsamError
from vsam_heatmaps.keypoint_files import json_stream
from vsam_heatmaps.keypoint_files.json_stream import JsonStream

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("stream") / "document.json"


def read(path) -> tuple[object, str]:
    """Read a document by items or members, one after the other."""
    with JsonStream(path) as stream:
        if stream.peek() == "[":
            whole: object = list(stream.items())
        elif stream.peek() == "{":
            whole = {
                name: list(stream.items()) if stream.peek() == "[" else stream.value()
                for name in stream.members()
            }
        else:
            whole = stream.value()
        return whole, stream.finish()


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_what_json_reads(path, chunk):
    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(value=values, indent=st.sampled_from([None, 0, 2]), ascii_=st.booleans())
    def check(value, indent, ascii_):
        text = json.dumps(value, indent=indent, ensure_ascii=ascii_)
        data = text.encode("utf-8", "surrogatepass")
        path.write_bytes(data)
        try:
            wanted = json.loads(data.decode())
        except UnicodeDecodeError:
            with pytest.raises(VsamError, match=r"json: it is not JSON in UTF-8\.$"):
                read(path)
            return
        assert read(path) == (wanted, hashlib.sha256(data).hexdigest())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        check()


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_what_json_refuses(path, chunk):
    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(text=st.text(alphabet='{}[]",:1e.-tru \n\\', max_size=12))
    def check(text):
        path.write_text(text)
        try:
            wanted = json.loads(text)
        except ValueError:
            with pytest.raises(VsamError) as refused:
                read(path)
            said = str(refused.value)
            assert said.startswith(f"Could not read {path}: it is not JSON, or is cut off (")
            assert len(said.splitlines()) == 1
        else:
            assert read(path)[0] == wanted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        check()


def test_the_place_of_a_mistake(path, monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK", 4)
    path.write_text('[{"a": 1}, {"b": 2}, {"c" 3}]')
    with pytest.raises(VsamError, match=r"\(Expecting ':' delimiter at character 26\)\.$"):
        read(path)


def test_a_number_of_thousands_of_digits(path):
    path.write_text("[" + "1" * 50_000 + "]")
    with pytest.raises(VsamError, match=r"it is not JSON, or is cut off \(Exceeds the limit"):
        read(path)


def test_a_nesting_without_end(path):
    path.write_text("[" * 200_000)
    with pytest.raises(VsamError, match=r"cut off \(maximum recursion depth exceeded"):
        read(path)


def test_a_file_that_is_not_there(path):
    with pytest.raises(VsamError, match=r"^Could not read .*none\.json: No such file"):
        JsonStream(path.with_name("none.json"))


def test_a_large_file_takes_the_memory_of_a_piece(path):
    item = json.dumps({"segmentation": "0.5, " * 20_000})
    path.write_text('{"annotations": [' + ", ".join([item] * 100) + "]}")
    size = path.stat().st_size
    assert size > 9_000_000
    tracemalloc.start()
    try:
        with JsonStream(path) as stream:
            assert sum(1 for _ in stream.members() for _ in stream.items()) == 100
            stream.finish()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < size / 2
