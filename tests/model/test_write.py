"""Weights written back: what is read again is what was written, and no other byte has moved."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from onnxmark.errors import ExternalDataError, WriteBackError
from onnxmark.model import open_model, write_model
from tests.model.models import (
    OPSETS,
    block,
    constant,
    conv,
    info,
    model,
    number,
    runtime,
    save,
    tensor,
    varint,
    weights,
)
from tests.model.test_resolve import CHAINS, codes, ints, node, packed, scales

W = weights(8, 4, 3, 3)
NEW = weights(8, 4, 3, 3, seed=9)
PLAIN = {"opsets": OPSETS[:1], "ir": 10}


def values_of(path: Path) -> dict[str, np.ndarray]:
    with open_model(path) as opened:
        return {name: found.values for name, found in opened.weights().items()}


def sole(path: Path) -> np.ndarray:
    (only,) = values_of(path).values()
    return only


def changed_bytes(before: Path, after: Path) -> np.ndarray:
    one, other = np.fromfile(before, np.uint8), np.fromfile(after, np.uint8)
    assert len(one) == len(other)
    return np.flatnonzero(one != other)


def unpacked_floats(values: np.ndarray) -> bytes:
    dims = b"".join(number(1, size) for size in values.shape)
    pieces = b"".join(varint(4 << 3 | 5) + struct.pack("<f", v) for v in values.reshape(-1))
    node = block(1, block(1, b"x") + block(1, b"w") + block(2, b"y") + block(4, b"Conv"))
    io = block(11, block(1, b"x")) + block(12, block(1, b"y"))
    return number(1, 8) + block(7, node + block(5, dims + number(2, T.FLOAT) + pieces + block(8, b"w")) + io)


EXACT = {
    "raw": model([conv("w")], [tensor("w", W)], **PLAIN),
    "float_data": model([conv("w")], [helper.make_tensor("w", T.FLOAT, W.shape, W.reshape(-1))], **PLAIN),
    "Constant node": model([constant("w", W), conv("w")], **PLAIN),
    "value_floats": model(
        [
            helper.make_node("Constant", [], ["f"], value_floats=[float(v) for v in W.reshape(-1)]),
            node("Reshape", "f s", "w"), conv("w"),
        ], [ints("s", 8, 4, 3, 3)], **PLAIN,
    ),
    "HWIO behind Identity, Transpose, Reshape": model(
        [
            node("Identity", "h", "i"), node("Reshape", "i s", "r"), node("Transpose", "r", "w", perm=[3, 2, 0, 1]),
            node("Unsqueeze", "w a", "u"), node("Squeeze", "u a", "q"), conv("q"),
        ], [tensor("h", weights(9, 32)), ints("s", 3, 3, 4, 8), ints("a", 0)], **PLAIN,
    ),
    "double, cast": model(
        [node("Cast", "d", "w", to=T.FLOAT), conv("w")], [tensor("d", W.astype(np.float64))], **PLAIN,
    ),
    "double_data, cast": model(
        [node("Cast", "d", "w", to=T.FLOAT), conv("w")],
        [helper.make_tensor("d", T.DOUBLE, W.shape, W.reshape(-1))], **PLAIN,
    ),
    "in a subgraph": model(
        [helper.make_node(
            "If", ["c"], ["y"], name="if",
            then_branch=helper.make_graph([constant("k", W), conv("k", out="t")], "t", [], [info("t")]),
            else_branch=helper.make_graph([node("Relu", "x", "e")], "e", [], [info("e")]),
        )], **PLAIN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EXACT)
def test_read_write_read_is_the_identity(tmp_path: Path, case: str) -> None:
    source = save(EXACT[case], tmp_path / "m.onnx")
    copy = tmp_path / "copy.onnx"
    write_model(source, values_of(source), copy)
    assert copy.read_bytes() == source.read_bytes()
    (name,) = values_of(source)
    write_model(source, {name: NEW}, copy)
    np.testing.assert_array_equal(sole(copy), NEW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.onnx", "m.onnx"]


@pytest.mark.parametrize("case", EXACT)
def test_only_the_tensor_changes(tmp_path: Path, case: str) -> None:
    """Nowhere but in the tensor's own bytes, by onnx's account of where they are: equal messages but for it."""
    source = save(EXACT[case], tmp_path / "m.onnx")
    (name,) = values_of(source)
    write_model(source, {name: NEW}, tmp_path / "copy.onnx")
    with open_model(source) as opened:
        leaf = opened.sites()[0]
        plan = leaf.plan
        while hasattr(plan, "arguments"):
            plan = plan.arguments[0]
        ((start, size, stride, count),) = plan.tensor.runs
    changed = changed_bytes(source, tmp_path / "copy.onnx")
    assert len(changed) > 500
    assert start <= changed.min()
    assert changed.max() < start + stride * (count - 1) + size


def test_unpacked_floats_keep_their_tags(tmp_path: Path) -> None:
    values = weights(2, 2, 2, 1)
    (tmp_path / "m.onnx").write_bytes(unpacked_floats(values))
    np.testing.assert_array_equal(sole(tmp_path / "m.onnx"), values)
    write_model(tmp_path / "m.onnx", {"w": values + 1}, tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == unpacked_floats(values + 1)


def test_transposed_convolution_with_groups(tmp_path: Path) -> None:
    made = model([helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2)], [tensor("w", weights(4, 3, 3, 3))])
    source = save(made, tmp_path / "m.onnx")
    new = weights(6, 2, 3, 3, seed=9)
    write_model(source, {"w": new}, tmp_path / "copy.onnx")
    np.testing.assert_array_equal(sole(tmp_path / "copy.onnx"), new)
    stored = numpy_helper.to_array(onnx.load(str(tmp_path / "copy.onnx")).graph.initializer[0])
    np.testing.assert_array_equal(stored[2:, 0], new[3:].transpose(1, 0, 2, 3)[:, 0])


@pytest.mark.parametrize(
    "made",
    [
        model([helper.make_node("Gemm", ["x", "w"], ["y"])], [tensor("w", weights(5, 3))], **PLAIN),
        model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor("w", weights(1, 5, 3))], **PLAIN),
    ],
    ids=["Gemm", "MatMul"],
)
def test_dense_layers_compute_with_the_new_weights(tmp_path: Path, made: onnx.ModelProto) -> None:
    source, new, x = save(made, tmp_path / "m.onnx"), weights(3, 5, seed=9), weights(2, 5, seed=3)
    write_model(source, {"w": new}, tmp_path / "copy.onnx")
    (found,) = runtime(str(tmp_path / "copy.onnx"), {"x": x})
    np.testing.assert_allclose(found.reshape(2, 3), x @ new.T, atol=1e-5)


@pytest.mark.parametrize("case", ["raw", "float_data", "Constant node", "HWIO behind Identity, Transpose, Reshape"])
def test_onnx_runtime_computes_with_the_new_weights(tmp_path: Path, case: str) -> None:
    source = save(EXACT[case], tmp_path / "m.onnx")
    (name,) = values_of(source)
    write_model(source, {name: NEW}, tmp_path / "copy.onnx")
    x = weights(1, 4, 6, 6, seed=3)
    (expected,) = runtime(model([conv("w")], [tensor("w", NEW)], **PLAIN), {"x": x})
    (found,) = runtime(str(tmp_path / "copy.onnx"), {"x": x})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("code", "half_step"), [(T.FLOAT16, 2**-11), (T.BFLOAT16, 2**-8), (T.FLOAT8E4M3FN, 2**-4), (T.FLOAT8E5M2, 2**-3)]
)
def test_narrow_floats_are_rounded_to_nearest(tmp_path: Path, code: int, half_step: float) -> None:
    stored = numpy_helper.from_array(numpy_helper.to_array(packed("n", code, W)), "n")
    made = model([node("Cast", "n", "w", to=T.FLOAT), conv("w")], [stored])
    source = save(made, tmp_path / "m.onnx")
    write_model(source, {"n": NEW}, tmp_path / "copy.onnx")
    found = sole(tmp_path / "copy.onnx")
    big = np.abs(NEW) > 2**-6
    assert (np.abs(found - NEW)[big] <= half_step * np.abs(NEW)[big]).all()
    rounded = numpy_helper.to_array(packed("n", code, NEW)).astype(np.float32)
    np.testing.assert_array_equal(found, rounded)
    assert (tmp_path / "copy.onnx").stat().st_size == source.stat().st_size


@pytest.mark.parametrize("case", [case for case in CHAINS if case.startswith("dequantize")])
def test_quantised_weights_take_the_nearest_code(tmp_path: Path, case: str) -> None:
    """Against what onnx's own QuantizeLinear and DequantizeLinear make of the new values, with the same scales."""
    from onnx.reference import ReferenceEvaluator

    chain, initializers = CHAINS[case]
    stored = [numpy_helper.from_array(numpy_helper.to_array(t), t.name) for t in initializers]
    source = save(model([*chain, conv("k")], stored), tmp_path / "m.onnx")
    old = sole(source)
    new = (NEW / np.abs(NEW).max() * np.abs(old).max() * 0.9).astype(np.float32)
    write_model(source, {"w": new}, tmp_path / "copy.onnx")
    found = sole(tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").stat().st_size == source.stat().st_size

    back = chain[0]
    quantise = helper.make_node("QuantizeLinear", ["new", "s", "z"], ["w"])
    quantise.attribute.extend(back.attribute)
    rest = [t for t in stored if t.name != "w"]
    if len(back.input) == 2:
        scale = numpy_helper.to_array(rest[0])
        rest.append(helper.make_tensor("z", stored[0].data_type, scale.shape, np.zeros(scale.size)))
    wide = numpy_helper.to_array(rest[0]).dtype
    made = model([quantise, *chain], [*rest, tensor("new", new.astype(wide))], (), ("k",))
    (expected,) = ReferenceEvaluator(made).run(None, {})
    # A tie may fall either way where the reference divides in the scale's own precision: one step, at very few places.
    differs = found != expected.astype(np.float32)
    assert differs.mean() < (0.02 if wide == np.float16 else 1e-9)

    write_model(tmp_path / "copy.onnx", {"w": found}, tmp_path / "again.onnx")
    np.testing.assert_array_equal(sole(tmp_path / "again.onnx"), found)


def test_float_weights_under_fake_quantisation_stay_exact(tmp_path: Path) -> None:
    chain, initializers = CHAINS["quantize and back"]
    source = save(model([*chain, conv("k")], initializers), tmp_path / "m.onnx")
    write_model(source, {"w": NEW}, tmp_path / "copy.onnx")
    stored = onnx.load(str(tmp_path / "copy.onnx")).graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(stored), NEW)


