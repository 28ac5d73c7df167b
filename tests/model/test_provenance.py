"""Entries at the end of a finished file: every reader sees them, and nothing else has changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.errors import MalformedModel, ModelUnavailable, NotAModel, WriteBackError
from onnxmark.model import open_model
from onnxmark.model.editing import provenance
from onnxmark.model.editing.provenance import append_metadata
from onnxmark.model.limits import MAX_METADATA, MAX_TEXT
from tests.model.models import OPSETS, block, conv, info, model, save, tensor, varint, weights

W = weights(8, 4, 3, 3)
ENTRIES = {"onnxmark.attack": "MagnitudePruning(fraction=0.5)", "onnxmark.source": "größer ≠ kleiner\n\t\0\U0001f512"}
DEMO = Path(provenance.__file__).parents[2] / "demo_data" / "marked.onnx"


def valid() -> onnx.ModelProto:
    """A model that onnx's checker accepts, which wants shapes."""
    made = model([conv()], [tensor("w", W)], opsets=OPSETS[:1], ir=10)
    made.graph.input[0].CopyFrom(info("x", ["n", 4, 8, 8]))
    made.graph.output[0].CopyFrom(info("y", ["n", 8, 6, 6]))
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(valid(), tmp_path / "m.onnx")


def by_onnx(path: Path) -> list[tuple[str, str]]:
    loaded = onnx.load(path)
    onnx.checker.check_model(loaded)
    return [(entry.key, entry.value) for entry in loaded.metadata_props]


def by_runtime(path: Path) -> dict[str, str]:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


def by_us(path: Path) -> dict[str, str]:
    with open_model(path) as opened:
        return opened.metadata


def weights_of(path: Path) -> np.ndarray:
    with open_model(path) as opened:
        (site,) = opened.sites()
        return opened.read(site).values


def test_all_three_readers_see_the_entries(path: Path) -> None:
    assert append_metadata(path, ENTRIES) == ENTRIES
    assert by_us(path) == ENTRIES
    assert by_onnx(path) == list(ENTRIES.items())
    assert by_runtime(path) == ENTRIES


def test_no_byte_that_was_there_changes(path: Path) -> None:
    before = path.read_bytes()
    append_metadata(path, ENTRIES)
    after = path.read_bytes()
    assert after.startswith(before)
    assert onnx.load_from_string(before).graph == onnx.load(path).graph


def test_the_bytes_are_those_protobuf_writes(path: Path) -> None:
    before = path.read_bytes()
    append_metadata(path, ENTRIES)
    alone = onnx.ModelProto()
    for key, value in ENTRIES.items():
        alone.metadata_props.add(key=key, value=value)
    assert path.read_bytes() == before + alone.SerializeToString()


@given(st.dictionaries(st.text(min_size=1, max_size=300), st.text(max_size=20_000), max_size=4))
def test_any_texts_come_back(tmp_path_factory: pytest.TempPathFactory, entries: dict[str, str]) -> None:
    path = save(valid(), tmp_path_factory.mktemp("any") / "m.onnx")
    written = append_metadata(path, entries)
    assert [(entry.key, entry.value) for entry in onnx.load(path).metadata_props] == list(written.items())
    assert by_us(path) == written
    assert set(written.values()) == set(entries.values())


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_lengths_around_the_steps_of_a_varint(path: Path, length: int) -> None:
    append_metadata(path, {"k": "x" * length})
    assert by_onnx(path) == [("k", "x" * length)]


def test_repeated_appends_keep_the_history(path: Path) -> None:
    assert append_metadata(path, {"attack": "first"}) == {"attack": "first"}
    assert append_metadata(path, {"attack": "second"}) == {"attack.2": "second"}
    assert append_metadata(path, {"attack": "third", "other": "o"}) == {"attack.3": "third", "other": "o"}
    expected = {"attack": "first", "attack.2": "second", "attack.3": "third", "other": "o"}
    assert by_onnx(path) == list(expected.items())
    assert by_us(path) == by_runtime(path) == expected


def test_what_is_there_already_is_not_written_again(path: Path) -> None:
    append_metadata(path, ENTRIES)
    size = path.stat().st_size
    assert append_metadata(path, ENTRIES) == {}
    append_metadata(path, {"attack": "a"})
    append_metadata(path, {"attack": "b"})
    assert append_metadata(path, {"attack": "b"}) == {}
    assert by_us(path) == {**ENTRIES, "attack": "a", "attack.2": "b"}
    assert path.stat().st_size > size


def test_keys_numbered_alike_do_not_meet(path: Path) -> None:
    append_metadata(path, {"a": "one"})
    assert append_metadata(path, {"a": "two", "a.2": "three"}) == {"a.2": "two", "a.2.2": "three"}
    assert len(by_onnx(path)) == 3


