from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnxmark_tf.exchange import (
    ExportRefused,
    read_outcome,
    read_request,
    write_converted,
    write_error,
    write_request,
)

from onnxmark.conversion import Container, Converted, Request, SourceWeights
from onnxmark.errors import ConversionError, MissingExtra, ModelUnavailable, SettingError, TrustRequired

REQUEST = Request(
    Path("/models/größe.keras"),
    Container.KERAS,
    Path("/out/m.onnx"),
    17,
    True,
    "nets:build",
    (("image", (1, 8, 8, 3)), ("", (2,))),
    "torch",
)


def test_a_request_arrives_as_it_was_sent(tmp_path):
    write_request(tmp_path, REQUEST)
    assert read_request(tmp_path) == REQUEST


def test_relative_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_request(tmp_path, Request(Path("m.h5"), Container.HDF5, Path("m.onnx")))
    arrived = read_request(tmp_path)
    assert (arrived.source, arrived.target) == (tmp_path / "m.h5", tmp_path / "m.onnx")


def test_what_was_converted_arrives_as_it_was_sent(tmp_path):
    weights = (
        SourceWeights("größe/kernel", np.arange(36, dtype=np.float32).reshape(2, 2, 3, 3), "HWIO", 2),
        SourceWeights("head/kernel", np.full((2, 3), np.nan, np.float32), "IO"),
    )
    write_converted(tmp_path, Converted("keras 3", weights, has_graph=False, notes=("one", "two")))
    arrived = read_outcome(tmp_path)
    assert (arrived.route, arrived.has_graph, arrived.notes) == ("keras 3", False, ("one", "two"))
    for ours, theirs in zip(arrived.weights, weights, strict=True):
        assert (ours.name, ours.order, ours.group) == (theirs.name, theirs.order, theirs.group)
        np.testing.assert_array_equal(ours.values, theirs.values)


@pytest.mark.parametrize(
    "error",
    [
        ConversionError("one: two"),
        ExportRefused("three"),
        TrustRequired("four"),
        ModelUnavailable("five"),
        SettingError("six"),
        MissingExtra("jax", "jax", "converting a Keras model"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_it_was_raised(error, tmp_path):
    write_error(tmp_path, error)
    with pytest.raises(type(error), match=r".") as caught:
        read_outcome(tmp_path)
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    assert vars(caught.value) == vars(error)


def test_no_outcome(tmp_path):
    assert read_outcome(tmp_path) is None


def test_nothing_is_unpickled(tmp_path):
    write_converted(tmp_path, Converted("keras 3", (SourceWeights("a/kernel", np.ones((1, 1), np.float32), "IO"),)))
    np.savez(tmp_path / "weights.npz", **{"0": np.array([object()])})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_outcome(tmp_path)
    assert json.loads((tmp_path / "outcome.json").read_text())["weights"][0]["name"] == "a/kernel"
