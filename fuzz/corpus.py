"""What mutation starts from: small models made here, and the small ones of installed packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSETS: Final = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("f", 1)]
_MOST: Final = 4096


def models() -> list[bytes]:
    """Models made here: every stored form the reader knows, each as small as it can be."""
    return [model.SerializeToString() for model in (*_plain(), *_stored(), *_integer(), *_structured())]


def external_models() -> list[bytes]:
    """Models whose weights lie in the files of :func:`fuzz.targets.external_folder`."""
    return [
        _external(location, offset, length).SerializeToString()
        for location, offset, length in (
            ("d", "16", "144"), ("sub/d", "0", "144"), ("soft", None, None), ("hard", "880", "144"),
            ("out", "0", "144"), ("../x", None, None), ("fifo", None, None), ("loop", "0", None),
            ("up/secret", "0", "144"), ("dir", "1", "1"), ("device", "0", "144"), ("empty", "0", "0"),
            ("d", "881", "144"),
        )
    ]  # fmt: skip


def installed_models() -> list[bytes]:
    """Small models of installed packages: onnx's backend tests, and whatever the packages of the tests hold."""
    found = []
    for package in ("onnx", "onnxruntime", "rapidocr-onnxruntime", "silero-vad"):
        try:
            entries = files(package) or []
        except PackageNotFoundError:
            continue
        for entry in entries:
            path = Path(str(entry.locate()))
            if path.suffix == ".onnx" and path.is_file() and path.stat().st_size <= _MOST:
                found.append(path.read_bytes())
    return found


def _tensor(name: str, *shape: int, dtype: str = "float32") -> TensorProto:
    values = np.arange(int(np.prod(shape))).reshape(shape) % 7 - 3
    return numpy_helper.from_array(values.astype(dtype), name)


def _numbers(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _node(op: str, inputs: str, outputs: str, domain: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(","), outputs.split(","), domain=domain, **attributes)


def _model(nodes: list[onnx.NodeProto], tensors: list[Any], functions: Any = (), sparse: Any = ()) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", [], [], tensors, sparse_initializer=list(sparse))
    made = helper.make_model(graph, opset_imports=_OPSETS[: 3 if functions else 1], functions=list(functions))
    made.graph.input.add(name="x")
    made.graph.output.add(name="y")
    return made


def _plain() -> list[onnx.ModelProto]:
    weights = _tensor("w", 2, 2, 1, 1)
    return [
        _model([_node("Conv", "x,w", "y")], [weights]),
        _model([_node("Conv", "x,w,b", "y", group=2)], [weights, _tensor("b", 2)]),
        _model([_node("ConvTranspose", "x,w", "y", group=2)], [weights]),
        _model([_node("Gemm", "x,w", "y", transB=1)], [_tensor("w", 2, 3)]),
        _model([_node("MatMul", "x,w", "y")], [_tensor("w", 1, 2, 3)]),
        _model([_node("FusedConv", "x,w", "y", "com.microsoft", activation="Relu")], [weights]),
        _model([_node("Conv", "x,w", "y"), _node("Conv", "y,w", "z")], [_tensor("w", 2, 2, 1)]),
        _model(
            [_node("Conv", "x,w", "h"), _node("BatchNormalization", "h,s,b,m,v", "y", epsilon=1e-3)],
            [weights, *(_tensor(name, 2) for name in "sbmv")],
        ),
    ]


def _stored() -> list[onnx.ModelProto]:
    conv, deq = _node("Conv", "x,w", "y"), _node("DequantizeLinear", "q,s,z", "w", axis=0)
    packed = helper.make_tensor("w", TensorProto.FLOAT16, [1, 1, 2], [1, 2])
    loose = TensorProto(name="w", data_type=TensorProto.INT32, dims=[1, 1, 3], int32_data=[1, 200, -1])
    int4 = helper.make_tensor("q", TensorProto.INT4, [2, 1, 2], [1, -2, 3, -4])
    zero4 = helper.make_tensor("z", TensorProto.INT4, [2], [0, 1])
    values, indices = _tensor("w", 2), numpy_helper.from_array(np.array([0, 3]), "i")
    flat = helper.make_sparse_tensor(values, indices, [1, 2, 2])
    pairs = helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros((2, 3), np.int64), "i"), [1, 2, 2])
    return [
        _model([conv], [packed]),
        _model([_node("Cast", "v", "w", to=1), conv], [_renamed(loose, "v")]),
        _model([deq, conv], [_tensor("q", 2, 1, 1, dtype="int8"), _tensor("s", 2), _tensor("z", 2, dtype="int8")]),
        _model([deq, conv], [int4, _tensor("s", 2), zero4]),
        _model([_node("QuantizeLinear", "v,s", "q"), _node("DequantizeLinear", "q,s", "w"), conv],
               [_tensor("v", 2, 1, 1), _tensor("s")]),
        _model([_node("DequantizeLinear", "q,s", "w", axis=2, block_size=2), conv],
               [_tensor("q", 1, 1, 4, dtype="uint8"), _tensor("s", 1, 1, 2)]),
        _model([conv], [], sparse=[flat]),
        _model([conv], [], sparse=[pairs]),
        _model([helper.make_node("Constant", [], ["w"], sparse_value=flat), conv], []),
        _model([helper.make_node("Constant", [], ["w"], value=_tensor("", 1, 1, 2)), conv], []),
        _model([helper.make_node("Constant", [], ["v"], value_floats=[1.0, 2.0]), _node("Unsqueeze", "v,a", "w"), conv],
               [_numbers("a", 0, 1)]),
        _model([_node("ConstantOfShape", "s", "w", value=helper.make_tensor("", 1, [1], [2.0])), conv],
               [_numbers("s", 2, 2, 1, 1)]),
    ]  # fmt: skip