REPLACED = {
    "product": ([node("Mul", "w s", "k")], [tensor("w", W), tensor("s", scales(8, 1, 1, 1))], ["k"], []),
    "ConstantOfShape": ([node("ConstantOfShape", "s", "k")], [ints("s", 8, 4, 3, 3)], ["k"], []),
    "integers in a varint field": (
        [node("DequantizeLinear", "w s", "k")],
        [helper.make_tensor("w", T.INT8, W.shape, codes(-9, 9, np.int8).reshape(-1)), tensor("s", np.float32(1))],
        ["k"], [],
    ),
    "joined": ([node("Concat", "w v", "k", axis=0)], [tensor("w", W[:3]), tensor("v", W[3:])], ["k"], []),
    "half, in a varint field": (
        [node("Cast", "w", "k", to=T.FLOAT)], [helper.make_tensor("w", T.FLOAT16, W.shape, W.reshape(-1))], ["k"], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REPLACED)
@pytest.mark.parametrize("ir", [3, 10])
def test_weights_without_bytes_of_their_own_are_replaced(tmp_path: Path, case: str, ir: int) -> None:
    chain, initializers, *_ = REPLACED[case]
    made = model(
        [*chain, conv("k")], initializers, opsets=OPSETS[:1] if ir > 3 else [helper.make_opsetid("", 13)], ir=ir
    )
    if ir == 3:
        made.graph.input.extend(info(t.name, list(t.dims), t.data_type) for t in initializers)
    source = save(made, tmp_path / "m.onnx")
    (name,) = values_of(source)
    write_model(source, {name: NEW}, tmp_path / "copy.onnx")
    assert list(values_of(tmp_path / "copy.onnx")) == [name]
    np.testing.assert_array_equal(sole(tmp_path / "copy.onnx"), NEW)
    left = onnx.load(str(tmp_path / "copy.onnx")).graph
    assert [n.op_type for n in left.node] == ["Conv"]
    assert len(left.initializer) == 1, "the old weights must not stay behind"
    x = weights(1, 4, 6, 6, seed=3)
    (expected,) = runtime(model([conv("w")], [tensor("w", NEW)], **PLAIN), {"x": x})
    np.testing.assert_array_equal(runtime(str(tmp_path / "copy.onnx"), {"x": x})[0], expected)


def test_replacing_leaves_what_others_use(tmp_path: Path) -> None:
    nodes = [node("Mul", "w s", "k"), conv("k", out="a", name="one"), node("Mul", "a s", "y")]
    source = save(model(nodes, [tensor("w", W), tensor("s", scales(1))], **PLAIN), tmp_path / "m.onnx")
    write_model(source, {"w": NEW}, tmp_path / "copy.onnx")
    left = onnx.load(str(tmp_path / "copy.onnx")).graph
    assert [n.op_type for n in left.node] == ["Conv", "Mul"]
    assert sorted(t.name for t in left.initializer) == ["s", "w"]


def test_several_weights_are_replaced_at_once(tmp_path: Path) -> None:
    """Removing what computed the first must not shift the second, nor lose one of two nodes that share weights."""
    nodes = [
        node("Neg", "w", "k"), conv("k", out="a", name="one", pads=[1] * 4),
        node("Neg", "v", "l"), conv("l", "a", "b", name="two", pads=[1] * 4), conv("l", "b", "y", name="three"),
    ]  # fmt: skip
    square = weights(8, 8, 3, 3)
    source = save(model(nodes, [tensor("w", W), tensor("v", square)], **PLAIN), tmp_path / "m.onnx")
    write_model(source, {"w": NEW, "v": square * 3}, tmp_path / "copy.onnx")
    found = values_of(tmp_path / "copy.onnx")
    np.testing.assert_array_equal(found["w"], NEW)
    np.testing.assert_array_equal(found["v"], square * 3)
    with open_model(tmp_path / "copy.onnx") as opened:
        assert [site.nodes for site in opened.sites()] == [("one",), ("two", "three")]
        assert [n.op_type for n in opened.graph.root.nodes] == ["Conv"] * 3


def test_a_model_only_we_can_read_is_not_rewritten(tmp_path: Path) -> None:
    """A type description is broken, which we never look at and onnx does."""
    source = save(model([node("Neg", "w", "k"), conv("k")], [tensor("w", W)]), tmp_path / "m.onnx")
    broken = block(7, block(13, block(2, b"\x0f")))
    source.write_bytes(source.read_bytes() + broken)
    np.testing.assert_array_equal(sole(source), -W)
    with pytest.raises(WriteBackError, match="onnx cannot read the model"):
        write_model(source, {"w": NEW}, tmp_path / "copy.onnx")
    assert list(tmp_path.iterdir()) == [source]


def test_replacing_inside_a_subgraph(tmp_path: Path) -> None:
    then = helper.make_graph([node("Mul", "w s", "k"), conv("k", out="t")], "t", [], [info("t")])
    other = helper.make_graph([node("Relu", "x", "e")], "e", [], [info("e")])
    made = model(
        [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
        [tensor("w", W), tensor("s", scales(8, 1, 1, 1))], inputs=("x",), **PLAIN,
    )  # fmt: skip
    made.graph.input.append(info("c", [], T.BOOL))
    source = save(made, tmp_path / "m.onnx")
    write_model(source, {"w": NEW}, tmp_path / "copy.onnx")
    np.testing.assert_array_equal(sole(tmp_path / "copy.onnx"), NEW)
    x = weights(1, 4, 6, 6, seed=3)
    (expected,) = runtime(model([conv("w")], [tensor("w", NEW)], **PLAIN), {"x": x})
    (found,) = runtime(str(tmp_path / "copy.onnx"), {"x": x, "c": np.array(True)})
    np.testing.assert_array_equal(found, expected)


def test_replacing_inside_a_function_is_refused(tmp_path: Path) -> None:
    body = [constant("k", W), node("Neg", "k", "n"), conv("n", "a", "o")]
    function = helper.make_function("f", "F", ["a"], ["o"], body, [helper.make_opsetid("", 17)])
    source = save(model([helper.make_node("F", ["x"], ["y"], domain="f")], functions=[function]), tmp_path / "m.onnx")
    with pytest.raises(WriteBackError, match="inside a function"):
        write_model(source, {"k": NEW}, tmp_path / "copy.onnx")
    assert list(tmp_path.iterdir()) == [source]


def test_a_tensor_two_layers_read_differently_is_not_changed_for_both(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["a"]), helper.make_node("Gemm", ["a", "w"], ["y"], transB=1)]
    source = save(model(nodes, [tensor("w", weights(3, 3))], **PLAIN), tmp_path / "m.onnx")
    new = weights(3, 3, seed=9)
    write_model(source, {"w": new}, tmp_path / "copy.onnx")
    found = values_of(tmp_path / "copy.onnx")
    np.testing.assert_array_equal(found["w.marked"], new)
    np.testing.assert_array_equal(found["w"], weights(3, 3))


def external_model(directory: Path) -> Path:
    directory.mkdir(parents=True)
    made = model(
        [conv("w", out="a"), conv("v", "a", name="second")], [tensor("w", W), tensor("v", weights(3, 8, 2, 2))], **PLAIN
    )
    onnx.save_model(
        made, str(directory / "m.onnx"), save_as_external_data=True, location="m.onnx.data", size_threshold=0
    )
    return directory / "m.onnx"


def test_external_data_are_copied_and_patched(tmp_path: Path) -> None:
    source = external_model(tmp_path / "in")
    before = (tmp_path / "in" / "m.onnx.data").read_bytes()
    out = tmp_path / "out" / "deep" / "copy.onnx"
    write_model(source, {"w": NEW}, out)
    found = values_of(out)
    np.testing.assert_array_equal(found["w"], NEW)
    np.testing.assert_array_equal(found["v"], weights(3, 8, 2, 2))
    assert (tmp_path / "in" / "m.onnx.data").read_bytes() == before
    assert out.read_bytes() == source.read_bytes()
    x = weights(1, 4, 6, 6, seed=3)
    runtime(str(out), {"x": x})
    assert sorted(path.name for path in out.parent.iterdir()) == ["copy.onnx", "m.onnx.data"]


def test_external_data_are_never_overwritten(tmp_path: Path) -> None:
    source = external_model(tmp_path / "in")
    with pytest.raises(WriteBackError, match="same directory would share with the original"):
        write_model(source, {"w": NEW}, tmp_path / "in" / "copy.onnx")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "m.onnx.data").write_bytes(b"someone else's")
    with pytest.raises(WriteBackError, match="in the way of the copy's data file"):
        write_model(source, {"w": NEW}, tmp_path / "out" / "copy.onnx")
    assert (tmp_path / "out" / "m.onnx.data").read_bytes() == b"someone else's"
    with pytest.raises(WriteBackError, match="in the way"):
        write_model(source, {"w": NEW}, tmp_path / "new" / "m.onnx.data")


