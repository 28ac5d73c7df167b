"""Weights as integer operators hold them: what we read is what the node's output says they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

from onnxmark.errors import WriteBackError
from onnxmark.model import open_model, write_model
from tests.model.models import constant, conv, info, model, runtime, save, tensor, weights

SHAPE = (8, 4, 3, 3)
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]


def codes(dtype: object, shape=SHAPE, seed: int = 1) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape).astype(dtype)


def scales(*shape: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.01, 0.1, shape).astype(np.float32)


def read(made: onnx.ModelProto, folder: Path):
    with open_model(save(made, folder / "m.onnx")) as opened:
        (site,) = opened.sites()
        assert site.problem is None
        return site, opened.read(site).values


def problem(made: onnx.ModelProto, folder: Path) -> str:
    with open_model(save(made, folder / "m.onnx")) as opened:
        (site,) = opened.sites()
        assert site.problem is not None
        return site.problem


def qlinear_conv(w: np.ndarray, scale: np.ndarray, zero: np.ndarray, domain: str = "", **attributes):
    names = ["xq", "xs", "xz", "w", "s", "z", "ys", "yz"]
    nodes = [helper.make_node("QLinearConv", names, ["y"], name="q", domain=domain, **attributes)]
    inits = [
        tensor("xs", np.float32(0.02)), tensor("xz", np.uint8(3)), tensor("w", w), tensor("s", scale),
        tensor("z", zero), tensor("ys", np.float32(0.5)), tensor("yz", np.uint8(100)),
    ]  # fmt: skip
    made = model(nodes, inits, ["xq"], opsets=OPSETS, ir=8)
    del made.graph.input[:], made.graph.output[:]
    made.graph.input.append(info("xq", [1, 4 if not domain else 6, 6, 6 if not domain else 4], T.UINT8))
    made.graph.output.append(info("y", None, T.UINT8))
    return made


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
@pytest.mark.parametrize(
    ("dtype", "scale", "zero"),
    [
        (np.int8, np.float32(0.03), np.int8(0)),
        (np.uint8, np.float32(0.03), np.uint8(121)),
        (np.int8, scales(8), np.zeros(8, np.int8)),
        (np.uint8, np.float32([0.03]), np.uint8([121])),
    ],
    ids=["int8", "uint8", "per channel", "length one"],
)
def test_linear_convolution(tmp_path: Path, domain: str, dtype, scale, zero) -> None:
    extra = {"channels_last": 1} if domain else {}
    made = qlinear_conv(codes(dtype), scale, zero, domain, **extra)
    site, found = read(made, tmp_path)
    column = (-1, 1, 1, 1)
    expected = (codes(dtype).astype(np.float32) - zero.astype(np.float32).reshape(column)) * scale.reshape(column)
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    axis = "(axis=0)" if scale.size > 1 else ""
    assert site.stored == f"initializer {np.dtype(dtype).name}, raw data → QLinearConv scale{axis}"
    x = np.random.default_rng(0).integers(0, 256, (1, 4, 6, 6)).astype(np.uint8)
    floats = model([conv("w")], [tensor("w", found)], opsets=OPSETS, ir=8)
    (y,) = runtime(floats, {"x": (x.astype(np.float32) - 3) * np.float32(0.02)})
    (q,) = runtime(made, {"xq": x.transpose(0, 2, 3, 1).copy() if domain else x})
    q = q.transpose(0, 3, 1, 2) if domain else q
    assert np.abs(np.clip(np.rint(y / 0.5) + 100, 0, 255) - q).max() <= 1


def integer_conv(zero: np.ndarray | None, *after: onnx.NodeProto, extra=(), w: np.ndarray | None = None):
    inputs = ["xq", "w", ""] + ([] if zero is None else ["z"])
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        helper.make_node("ConvInteger", [*inputs[:2], "xz", *inputs[3:]], ["i"], name="conv"),
        helper.make_node("Cast", ["i"], ["f"], to=T.FLOAT),
        *after,
    ]
    inits = [tensor("w", codes(np.uint8) if w is None else w), tensor("s", scales()), *extra]
    return model(nodes, inits + ([] if zero is None else [tensor("z", zero)]), opsets=OPSETS, ir=8)


def mul(left: str, right: str, out: str) -> onnx.NodeProto:
    return helper.make_node("Mul", [left, right], [out])


@pytest.mark.parametrize(
    "after",
    [
        [mul("xs", "s", "xss"), mul("f", "xss", "y")],
        [mul("s", "xs", "xss"), mul("xss", "f", "y")],
        [mul("f", "xs", "g"), mul("g", "s", "y")],
        [mul("f", "s", "g"), mul("xs", "g", "y")],
    ],
    ids=["as ORT writes it", "factors swapped", "one after the other", "weights' scale first"],
)
def test_integer_convolution_finds_its_scale(tmp_path: Path, after) -> None:
    made = integer_conv(np.uint8(120), *after)
    site, found = read(made, tmp_path)
    expected = (codes(np.uint8).astype(np.float32) - 120) * scales()
    np.testing.assert_array_equal(found, expected)
    assert site.stored == "initializer uint8, raw data → ConvInteger scale"
    x = weights(1, 4, 6, 6, seed=5)
    (y,) = runtime(made, {"x": x})
    (floats,) = runtime(model([conv("w")], [tensor("w", found)], opsets=OPSETS, ir=8), {"x": x})
    assert np.corrcoef(y.reshape(-1), floats.reshape(-1))[0, 1] > 0.999


@pytest.mark.parametrize("factors", [("xk", "per"), ("per", "xk")], ids=["activation first", "weights first"])
def test_of_two_constant_scales_the_longer_is_the_weights(tmp_path: Path, factors) -> None:
    after = [mul(*factors, "xss"), mul("f", "xss", "y")]
    extra = [tensor("per", scales(8).reshape(1, 8, 1, 1)), tensor("xk", np.float32(0.5))]
    _, found = read(integer_conv(None, *after, extra=extra, w=codes(np.int8)), tmp_path)
    np.testing.assert_array_equal(found, codes(np.int8).astype(np.float32) * scales(8).reshape(8, 1, 1, 1))


def test_of_two_constant_scales_of_one_element_the_second_is_the_weights(tmp_path: Path) -> None:
    """ONNX Runtime multiplies in this order."""
    after = [mul("xk", "s", "xss"), mul("f", "xss", "y")]
    _, found = read(integer_conv(None, *after, extra=[tensor("xk", np.float32(0.5))], w=codes(np.int8)), tmp_path)
    np.testing.assert_array_equal(found, codes(np.int8).astype(np.float32) * scales())


@pytest.mark.parametrize("where", ["integers", "floats"])
def test_a_bias_added_to_integers_has_their_scale(tmp_path: Path, where: str) -> None:
    """As onnx.quantize 0.1 wrote it; after the Cast, a later multiplication is the next layer's affair."""
    made = integer_conv(np.uint8(120), mul("g", "s", "y"))
    before, after = ("i", "i2") if where == "integers" else ("f", "g")
    made.graph.initializer.append(tensor("b", np.ones((8, 1, 1), np.int32 if where == "integers" else np.float32)))
    made.graph.node.insert(2 if where == "integers" else 3, helper.make_node("Add", [before, "b"], [after]))
    if where == "integers":
        made.graph.node[3].input[0], made.graph.node[3].output[0] = "i2", "g"
    site, _ = read(made, tmp_path)
    assert site.stored.endswith("ConvInteger scale" if where == "integers" else "(no scale found)")


