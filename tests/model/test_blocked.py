"""ONNX Runtime's blocked convolutions: files it saves here, and files as a machine with narrower vectors saves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxmark.model import open_model, write_model
from tests.model.models import conv, info, model, save, tensor, weights

DOMAIN = "com.microsoft.nchwc"
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]


def resaved(made: onnx.ModelProto, path: Path, channels: int) -> Path:
    ort = pytest.importorskip("onnxruntime")
    del made.graph.input[:]
    made.graph.input.append(info("x", [1, channels, 8, 8]))
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return path


def blocked(w: np.ndarray, size: int) -> np.ndarray:
    """Weights as ONNX Runtime lays them out: output channels padded and blocked, enough input channels too."""
    plain = w.shape[1] < size
    outputs = -(-w.shape[0] // size) * size
    inputs = w.shape[1] if plain else -(-w.shape[1] // size) * size
    padded = np.zeros((outputs, inputs, *w.shape[2:]), np.float32)
    padded[: w.shape[0], : w.shape[1]] = w
    out = np.empty(padded.size, np.float32)
    at = 0
    for block in range(0, outputs, size):
        for inner in range(0, inputs, 1 if plain else size):
            for i in np.ndindex(w.shape[2:]):
                for j in range(1 if plain else size):
                    out[at : at + size] = padded[(slice(block, block + size), inner + j, *i)]
                    at += size
    return out.reshape(padded.shape)


def chain(kernels: list[np.ndarray], size: int, channels: int | None = None, **attributes) -> onnx.ModelProto:
    """Blocked convolutions one after the other, the way back to plain channels at the end."""
    nodes = [helper.make_node("ReorderInput", ["x"], ["v0"], domain=DOMAIN)]
    for i in range(len(kernels)):
        nodes.append(
            helper.make_node("Conv", [f"v{i}", f"w{i}"], [f"v{i + 1}"], f"conv{i}", domain=DOMAIN, **attributes)
        )
    end = kernels[-1].shape[0] if channels is None else channels
    nodes.append(helper.make_node("ReorderOutput", [f"v{len(kernels)}"], ["y"], domain=DOMAIN, channels=end))
    return model(nodes, [tensor(f"w{i}", blocked(w, size)) for i, w in enumerate(kernels)], opsets=OPSETS, ir=8)


def read(path: Path) -> dict[str, np.ndarray]:
    with open_model(path) as opened:
        return {name: found.values for name, found in opened.weights().items()}


KERNELS = {
    "stem": weights(32, 3, 3, 3),
    "square": weights(32, 32, 3, 3),
    "wide": weights(64, 32, 1, 1),
    "padded outputs": weights(20, 32, 3, 3),
}


@pytest.mark.parametrize("case", KERNELS)
def test_as_onnx_runtime_saves_them(tmp_path: Path, case: str) -> None:
    w = KERNELS[case]
    path = resaved(model([conv("w")], [tensor("w", w)], opsets=OPSETS[:1], ir=8), tmp_path / "m.onnx", w.shape[1])
    assert DOMAIN in {node.domain for node in onnx.load(path).graph.node}
    found = read(path)
    assert any(values.shape == w.shape and np.array_equal(values, w) for values in found.values())


def test_depthwise_as_onnx_runtime_saves_it(tmp_path: Path) -> None:
    w = weights(24, 1, 3, 3)
    made = model([conv("w", group=24)], [tensor("w", w)], opsets=OPSETS[:1], ir=8)
    found = read(resaved(made, tmp_path / "m.onnx", 24))
    assert any(values.shape == w.shape and np.array_equal(values, w) for values in found.values())


@pytest.mark.parametrize("size", [16, 8])
def test_both_block_sizes_are_offered_where_nothing_tells(tmp_path: Path, size: int) -> None:
    w = weights(32, 32, 3, 3)
    path = save(chain([w], size), tmp_path / "m.onnx")
    with open_model(path) as opened:
        wide, narrow = opened.sites()
    assert (wide.name, narrow.name) == ("w0", "w0#block8")
    assert wide.nodes == narrow.nodes == ("conv0",)
    assert wide.stored == "initializer float32, raw data → blocked NCHW16c (OIHWio)"
    assert narrow.stored == "initializer float32, raw data → blocked NCHW8c (OIHWio)"
    found = read(path)
    right, wrong = ("w0", "w0#block8") if size == 16 else ("w0#block8", "w0")
    np.testing.assert_array_equal(found[right], w)
    assert not np.array_equal(found[wrong], w)


@pytest.mark.parametrize(
    ("size", "telling"),
    [
        (16, weights(32, 12, 3, 3)),
        (8, weights(24, 32, 3, 3)),
        (8, weights(32, 24, 3, 3)),
    ],
    ids=["12 inputs are no whole block of 8", "24 outputs", "24 inputs"],
)
def test_one_layer_tells_the_block_size_of_all(tmp_path: Path, size: int, telling: np.ndarray) -> None:
    other = weights(32, 32, 3, 3)
    made = chain([telling, other], size)
    found = read(save(made, tmp_path / "m.onnx"))
    assert list(found) == ["w0", "w1"]
    np.testing.assert_array_equal(found["w0"], telling)
    np.testing.assert_array_equal(found["w1"], other)


@pytest.mark.parametrize("size", [16, 8])
def test_the_way_back_tells_the_channels_before_padding(tmp_path: Path, size: int) -> None:
    w = weights(17 if size == 16 else 33, 16, 3, 3)
    path = save(chain([w], size), tmp_path / "m.onnx")
    found = read(path)
    assert list(found) == ["w0"]
    np.testing.assert_array_equal(found["w0"], w)
    with open_model(path) as opened:
        assert opened.sites()[0].stored.endswith("padding cut off")


def test_no_known_block_size_is_a_problem(tmp_path: Path) -> None:
    made = chain([weights(32, 32, 3, 3)], 16)
    made.graph.initializer[0].CopyFrom(tensor("w0", weights(12, 32, 3, 3)))
    with open_model(save(made, tmp_path / "m.onnx")) as opened:
        (site,) = opened.sites()
        assert site.problem == "blocked weights of shape (12, 32, 3, 3), which no known block size explains"


@pytest.mark.parametrize("outputs", [32, 20])
def test_write_back_leaves_every_other_byte(tmp_path: Path, outputs: int) -> None:
    w = weights(outputs, 16, 3, 3)
    path = save(chain([w], 16), tmp_path / "m.onnx")
    write_model(path, {"w0": w + 1}, tmp_path / "out" / "m.onnx")
    expected = save(chain([w + 1], 16), tmp_path / "expected.onnx")
    assert (tmp_path / "out" / "m.onnx").read_bytes() == expected.read_bytes()
