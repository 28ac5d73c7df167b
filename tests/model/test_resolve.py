"""Weights behind chains of operators: what we fold is what onnx's reference evaluator or ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

from onnxmark.errors import MalformedModel, ModelLimitError, WeightsUnresolved
from onnxmark.model import open_model
from tests.model.models import OPSETS, constant, conv, evaluated, info, model, runtime, save, tensor, weights

W = weights(8, 4, 3, 3)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return tensor(name, np.array(values, np.int64))


def node(op: str, inputs: str, out: str = "k", **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [out], **attributes)


def codes(low: int, high: int, dtype: object, shape=(8, 4, 3, 3)) -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, shape).astype(dtype)


def scales(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).uniform(0.01, 0.1, shape).astype(np.float32)


def packed(name: str, code: int, values: np.ndarray) -> onnx.TensorProto:
    return helper.make_tensor(name, code, values.shape, values.reshape(-1))


CHAINS = {
    "identity": ([node("Identity", "w")], [tensor("w", W)]),
    "cast from half": ([node("Cast", "w", to=T.FLOAT)], [tensor("w", W.astype(np.float16))]),
    "cast from double": ([node("Cast", "w", to=T.FLOAT)], [tensor("w", W.astype(np.float64))]),
    "cast from bfloat16": ([node("Cast", "w", to=T.FLOAT)], [packed("w", T.BFLOAT16, W)]),
    "cast from e4m3fn": ([node("Cast", "w", to=T.FLOAT)], [packed("w", T.FLOAT8E4M3FN, W)]),
    "cast from e4m3fnuz": ([node("Cast", "w", to=T.FLOAT)], [packed("w", T.FLOAT8E4M3FNUZ, W)]),
    "cast from e5m2": ([node("Cast", "w", to=T.FLOAT)], [packed("w", T.FLOAT8E5M2, W)]),
    "cast from e5m2fnuz": ([node("Cast", "w", to=T.FLOAT)], [packed("w", T.FLOAT8E5M2FNUZ, W)]),
    "cast from int32": ([node("Cast", "w", to=T.FLOAT)], [tensor("w", codes(-99, 99, np.int32))]),
    "cast to half and back": ([node("Cast", "w", "h", to=T.FLOAT16), node("Cast", "h", to=T.FLOAT)], [tensor("w", W)]),
    "cast to bfloat16 and back": (
        [node("Cast", "w", "h", to=T.BFLOAT16), node("Cast", "h", to=T.FLOAT)], [tensor("w", W)],
    ),
    "cast to float8 saturates": (
        [node("Cast", "w", "h", to=T.FLOAT8E4M3FN), node("Cast", "h", to=T.FLOAT)], [tensor("w", W * 400)],
    ),
    "cast like": ([node("CastLike", "w l")], [tensor("w", W.astype(np.float16)), tensor("l", np.float32(0))]),
    "transpose HWIO": ([node("Transpose", "w", perm=[3, 2, 0, 1])], [tensor("w", weights(3, 3, 4, 8))]),
    "transpose, no perm": ([node("Transpose", "w")], [tensor("w", weights(3, 3, 4, 8))]),
    "reshape": ([node("Reshape", "w s")], [tensor("w", W.reshape(8, 36)), ints("s", 0, 4, -1, 3)]),
    "reshape, computed target": (
        [node("Shape", "l", "a", start=1), node("Concat", "e a", "s", axis=0), node("Reshape", "w s")],
        [tensor("w", W.reshape(-1)), ints("e", 8), tensor("l", W)],
    ),
    "squeeze": ([node("Squeeze", "w a")], [tensor("w", W[None, :, :, None]), ints("a", 0, -3)]),
    "squeeze, all": ([node("Squeeze", "w")], [tensor("w", W[None, :, :, None])]),
    "unsqueeze": ([node("Unsqueeze", "w a")], [tensor("w", W[:, 0]), ints("a", 1)]),
    "flatten, reshape": (
        [node("Flatten", "w", "f", axis=2), node("Reshape", "f s")], [tensor("w", W), ints("s", 8, 4, 3, 3)],
    ),
    "concat": ([node("Concat", "a b", axis=-4)], [tensor("a", W[:3]), tensor("b", W[3:])]),
    "slice": (
        [node("Slice", "w s e a t")],
        [tensor("w", weights(20, 4, 3, 3)), ints("s", -2, 0), ints("e", 1, 99), ints("a", 0, 2), ints("t", -2, 1)],
    ),
    "slice to the front": (
        [node("Slice", "w s e a t")],
        [tensor("w", W), ints("s", -1), ints("e", -(2**63) + 1), ints("a", 0), ints("t", -1)],
    ),
    "expand": ([node("Expand", "w s")], [tensor("w", W[:, :1]), ints("s", 4, 1, 1)]),
    "weight norm": (
        [
            node("Mul", "w w", "q"), node("Sqrt", "v", "n"), node("Div", "w n", "u"),
            node("Mul", "u g"),
        ],
        [tensor("w", W), tensor("v", scales(8, 1, 1, 1)), tensor("g", scales(8, 1, 1, 1))],
    ),
    "batch norm left beside": (
        [
            node("Add", "v e", "ve"), node("Sqrt", "ve", "sd"), node("Div", "g sd", "s"),
            node("Unsqueeze", "s a", "s4"), node("Mul", "w s4"),
        ],
        [tensor("w", W), tensor("v", scales(8)), tensor("e", np.float32(1e-5)), tensor("g", scales(8)),
         ints("a", 1, 2, 3)],
    ),
    "sub, neg": ([node("Sub", "w b", "d"), node("Neg", "d")], [tensor("w", W), tensor("b", scales(1))]),
    "integer division truncates": (
        [node("Div", "w d", "q"), node("Cast", "q", to=T.FLOAT)],
        [tensor("w", codes(-99, 99, np.int32)), tensor("d", np.int32(-7))],
    ),
    "dequantize per tensor": (
        [node("DequantizeLinear", "w s z")],
        [tensor("w", codes(-128, 128, np.int8)), tensor("s", np.float32(0.03)), tensor("z", np.int8(5))],
    ),
    "dequantize without zero point": (
        [node("DequantizeLinear", "w s")], [tensor("w", codes(0, 256, np.uint8)), tensor("s", np.float32(0.03))],
    ),
    "dequantize per output channel": (
        [node("DequantizeLinear", "w s z", axis=0)],
        [tensor("w", codes(-128, 128, np.int8)), tensor("s", scales(8)), tensor("z", codes(-9, 9, np.int8, 8))],
    ),
    "dequantize per last axis": (
        [node("DequantizeLinear", "w s z", axis=-1)],
        [tensor("w", codes(0, 256, np.uint8)), tensor("s", scales(3)), tensor("z", codes(0, 9, np.uint8, 3))],
    ),
    "dequantize in blocks": (
        [node("DequantizeLinear", "w s z", axis=1, block_size=2)],
        [
            tensor("w", codes(-128, 128, np.int8)), tensor("s", scales(8, 2, 3, 3)),
            tensor("z", codes(-9, 9, np.int8, (8, 2, 3, 3))),
        ],
    ),
    "dequantize int4": (
        [node("DequantizeLinear", "w s z", axis=0)],
        [
            packed("w", T.INT4, codes(-8, 8, np.int32)), tensor("s", scales(8)),
            packed("z", T.INT4, codes(-3, 3, np.int32, (8,))),
        ],
    ),
    "dequantize uint4 in blocks": (
        [node("DequantizeLinear", "w s z", axis=0, block_size=4)],
        [
            packed("w", T.UINT4, codes(0, 16, np.int32)), tensor("s", scales(2, 4, 3, 3)),
            packed("z", T.UINT4, codes(0, 16, np.int32, (2, 4, 3, 3))),
        ],
    ),
    "dequantize int16": (
        [node("DequantizeLinear", "w s")], [tensor("w", codes(-9999, 9999, np.int16)), tensor("s", np.float32(0.03))],
    ),
    "dequantize float8": (
        [node("DequantizeLinear", "w s")], [packed("w", T.FLOAT8E4M3FN, W), tensor("s", np.float32(0.03))],
    ),
    "dequantize to half": (
        [node("DequantizeLinear", "w s", "h"), node("Cast", "h", to=T.FLOAT)],
        [tensor("w", codes(-128, 128, np.int8)), tensor("s", np.float16(0.03))],
    ),
    "quantize and back": (
        [node("QuantizeLinear", "w s z", "q", axis=0), node("DequantizeLinear", "q s z", axis=0)],
        [tensor("w", W), tensor("s", scales(8)), tensor("z", codes(-9, 9, np.int8, 8))],
    ),
    "Constant nodes": (
        [constant("w", W.reshape(-1)), constant("s", np.array([8, 4, 3, 3])), node("Reshape", "w s")], [],
    ),
    "value_floats and value_ints": (
        [
            helper.make_node("Constant", [], ["w"], value_floats=[float(v) for v in W.reshape(-1)]),
            helper.make_node("Constant", [], ["s"], value_ints=[8, 4, 3, 3]), node("Reshape", "w s"),
        ], [],
    ),
    "value_float and value_int": (
        [
            helper.make_node("Constant", [], ["f"], value_float=2.5),
            helper.make_node("Constant", [], ["i"], value_int=3),
            node("Mul", "w f", "m"), node("Cast", "i", "c", to=T.FLOAT), node("Add", "m c"),
        ], [tensor("w", W)],
    ),
    "ConstantOfShape": (
        [node("ConstantOfShape", "s", value=tensor("v", np.float32([0.25])))], [ints("s", 8, 4, 3, 3)],
    ),
    "ConstantOfShape, no value": ([node("ConstantOfShape", "s")], [ints("s", 8, 4, 3, 3)]),
}  # fmt: skip


@pytest.mark.parametrize("case", CHAINS)
def test_chain_folds_to_what_the_reference_computes(tmp_path: Path, case: str) -> None:
    chain, initializers = CHAINS[case]
    made = model([*chain, conv("k")], initializers)
    expected = evaluated(made, "k")
    with open_model(save(made, tmp_path / "m.onnx")) as opened:
        (site,) = opened.sites()
        assert site.problem is None
        found = opened.read(site)
    assert site.shape == found.shape == expected.shape
    assert found.values.dtype == np.float32
    assert not found.values.flags.writeable
    np.testing.assert_array_equal(found.values, expected.astype(np.float32))


@pytest.mark.parametrize(
    "case", [case for case in CHAINS if not any(word in case for word in ("e4m3", "e5m2", "float8", "int16"))]
)
def test_chain_folds_to_what_onnx_runtime_computes(tmp_path: Path, case: str) -> None:
    chain, initializers = CHAINS[case]
    made = model(chain, initializers, inputs=(), outputs=("k",), opsets=[helper.make_opsetid("", 21)], ir=10)
    (expected,) = runtime(made, {})
    path = save(model([*chain, conv("k")], initializers), tmp_path / "m.onnx")
    with open_model(path) as opened:
        found = opened.weights()
    (only,) = found.values()
    np.testing.assert_array_equal(only.values, expected)


def test_microsoft_dequantize(tmp_path: Path) -> None:
    chain = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["k"], domain="com.microsoft", axis=0)]
    inits = [tensor("w", codes(-128, 128, np.int8)), tensor("s", scales(8)), tensor("z", codes(-9, 9, np.int8, 8))]
    (expected,) = runtime(model(chain, inits, (), ("k",), opsets=[*OPSETS[1:], helper.make_opsetid("", 17)], ir=8), {})
    with open_model(save(model([*chain, conv("k")], inits), tmp_path / "m.onnx")) as opened:
        (only,) = opened.weights().values()
    np.testing.assert_array_equal(only.values, expected)


@pytest.mark.parametrize("linear", [True, False], ids=["linear indices", "coordinates"])
def test_sparse_initializer(tmp_path: Path, linear: bool) -> None:
    flat = np.array([0, 5, 17, 71])
    dims = [4, 2, 3, 3]
    indices = flat if linear else np.stack(np.unravel_index(flat, dims), 1)
    values = tensor("w", np.float32([1, -2, 3, 4]))
    sparse = helper.make_sparse_tensor(values, tensor("i", indices.astype(np.int64)), dims)
    with open_model(save(model([conv("w")], sparse=[sparse]), tmp_path / "m.onnx")) as opened:
        (only,) = opened.weights().values()
    expected = np.zeros(72, np.float32)
    expected[flat] = [1, -2, 3, 4]
    np.testing.assert_array_equal(only.values, expected.reshape(dims))


@pytest.mark.parametrize("indices", [[0, 72], [-1, 3], [[0, 0, 0, 3]] * 2], ids=str)
def test_sparse_indices_out_of_range_are_malformed(tmp_path: Path, indices: list) -> None:
    sparse = helper.make_sparse_tensor(
        tensor("w", np.float32([1, 2])), tensor("i", np.array(indices, np.int64)), [4, 2, 3, 3]
    )
    with open_model(save(model([conv("w")], sparse=[sparse]), tmp_path / "m.onnx")) as opened:
        (site,) = opened.sites()
        with pytest.raises(MalformedModel, match="indices outside"):
            opened.read(site)


def test_five_thousand_steps_are_no_recursion(tmp_path: Path) -> None:
    for op in ("Identity", "Neg"):
        chain = [helper.make_node(op, [f"v{i}"], [f"v{i + 1}"]) for i in range(5000)]
        with open_model(save(model([*chain, conv("v5000")], [tensor("v0", W)]), tmp_path / "m.onnx")) as opened:
            (only,) = opened.weights().values()
        np.testing.assert_array_equal(only.values, W)
        assert len(only.origin.stored) < 400


def test_doubling_chain_is_memoised(tmp_path: Path) -> None:
    """2^60 paths lead from the weights to the layer."""
    chain = [helper.make_node("Add", [f"v{i}", f"v{i}"], [f"v{i + 1}"]) for i in range(60)]
    made = model([*chain, conv("v60")], [tensor("v0", W)])
    with open_model(save(made, tmp_path / "m.onnx")) as opened:
        (only,) = opened.weights().values()
    np.testing.assert_array_equal(only.values, evaluated(made, "v60"))


def test_cycle_is_a_problem_not_a_loop(tmp_path: Path) -> None:
    made = model([node("Neg", "b", "a"), node("Neg", "a", "b"), conv("b")])
    with open_model(save(made, tmp_path / "m.onnx")) as opened:
        (site,) = opened.sites()
        assert "computed from itself" in (site.problem or "")


@pytest.mark.parametrize(
    ("chain", "inits", "match"),
    [
        ([node("Foo", "w")], [tensor("w", W)], "passes through op 'Foo'"),
        ([node("Reshape", "w s")], [tensor("w", W), ints("s", 7, 7, 7)], r"turns \(8, 4, 3, 3\) into \(7, 7, 7\)"),
        ([node("Transpose", "w", perm=[0, 0, 1, 2])], [tensor("w", W)], r"perm \(0, 0, 1, 2\)"),
        ([node("Mul", "w s")], [tensor("w", W), tensor("s", np.ones(5, np.float32))], "combines the shapes"),
        ([node("DequantizeLinear", "w s", axis=0)], [tensor("w", W), tensor("s", scales(3))], "has a scale of shape"),
        ([], [], "nothing in the file is named 'k'"),
        ([node("Neg", "x")], [], "the graph input 'x' is not stored"),
        ([node("Identity", "w")], [helper.make_tensor("w", T.STRING, [1, 1, 1], [b"a"])], "elements of string"),
        ([node("Concat", "w v", axis=1)], [tensor("w", W), tensor("v", W[:3])], "do not fit"),
        ([node("Unsqueeze", "w s")], [tensor("w", W), ints("s", 9)], "has the axes"),
        ([helper.make_node("Constant", [], ["k"], value_string=b"text")], [], "holds no numbers"),
        ([node("ConstantOfShape", "s")], [ints("s", -1, 3, 3)], "ConstantOfShape"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, chain, inits, match: str) -> None:
    with open_model(save(model([*chain, conv("k")], inits), tmp_path / "m.onnx")) as opened:
        (site,) = opened.sites()
        assert site.problem is not None
        assert len(opened.weights()) == 0
        with pytest.raises(WeightsUnresolved, match=match):
            opened.read(site)


def test_limit_on_one_tensor(tmp_path: Path) -> None:
    with open_model(save(model([conv("w")], [tensor("w", W)]), tmp_path / "m.onnx"), limit=W.nbytes - 1) as opened:
        (site,) = opened.sites()
        with pytest.raises(ModelLimitError, match="raise the limit"):
            opened.read(site)


def test_constant_of_shape_bomb_is_refused(tmp_path: Path) -> None:
    made = model([node("ConstantOfShape", "s"), conv("k")], [ints("s", 2**40, 2**20, 3)])
    with open_model(save(made, tmp_path / "m.onnx")) as opened:
        (site,) = opened.sites()
        assert site.shape == (2**40, 2**20, 3)
        with pytest.raises(ModelLimitError, match="raise the limit"):
            opened.read(site)


def test_weights_as_named(tmp_path: Path) -> None:
    made = model(
        [conv("a", out="m"), conv("b", "m", name="other")],
        [tensor("a", W), tensor("b", weights(2, 8, 1, 1))],
        [info("x").name],
    )
    with open_model(save(made, tmp_path / "m.onnx")) as opened:
        assert list(opened.weights()) == ["a", "b"]
        assert list(opened.weights(["b"])) == ["b"]
        with pytest.raises(WeightsUnresolved, match="no layer's weights are called 'c'"):
            opened.weights(["c"])
