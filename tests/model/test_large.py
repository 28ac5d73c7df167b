"""A file of more than 2 GiB, which protobuf's own libraries refuse: sparse on disk, so that it costs nothing."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto as T

from onnxmark.model import open_model
from tests.model.models import block, number, tensor, varint, weights

SHAPE = (8192, 8192, 3, 3)
PAYLOAD = 4 * int(np.prod(SHAPE))
KERNEL = weights(8, 4, 3, 3)


def opening(field: int, size: int) -> bytes:
    return varint(field << 3 | 2) + varint(size)


def conv_node(weight: str) -> bytes:
    return block(1, block(1, b"x") + block(1, weight.encode()) + block(2, b"y") + block(4, b"Conv"))


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A kernel of 2.4 GB of zeros between the nodes and a small kernel."""
    head = b"".join(number(1, size) for size in SHAPE) + number(2, T.FLOAT) + block(8, b"huge") + opening(9, PAYLOAD)
    before = conv_node("huge") + conv_node("small") + opening(5, len(head) + PAYLOAD) + head
    after = block(5, tensor("small", KERNEL).SerializeToString())
    start = number(1, 8) + opening(7, len(before) + PAYLOAD + len(after)) + before
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + PAYLOAD)
        file.seek(0, 2)
        file.write(after)
    assert path.stat().st_size > 1 << 31
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("the file system has no sparse files")
    return path


def test_more_than_two_gibibytes_in_one_file(large: Path) -> None:
    began = time.process_time()
    tracemalloc.start()
    try:
        with open_model(large) as opened:
            huge, small = opened.sites()
            assert (huge.name, huge.shape, huge.problem) == ("huge", SHAPE, None)
            np.testing.assert_array_equal(opened.read(small).values, KERNEL)
            peak = tracemalloc.get_traced_memory()[1]
            (stored, _) = opened.graph.root.body.graph.initializers
            assert not any(opened.payloads.source.exactly(stored.runs[0][0] + PAYLOAD - 4096, 4096))
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert time.process_time() - began < 3