def test_inline_weights_beside_external_ones_may_be_copied_in_place(tmp_path: Path) -> None:
    source = external_model(tmp_path / "in")
    made = onnx.load(str(source), load_external_data=False)
    made.graph.initializer[0].CopyFrom(tensor("w", W))
    save(made, source)
    write_model(source, {"w": NEW}, tmp_path / "in" / "copy.onnx")
    found = values_of(tmp_path / "in" / "copy.onnx")
    np.testing.assert_array_equal(found["w"], NEW)
    np.testing.assert_array_equal(found["v"], weights(3, 8, 2, 2))


def test_missing_external_data_stop_the_copy(tmp_path: Path) -> None:
    source = external_model(tmp_path / "in")
    (tmp_path / "in" / "m.onnx.data").unlink()
    made = onnx.load(str(source), load_external_data=False)
    made.graph.initializer[0].CopyFrom(tensor("w", W))
    save(made, source)
    with pytest.raises(ExternalDataError, match="not beside the model"):
        write_model(source, {"w": NEW}, tmp_path / "out" / "copy.onnx")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("link", [None, os.symlink, os.link], ids=["itself", "symbolic link", "hard link"])
def test_the_model_itself_is_never_overwritten(tmp_path: Path, link) -> None:
    source = save(EXACT["raw"], tmp_path / "m.onnx")
    out = source
    if link is not None:
        out = tmp_path / "link.onnx"
        link(source, out)
    with pytest.raises(WriteBackError, match="is the model itself"):
        write_model(source, {"w": NEW}, out)
    np.testing.assert_array_equal(sole(source), W)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"other": NEW}, "no layer whose weights are called 'other'"),
        ({"w": NEW[:3]}, r"are float32 \(8, 4, 3, 3\), but float32 \(3, 4, 3, 3\)"),
        ({"w": NEW.astype(np.float64)}, "but float64"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, values: dict, match: str) -> None:
    source = save(EXACT["raw"], tmp_path / "m.onnx")
    with pytest.raises(WriteBackError, match=match):
        write_model(source, values, tmp_path / "copy.onnx")