def test_integer_convolution_per_channel(tmp_path: Path) -> None:
    factors = scales(8)
    after = [mul("xs", "per", "xss"), mul("f", "xss", "y")]
    made = integer_conv(None, *after, extra=[tensor("per", factors.reshape(1, 8, 1, 1))], w=codes(np.int8))
    site, found = read(made, tmp_path)
    np.testing.assert_array_equal(found, codes(np.int8).astype(np.float32) * factors.reshape(8, 1, 1, 1))
    assert site.stored.endswith("ConvInteger scale(axis=0)")


def test_integer_convolution_without_a_scale_is_codes_and_says_so(tmp_path: Path) -> None:
    made = integer_conv(np.uint8(120), helper.make_node("Relu", ["f"], ["y"]))
    site, found = read(made, tmp_path)
    np.testing.assert_array_equal(found, codes(np.uint8).astype(np.float32) - 120)
    assert site.stored == "initializer uint8, raw data → ConvInteger codes (no scale found)"


def test_a_zero_point_that_is_no_constant_is_a_problem(tmp_path: Path) -> None:
    made = integer_conv(np.uint8(120), mul("f", "s", "y"))
    made.graph.node[1].input[3] = "xz"
    assert problem(made, tmp_path) == "their zero point is not known: the graph input 'x' is not stored in the file"


