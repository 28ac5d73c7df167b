"""The fuzzing of ``fuzz/``, short: the same targets, sources and limits, few inputs, the same ones every time."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import corpus, run, run_atheris
from fuzz.mutate import MAX_BYTES, Mutator
from fuzz.npy import key_files
from fuzz.protobuf import CHILDREN, field, places, replaced, varint
from fuzz.targets import TARGETS, BrokenPromiseError
from onnxmark.errors import ModelLimitError
from onnxmark.model import wire

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inputs are kept in memfd files of Linux")
pytestmark = needs_proc

RUNS = {"reader": 6000, "external": 1500, "keys": 1500}


@pytest.mark.parametrize("target", TARGETS)
def test_every_outcome_is_a_result_or_one_typed_error(target: str) -> None:
    tally = run.fuzz(target, RUNS[target], seed=1, installed=False)
    assert tally.inputs == RUNS[target]
    assert not tally.findings
    assert tally.slowest < run.SECONDS
    assert tally.peak < run.BYTES


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("reader", {"read", "none read", "no sites", "MalformedModel", "NotAModel"}),
        ("external", {"read", "none read", "MalformedModel"}),
        ("keys", {"key", "matrix", "message", "KeyFileError"}),
    ],
)
def test_the_mutations_reach_every_kind_of_outcome(target: str, words: set[str]) -> None:
    """A fuzzer that is turned away at the door finds nothing, and looks the same as one that finds nothing to find."""
    outcomes = run.fuzz(target, 800, seed=2, installed=False).outcomes
    assert words <= set(outcomes)
    refused = sum(outcomes[word] for word in ("MalformedModel", "NotAModel"))
    assert refused < 0.6 * 800


def test_the_same_seed_makes_the_same_inputs() -> None:
    one, other = (run.source("reader", 3, installed=False) for _ in range(2))
    assert [one.next() for _ in range(50)] == [other.next() for _ in range(50)]


def test_seeds_are_sound() -> None:
    target = TARGETS["reader"]()
    for data in corpus.models():
        onnx.load_from_string(data)
        assert target(data) in ("read", "none read", "no sites", "read in part")
    assert [TARGETS["keys"]()(data) for data in key_files()][:3] == ["key", "key", "matrix"]


def test_a_broken_promise_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "FINDINGS", tmp_path)
    monkeypatch.setattr(wire.Wire, "stream", lambda *_: 1 / 0)
    tally = run.fuzz("reader", 9, seed=0, installed=False)
    ((words, count),) = tally.findings.items()
    assert (words, count) == ("reader: ZeroDivisionError in decode.py:header", 9)
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 6, "three inputs and their tracebacks, however often it happens"
    assert "division" in kept[1].read_text()


def test_errors_of_several_lines_break_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ModelLimitError("two\nlines")

    monkeypatch.setattr(wire.Wire, "stream", fails)
    with pytest.raises(BrokenPromiseError, match="one printable line"):
        TARGETS["reader"]()(corpus.models()[0])


def test_an_input_that_takes_too_long_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "FINDINGS", tmp_path)
    monkeypatch.setattr(run, "SECONDS", 0.001)
    calls = iter(range(100))

    def slow(_: bytes) -> str:
        if next(calls):
            while True:
                np.zeros(1)
        return "read"

    monkeypatch.setitem(run.TARGETS, "keys", lambda: slow)
    tally = run.fuzz("keys", 2, seed=0)
    assert tally.findings == {"keys: TooSlowError in ": 2}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 5))
def test_an_edit_keeps_the_lengths_around_it(seed: int, which: int) -> None:
    """Whatever is put in the place of a field, protobuf still finds the fields around it."""
    data = corpus.models()[which]
    found = places(data)
    place = found[seed % len(found)]
    made = replaced(data, place.start, place.end, field(999, 2, b"x" * (seed % 300)), place.ancestors)
    assert onnx.load_from_string(made) is not None
    assert len(places(made)) >= len([p for p in found if p.end <= place.start])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 3))
def test_varints_are_those_of_the_reader(value: int, padding: int) -> None:
    made = varint(value, padding if value < 2**42 else 0)
    assert wire.varint(made, 0) == (value, len(made))


def test_the_schema_is_that_of_onnx() -> None:
    names = {"Opset": "OperatorSetId", "Entry": "StringStringEntry", "Training": "TrainingInfo", "Value": "ValueInfo",
             "Sparse": "SparseTensor"}  # fmt: skip
    for owner, fields in CHILDREN.items():
        descriptor = getattr(onnx, f"{names.get(owner, owner)}Proto").DESCRIPTOR
        for number, child in fields.items():
            inner = descriptor.fields_by_number[number].message_type
            assert inner.name == f"{names.get(child, child)}Proto", (owner, number)


def test_without_atheris_the_cure_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    monkeypatch.setattr(sys, "argv", ["run_atheris", "--runs", "1"])
    assert run_atheris.main() == 2
    assert "pip install atheris" in capsys.readouterr().err


def test_nothing_is_left_behind() -> None:
    target = TARGETS["external"]()
    home = target._file.path.parent
    assert home.is_dir()
    del target
    assert not home.exists()


def test_inputs_stay_small() -> None:
    mutator = Mutator(corpus.models(), random.Random(5))
    for _ in range(500):
        data = mutator.next()
        assert len(data) <= MAX_BYTES
        mutator.keep(data)