def test_absent_weights_are_refused(tmp_path: Path) -> None:
    source = save(model([conv("w")], inputs=("x", "w")), tmp_path / "m.onnx")
    with pytest.raises(WriteBackError, match="cannot be written: the graph input 'w'"):
        write_model(source, {"w": NEW}, tmp_path / "copy.onnx")


def test_nowhere_to_write(tmp_path: Path) -> None:
    source = save(EXACT["raw"], tmp_path / "m.onnx")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteBackError, match="cannot be written"):
        write_model(source, {"w": NEW}, tmp_path / "file" / "copy.onnx")
    (tmp_path / "dir").mkdir()
    with pytest.raises(WriteBackError, match="cannot be written"):
        write_model(source, {"w": NEW}, tmp_path / "dir")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir", "file", "m.onnx"]


def test_an_older_copy_is_replaced_with_ordinary_permissions(tmp_path: Path) -> None:
    source = save(EXACT["raw"], tmp_path / "m.onnx")
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(b"old")
    write_model(source, {"w": NEW}, copy)
    np.testing.assert_array_equal(sole(copy), NEW)
    assert copy.stat().st_mode == source.stat().st_mode


def test_real_models(tmp_path: Path, wheel_models: dict[str, Path]) -> None:
    """All weights of real models at once, changed and written, are read back; and the identity is byte for byte."""
    for path in wheel_models.values():
        if path.stat().st_size > 6e6:
            continue
        old = values_of(path)
        write_model(path, old, tmp_path / "same.onnx")
        if "half" not in path.name:
            assert (tmp_path / "same.onnx").read_bytes() == path.read_bytes()
        write_model(path, {name: values * np.float32(2) for name, values in old.items()}, tmp_path / "copy.onnx")
        for name, values in values_of(tmp_path / "copy.onnx").items():
            np.testing.assert_array_equal(values, old[name] * 2)
