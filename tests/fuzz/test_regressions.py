"""Inputs that once broke a promise, found by fuzzing or beside what it found; each broke it in another place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fuzz.targets import TARGETS
from onnxmark.model import open_model

FOLDER = Path(__file__).parent / "regressions"
OUTCOMES = {
    "keys-elements-that-are-arrays": "KeyFileError",  # ValueError: reshape
    "keys-no-data-along-endless-axes": "KeyFileError",  # ValueError: maximum dimension
    "keys-old-name-of-a-type": "KeyFileError",  # DeprecationWarning from numpy.dtype
    "keys-signalling-nan": "KeyFileError",  # RuntimeWarning from a cast
    "keys-size-too-long-to-write": "KeyFileError",  # ValueError while writing the message
    "keys-warning-from-the-header": "KeyFileError",  # DeprecationWarning from ast.literal_eval
    "reader-chain-on-a-large-fill": "read",  # all intermediate results held: memory without end
    "reader-fill-along-endless-axes": "none read",  # ValueError: array is too big
    "reader-fill-of-too-many-axes": "read in part",  # ValueError: maximum dimension
    "reader-group-between-elements": "read",  # refused, for an element was looked for inside the group
    "reader-no-elements-along-endless-axes": "none read",  # ValueError: array is too big
    "reader-shape-beyond-64-bits": "none read",  # OverflowError
    "reader-sparse-of-64-axes": "read",  # ValueError: ravel_multi_index takes fewer
    "reader-sparse-without-axes": "read",  # ValueError: ravel_multi_index of nothing
    "reader-sum-of-large-fills": "none read",  # all operands held at once: memory without end
}


def test_every_input_is_listed() -> None:
    assert {path.stem for path in FOLDER.glob("*.bin")} == set(OUTCOMES)
    assert all(path.stat().st_size < 5000 for path in FOLDER.glob("*.bin"))


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_promise_holds_now(name: str) -> None:
    target = TARGETS[name.split("-", maxsplit=1)[0]]()
    assert target((FOLDER / f"{name}.bin").read_bytes()) == OUTCOMES[name]


def test_elements_around_a_group_are_those_protobuf_sees() -> None:
    path = FOLDER / "reader-group-between-elements.bin"
    (stored,) = onnx.load(path).graph.initializer
    with open_model(path) as opened:
        np.testing.assert_array_equal(opened.read(opened.sites()[0]).values, numpy_helper.to_array(stored))
    assert list(stored.int32_data) == [7, 300]


def test_sparse_tensors_without_axes_and_with_many() -> None:
    for name in ("reader-sparse-without-axes", "reader-sparse-of-64-axes"):
        with open_model(FOLDER / f"{name}.bin") as opened:
            np.testing.assert_array_equal(opened.read(opened.sites()[0]).values, np.full((1, 1, 1), 5, np.float32))