def _integer() -> list[onnx.ModelProto]:
    codes, scale, zero = _tensor("w", 2, 2, 1, 1, dtype="int8"), _tensor("s", 2), _tensor("z", 2, dtype="int8")
    blocks = _tensor("w", 4, 1, 8, dtype="uint8")
    return [
        _model([_node("ConvInteger", "x,w,xz,z", "y")], [codes, zero]),
        _model([_node("QLinearConv", "x,xs,xz,w,s,z,ys,yz", "y")], [codes, scale, zero]),
        _model([_node("MatMulInteger", "x,w,xz,z", "y")], [_tensor("w", 3, 2, dtype="uint8"), zero]),
        _model([_node("MatMulNBits", "x,w,s", "y", "com.microsoft", K=16, N=4, bits=4, block_size=16)],
               [blocks, _tensor("s", 4)]),
        _model([_node("NhwcConv", "x,w", "y", "com.microsoft")], [_tensor("w", 2, 1, 1, 2)]),
        _model([_node("Conv", "x,w", "y", "com.microsoft.nchwc")], [_tensor("w", 8, 1, 1, 8)]),
        _model([_node("FusedMatMul", "x,w", "y", "com.microsoft", transB=1)], [_tensor("w", 2, 3)]),
        _model([_node("DynamicQuantizeMatMul", "x,w,s,z", "y", "com.microsoft")],
               [_tensor("w", 3, 2, dtype="int8"), scale, zero]),
        _model([_node("QGemm", "x,xs,xz,w,s,z", "y", "com.microsoft", transB=1)],
               [_tensor("w", 2, 3, dtype="int8"), scale, zero]),
    ]  # fmt: skip


def _structured() -> list[onnx.ModelProto]:
    conv, weights = _node("Conv", "x,w", "y"), _tensor("v", 2, 2, 1, 1)
    inner = helper.make_graph([_node("Conv", "x,k", "t")], "t", [], [], [_tensor("k", 1, 1, 1)])
    function = helper.make_function("f", "F", ["a", "b"], ["o"], [_node("Conv", "a,b", "o")], _OPSETS[:1])
    passing = helper.make_function("f", "F", ["a"], ["o"], [_node("Identity", "a", "o")], _OPSETS[:1])
    chains: list[list[onnx.NodeProto]] = [
        [_node("Transpose", "v", "w", perm=[1, 0, 3, 2])],
        [_node("Reshape", "v,n", "w")],
        [_node("Squeeze", "v", "s"), _node("Unsqueeze", "s,m", "w")],
        [_node("Concat", "v,v", "w", axis=1)],
        [_node("Slice", "v,n,n", "w")],
        [_node("Slice", "v,m,e,m,o", "w")],
        [_node("Expand", "v,n", "w")],
        [_node("Mul", "v,v", "a"), _node("Add", "a,v", "b"), _node("Div", "b,v", "c"), _node("Sub", "c,a", "w")],
        [_node("Neg", "v", "a"), _node("Sqrt", "a", "w")],
        [_node("Flatten", "v", "a"), _node("Reshape", "a,n", "w")],
        [_node("Shape", "v", "n2"), _node("ConstantOfShape", "n2", "w")],
        [_node("CastLike", "v,h", "a"), _node("Cast", "a", "w", to=16)],
        [_node("Cast", "v", "a", to=17), _node("Cast", "a", "w", to=1)],
        [_node("Identity", "v", "w")],
    ]
    extra = [_numbers("n", 2, 2, 1, 1), _numbers("m", 2, 3), _numbers("e", 9, 9), _numbers("o", 1, 1)]
    made = [_model([*chain, conv], [weights, *extra, _tensor("h", 1, dtype="float16")]) for chain in chains]
    return [
        *made,
        _model([_node("If", "c", "y", then_branch=inner, else_branch=inner)], [_tensor("k", 1)]),
        _model([_node("F", "x,v", "y", "f")], [weights], functions=[function]),
        _model([_node("F", "v", "w", "f"), conv], [weights], functions=[passing]),
    ]


def _renamed(tensor: TensorProto, name: str) -> TensorProto:
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _external(location: str, offset: str | None, length: str | None) -> onnx.ModelProto:
    stored = TensorProto(name="w", data_type=1, dims=[2, 2, 3, 3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            stored.external_data.add(key=key, value=value)
    return _model([_node("Conv", "x,w", "y")], [stored])
