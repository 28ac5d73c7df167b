"""Old graphs of tf2onnx are gone before the next copy is made, and nothing of it stays afterwards."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest

pytest.importorskip("tf2onnx")

import tf2onnx.convert
import tf2onnx.optimizer
from onnxmark_tf.mending import mended


class Graph:
    """Refers to itself, as tf2onnx's graphs and their nodes do to each other."""

    def __init__(self):
        self.itself = self


def test_a_copy_that_was_left_is_freed_before_the_next():
    graph = Graph()
    gc.disable()
    try:
        with mended():
            left = weakref.ref(tf2onnx.optimizer.copy.deepcopy(graph))
            assert left() is not None
            again = tf2onnx.optimizer.copy.deepcopy(graph)
            assert left() is None
        assert again.itself is again
        assert again is not graph
    finally:
        gc.enable()


def fails_inside():
    with mended():
        assert gc.get_freeze_count() > 0
        raise KeyError("inside")


def test_everything_is_as_before_afterwards():
    with pytest.raises(KeyError, match="inside"):
        fails_inside()
    assert tf2onnx.optimizer.copy is copy
    assert tf2onnx.convert._convert_common.__module__ == "tf2onnx.convert"
    assert gc.get_freeze_count() == 0