def test_weights_quantised_at_run_time_are_read_as_floats(tmp_path: Path) -> None:
    w = weights(*SHAPE)
    made = integer_conv(None, mul("f", "ws", "y"))
    made.graph.node.insert(0, constant("k", w))
    made.graph.node.insert(1, helper.make_node("DynamicQuantizeLinear", ["k"], ["kq", "ws", "wz"]))
    made.graph.node[3].input[1] = "kq"
    site, found = read(made, tmp_path)
    np.testing.assert_array_equal(found, w)
    assert site.stored == "Constant node float32, raw data → DynamicQuantizeLinear"
    out = tmp_path / "out" / "m.onnx"
    write_model(tmp_path / "m.onnx", {site.name: w + 1}, out)
    with open_model(out) as opened:
        np.testing.assert_array_equal(opened.weights()[site.name].values, w + 1)


def matmul_nodes(op: str, left: bool):
    if op == "MatMulInteger":
        inputs = ["w", "x", "wz", "xz"] if left else ["x", "w", "xz", "wz"]
        return [helper.make_node(op, inputs, ["i"]), helper.make_node("Cast", ["i"], ["f"], to=T.FLOAT),
                mul("f", "ws", "y")]  # fmt: skip
    a, b = ["x", "xs", "xz"], ["w", "ws", "wz"]
    return [helper.make_node(op, [*(b if left else a), *(a if left else b), "ys", "yz"], ["y"])]


# After MatMulInteger a scale for every row has no place.
PRODUCTS = [
    (op, left, per_channel)
    for op in ("MatMulInteger", "QLinearMatMul")
    for left in (False, True)
    for per_channel in (False, True)
    if not (op == "MatMulInteger" and left and per_channel)
]


@pytest.mark.parametrize(("op", "left", "per_channel"), PRODUCTS)
def test_integer_products(tmp_path: Path, op: str, left: bool, per_channel: bool) -> None:
    w = codes(np.int8, (5, 12) if left else (12, 5))
    factors = scales(5) if per_channel else scales()
    inits = [
        tensor("w", w), tensor("ws", factors), tensor("wz", np.full(factors.shape, 3, np.int8)),
        tensor("xs", np.float32(0.1)), tensor("xz", np.uint8(7)), tensor("ys", np.float32(1)),
        tensor("yz", np.uint8(1)),
    ]  # fmt: skip
    site, found = read(model(matmul_nodes(op, left), inits, opsets=OPSETS, ir=8), tmp_path)
    by_output = (w if left else w.T).astype(np.float32)
    np.testing.assert_array_equal(found, (by_output - 3) * (factors.reshape(-1, 1) if per_channel else factors))
    assert f"{op} scale" in site.stored


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "zero points"])
@pytest.mark.parametrize(("inputs", "outputs", "block"), [(96, 10, 32), (80, 7, 32), (48, 5, 16)])
def test_blockwise_products_as_onnx_runtime_makes_and_runs_them(
    tmp_path: Path, bits: int, symmetric: bool, inputs: int, outputs: int, block: int
) -> None:
    quantiser = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
    w = weights(inputs, outputs)
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], [tensor("w", w)], opsets=OPSETS, ir=8)
    del made.graph.input[:]
    made.graph.input.append(info("x", [None, inputs]))
    tool = quantiser.MatMulNBitsQuantizer(made, bits=bits, block_size=block, is_symmetric=symmetric)
    tool.process()
    made = tool.model.model
    site, found = read(made, tmp_path)
    assert site.op == "MatMulNBits"
    assert site.shape == (outputs, inputs)
    assert f"MatMulNBits(bits={bits}, block_size={block})" in site.stored
    (y,) = runtime(made, {"x": np.eye(inputs, dtype=np.float32)})
    np.testing.assert_allclose(found, y.T, rtol=0, atol=1e-6)
    out = tmp_path / "out" / "m.onnx"
    write_model(tmp_path / "m.onnx", {site.name: found}, out)
    assert out.read_bytes() == (tmp_path / "m.onnx").read_bytes()