def test_entries_of_the_exporter_stay(tmp_path: Path) -> None:
    made = valid()
    made.metadata_props.add(key="author", value="somebody")
    path = save(made, tmp_path / "m.onnx")
    append_metadata(path, {"author": "else"})
    assert by_onnx(path) == [("author", "somebody"), ("author.2", "else")]


def test_external_data_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    made = valid()
    onnx.save(made, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    data = (tmp_path / "w.bin").read_bytes()
    append_metadata(path, ENTRIES)
    assert (tmp_path / "w.bin").read_bytes() == data
    assert by_us(path) == dict(by_onnx(path)) == by_runtime(path) == ENTRIES
    np.testing.assert_array_equal(weights_of(path), W)


def test_the_shipped_model_still_runs_alike(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    path = tmp_path / "marked.onnx"
    path.write_bytes(DEMO.read_bytes())
    append_metadata(path, ENTRIES)
    feed = {"images": np.random.default_rng(0).normal(size=(1, 1, 28, 28)).astype(np.float32)}
    before, after = (
        ort.InferenceSession(str(p), providers=["CPUExecutionProvider"]).run(None, feed)[0] for p in (DEMO, path)
    )
    np.testing.assert_array_equal(before, after)


def test_no_weights_are_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file with a gigabyte of weights: the work is that of its headers."""
    content = path.read_bytes()
    hole = 1 << 30
    with path.open("wb") as file:
        # An unknown field of a gigabyte of zeros stands for the weights, which the filesystem does not store.
        file.write(content + block(99, b"")[:-1] + varint(hole))
        file.truncate(file.tell() + hole)
    read = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *given: read.append(given[1]) or pread(*given))
    append_metadata(path, ENTRIES)
    assert sum(read) < 1 << 20
    assert by_us(path) == ENTRIES


def test_a_file_is_not_taken_over_what_other_readers_accept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_LARGEST", path.stat().st_size + 10)
    before = path.read_bytes()
    with pytest.raises(WriteBackError, match="bytes more are over 2 GiB, which other readers refuse"):
        append_metadata(path, ENTRIES)
    assert path.read_bytes() == before
    monkeypatch.setattr(provenance, "_LARGEST", path.stat().st_size - 1)
    append_metadata(path, ENTRIES)  # It was too large for them before.
    assert by_us(path) == ENTRIES


@pytest.mark.parametrize("after", [0, 1, 30])
def test_a_write_that_fails_is_undone(path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    before = path.read_bytes()
    write = os.write
    left = [after]

    def full(descriptor: int, data: memoryview) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        written = write(descriptor, data[: left[0]])
        left[0] -= written
        return written

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(WriteBackError, match=r"cannot be extended \(No space left on device\); check space"):
        append_metadata(path, ENTRIES)
    monkeypatch.undo()
    assert path.read_bytes() == before


def test_short_writes_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    append_metadata(path, ENTRIES)
    monkeypatch.undo()
    assert by_us(path) == ENTRIES


def test_half_an_entry_is_refused_by_every_reader(path: Path) -> None:
    """What the docstring says of a machine that stops in the middle."""
    size = path.stat().st_size
    append_metadata(path, {"attack": "x" * 100})
    whole = path.read_bytes()
    for end in (size + 1, size + 5, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(MalformedModel, match=r"truncated|cut short"):
            by_us(path)
        with pytest.raises(Exception, match=r"Error parsing|corrupt|truncated"):
            onnx.load(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"": "v"}, "key must not be empty"),
        ({"k" * (MAX_TEXT + 1): "v"}, f"key must have at most {MAX_TEXT} bytes, found {MAX_TEXT + 1}"),
        ({"k": "v" * (MAX_METADATA + 1)}, f"value must have at most {MAX_METADATA} bytes"),
        ({"k": "\ud800"}, "surrogates not allowed"),
    ],
)
def test_texts_that_no_model_can_hold_are_the_callers_mistake(
    path: Path, entries: dict[str, str], message: str
) -> None:
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        append_metadata(path, entries)
    assert path.read_bytes() == before


def test_only_models_are_extended(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be opened"):
        append_metadata(tmp_path / "none.onnx", ENTRIES)
    (tmp_path / "text.onnx").write_text("not a model at all, only words")
    with pytest.raises((NotAModel, MalformedModel), match=r"text\.onnx"):
        append_metadata(tmp_path / "text.onnx", ENTRIES)
    assert (tmp_path / "text.onnx").read_text() == "not a model at all, only words"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anything")
def test_a_file_that_may_not_be_written_is_said_so(path: Path) -> None:
    path.chmod(0o400)
    with pytest.raises(WriteBackError, match="cannot be extended"):
        append_metadata(path, ENTRIES)


def test_a_directory_without_the_file_gets_nothing_else(path: Path) -> None:
    append_metadata(path, ENTRIES)
    assert [entry.name for entry in path.parent.iterdir()] == ["m.onnx"]