def written_back(path: Path, folder: Path) -> bytes:
    with open_model(path) as opened:
        values = {name: found.values for name, found in opened.weights().items()}
    write_model(path, values, folder / "out" / "m.onnx")
    return (folder / "out" / "m.onnx").read_bytes()


CASES = {
    "QLinearConv": lambda: qlinear_conv(codes(np.int8), scales(8), np.zeros(8, np.int8)),
    "ConvInteger": lambda: integer_conv(np.uint8(120), mul("xs", "s", "xss"), mul("f", "xss", "y")),
    "ConvInteger, no scale": lambda: integer_conv(np.uint8(120), helper.make_node("Relu", ["f"], ["y"])),
}


@pytest.mark.parametrize("case", CASES)
def test_read_write_read_is_the_identity(tmp_path: Path, case: str) -> None:
    path = save(CASES[case](), tmp_path / "m.onnx")
    assert written_back(path, tmp_path) == path.read_bytes()


def test_codes_in_a_typed_field_are_replaced_by_codes(tmp_path: Path) -> None:
    made = qlinear_conv(codes(np.int8), scales(8), np.zeros(8, np.int8))
    w = codes(np.int8)
    (stored,) = [t for t in made.graph.initializer if t.name == "w"]
    stored.CopyFrom(helper.make_tensor("w", T.INT8, w.shape, w.reshape(-1).tolist()))
    path = save(made, tmp_path / "m.onnx")
    written_back(path, tmp_path)
    after = onnx.load(tmp_path / "out" / "m.onnx")
    (new,) = [t for t in after.graph.initializer if t.name == "w"]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(new), w)
    x = np.zeros((1, 4, 6, 6), np.uint8)
    np.testing.assert_array_equal(runtime(after, {"xq": x})[0], runtime(made, {"xq": x})[0])


def test_what_the_model_quantises_itself_and_has_no_bytes_cannot_be_written(tmp_path: Path) -> None:
    w = weights(*SHAPE)
    made = integer_conv(None, mul("f", "ws", "y"))
    made.graph.initializer.append(tensor("k1", w))
    made.graph.node.insert(0, helper.make_node("Neg", ["k1"], ["k"]))
    made.graph.node.insert(1, helper.make_node("DynamicQuantizeLinear", ["k"], ["kq", "ws", "wz"]))
    made.graph.node[3].input[1] = "kq"
    path = save(made, tmp_path / "m.onnx")
    with pytest.raises(WriteBackError, match="the file computes them with Neg; the model quantises them itself"):
        write_model(path, {"k1": w}, tmp_path / "out" / "m.onnx")


@pytest.mark.parametrize("shape", [(), (8,)], ids=str)
def test_codes_of_too_few_axes_are_a_problem(tmp_path: Path, shape) -> None:
    made = qlinear_conv(codes(np.int8, shape), scales(8), np.zeros(8, np.int8))
    assert "at least two axes" in problem(made, tmp_path)


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"bits": 3}, "MatMulNBits of 3 bits"),
        ({"block_size": 0}, "in blocks of 0"),
        ({"K": -1}, "-1 to 5"),
        ({"K": 2**62, "N": 2**62}, "do not hold"),
        ({"N": 6}, "do not hold 6 x 48 weights"),
    ],
)
def test_blockwise_products_that_contradict_themselves(tmp_path: Path, attributes, match: str) -> None:
    given = {"K": 48, "N": 5, "bits": 4, "block_size": 16} | attributes
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **given)
    inits = [tensor("w", codes(np.uint8, (5, 3, 8))), tensor("s", scales(5, 3))]
    assert match in problem(model([node], inits, opsets=OPSETS, ir=8), tmp_path)
