"""What we read off the wire is what onnx reads, over all of onnx's own models and every encoding of a tensor."""

from __future__ import annotations

import re
import struct
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from onnxmark.model import open_model
from onnxmark.model.opened import Model
from tests.model.models import block, constant, conv, every_node, model, number, save, tensor, varint, weights

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


def assert_same_tensor(opened: Model, ours, theirs) -> None:
    assert (ours.name, ours.dims, ours.data_type) == (theirs.name, tuple(theirs.dims), theirs.data_type)
    if theirs.data_type in (T.STRING, T.COMPLEX64, T.COMPLEX128, T.FLOAT6E2M3, T.FLOAT6E3M2):
        return
    if theirs.data_location == T.EXTERNAL:
        assert dict(ours.external) == {entry.key: entry.value for entry in theirs.external_data}
        return
    mine, reference = opened.payloads.array(ours), numpy_helper.to_array(theirs)
    assert mine.shape == reference.shape
    np.testing.assert_array_equal(mine.astype(np.float64), reference.astype(np.float64))


def assert_same_node(opened: Model, ours, theirs) -> None:
    assert (ours.op_type, ours.domain, ours.name, ours.overload) == (
        theirs.op_type, theirs.domain, theirs.name, theirs.overload,
    )  # fmt: skip
    assert (ours.inputs, ours.outputs) == (tuple(theirs.input), tuple(theirs.output))
    attributes = opened.graph.decoder.attributes(ours)
    assert list(attributes) == list(dict.fromkeys(a.name for a in theirs.attribute))
    for theirs_a in theirs.attribute:
        a = attributes[theirs_a.name]
        assert (a.ref, a.kind, a.integer) == (theirs_a.ref_attr_name, theirs_a.type, theirs_a.i)
        assert a.integers == tuple(theirs_a.ints)
        assert a.text == theirs_a.s
        if theirs_a.type in (onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS) and a.numbers is not None:
            expected = [theirs_a.f] if theirs_a.type == onnx.AttributeProto.FLOAT else list(theirs_a.floats)
            np.testing.assert_array_equal(opened.payloads.array(a.numbers).reshape(-1), np.float32(expected))
        if theirs_a.HasField("t"):
            assert_same_tensor(opened, a.tensor, theirs_a.t)
        theirs_graphs = [theirs_a.g] if theirs_a.HasField("g") else list(theirs_a.graphs)
        assert len(a.graphs) == len(theirs_graphs)
        for extents, graph in zip(a.graphs, theirs_graphs, strict=True):
            assert_same_graph(opened, opened.graph.decoder.graph(extents), graph)


def assert_same_graph(opened: Model, ours, theirs) -> None:
    assert ours.name == theirs.name
    assert ours.inputs == tuple(value.name for value in theirs.input)
    assert ours.outputs == tuple(value.name for value in theirs.output)
    for mine, reference in zip(ours.nodes, theirs.node, strict=True):
        assert_same_node(opened, mine, reference)
    for mine, reference in zip(ours.initializers, theirs.initializer, strict=True):
        assert_same_tensor(opened, mine, reference)
    for mine, reference in zip(ours.sparse_initializers, theirs.sparse_initializer, strict=True):
        assert mine.dims == tuple(reference.dims)
        assert_same_tensor(opened, mine.values, reference.values)
        assert_same_tensor(opened, mine.indices, reference.indices)


def assert_same(path: Path) -> None:
    reference = onnx.load(str(path), load_external_data=False)
    with open_model(path) as opened:
        assert opened.ir_version == reference.ir_version
        assert opened.producer == f"{reference.producer_name} {reference.producer_version}".strip()
        assert opened.opsets == {entry.domain: entry.version for entry in reference.opset_import}
        assert opened.metadata == {entry.key: entry.value for entry in reference.metadata_props}
        assert_same_graph(opened, opened.graph.root.body.graph, reference.graph)
        for mine, theirs in zip(opened.graph.functions, reference.functions, strict=True):
            assert (mine.name, mine.domain, mine.overload) == (theirs.name, theirs.domain, theirs.overload)
            assert (mine.inputs, mine.outputs) == (tuple(theirs.input), tuple(theirs.output))
            assert mine.attributes == tuple(theirs.attribute)
            for node, reference_node in zip(mine.nodes, theirs.node, strict=True):
                assert_same_node(opened, node, reference_node)


def test_all_of_onnx_own_models() -> None:
    files = sorted(DATA.rglob("*.onnx"))
    assert len(files) > 100
    for path in files:
        assert_same(path)


def test_models_of_onnx_node_tests(tmp_path: Path) -> None:
    """Operators of all kinds with their attributes, as onnx makes them: every eighth, and all with graphs inside."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        # onnx computes expected values as it makes the models, overflowing where it means to.
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    assert len(cases) > 1000
    nested = re.compile("test_(if|loop|scan|sequence_map|optional)")
    for case in [case for i, case in enumerate(cases) if i % 8 == 0 or nested.match(case.name)]:
        assert_same(save(case.model, tmp_path / "m.onnx"))


NUMERIC = [
    code
    for name, code in T.DataType.items()
    if name not in ("UNDEFINED", "STRING", "COMPLEX64", "COMPLEX128", "FLOAT8E8M0", "FLOAT6E2M3", "FLOAT6E3M2")
]


def some_values(code: int) -> np.ndarray:
    if code in (T.INT2, T.UINT2, T.BOOL):
        return np.array([0, 1, 1, 0, 1, 0, 0, 1, 1]) - (2 if code == T.INT2 else 0)
    if code in (T.FLOAT, T.DOUBLE, T.FLOAT16, T.BFLOAT16) or "FLOAT" in T.DataType.Name(code):
        return np.array([-1.5, 0.5, 2, 3, 0, 1, -2, 4, 6], np.float32)
    return np.arange(9) - (8 if T.DataType.Name(code).startswith("INT") else 0)


@pytest.mark.parametrize("code", NUMERIC, ids=T.DataType.Name)
@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_every_type_in_every_field(tmp_path: Path, code: int, raw: bool) -> None:
    made = helper.make_tensor("t", code, (3, 3), some_values(code))
    if raw:
        made = numpy_helper.from_array(numpy_helper.to_array(made), "t")
        assert made.HasField("raw_data")
    assert_same(save(model([], [made]), tmp_path / "m.onnx"))


def unpacked(code: int, field: int, pieces: list[bytes], name: str = "w", dims=(2, 2, 1)) -> bytes:
    tag = varint(field << 3 | {4: 5, 10: 1}.get(field, 0))
    return block(
        5,
        b"".join(number(1, d) for d in dims)
        + number(2, code)
        + b"".join(tag + p for p in pieces)
        + block(8, name.encode()),
    )


@pytest.mark.parametrize(
    ("code", "field", "pieces", "expected"),
    [
        (T.FLOAT, 4, [struct.pack("<f", v) for v in (1, -2, 3.5, 4)], [1, -2, 3.5, 4]),
        (T.DOUBLE, 10, [struct.pack("<d", v) for v in (1, -2, 3.5, 4)], [1, -2, 3.5, 4]),
        (T.INT32, 5, [varint(v) for v in (1, -2, 300, 4)], [1, -2, 300, 4]),
        (T.INT8, 5, [varint(v) for v in (1, -128, 127, 4)], [1, -128, 127, 4]),
        (T.INT64, 7, [varint(v) for v in (1, -(2**63), 2**63 - 1, 4)], [1, -(2**63), 2**63 - 1, 4]),
        (T.UINT64, 11, [varint(v) for v in (1, 2**64 - 1, 3, 4)], [1, 2**64 - 1, 3, 4]),
    ],
)
def test_unpacked_encodings_onnx_accepts(tmp_path: Path, code, field, pieces, expected) -> None:
    graph = block(7, unpacked(code, field, pieces))
    path = tmp_path / "m.onnx"
    path.write_bytes(number(1, 8) + graph)
    assert_same(path)
    with open_model(path) as opened:
        (found,) = opened.graph.root.body.graph.initializers
        assert opened.payloads.array(found).reshape(-1).tolist() == expected


def test_packed_dims_unknown_fields_groups_and_any_order(tmp_path: Path) -> None:
    values = weights(2, 3, 1)
    group = varint(100 << 3 | 3) + number(5, 7) + varint(200 << 3 | 3) + varint(200 << 3 | 4) + varint(100 << 3 | 4)
    odd = (
        block(9, values.tobytes()) + group + number(2, T.FLOAT) + block(1, varint(2) + varint(3))
        + block(777, b"unknown") + block(8, b"w") + number(1, 1)
        + varint(55 << 3 | 1) + bytes(8) + varint(56 << 3 | 5) + bytes(4)
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    path.write_bytes(
        group + block(7, group + block(5, odd) + block(1, block(1, b"x") + block(4, b"Relu"))) + number(1, 8)
    )
    assert_same(path)


def test_two_models_concatenated_are_one(tmp_path: Path) -> None:
    first = model([conv("a", out="m", name="first")], [tensor("a", weights(4, 2, 1, 1))], outputs=("m",))
    second = model([conv("b", "m", name="second")], [tensor("b", weights(3, 4, 1, 1))], inputs=(), outputs=("y",))
    path = tmp_path / "m.onnx"
    path.write_bytes(first.SerializeToString() + second.SerializeToString())
    assert_same(path)
    with open_model(path) as opened:
        assert [site.nodes for site in opened.sites()] == [("first",), ("second",)]


def test_subgraphs_functions_sparse_and_metadata(tmp_path: Path) -> None:
    then = helper.make_graph([constant("c", weights(2, 2, 1, 1)), conv("c", out="t")], "then", [], [])
    other = helper.make_graph([conv("w", out="e")], "else", [], [], [tensor("w", weights(2, 2, 3, 3))])
    function = helper.make_function(
        "local", "F", ["a", "b"], ["o"], [conv("b", "a", "o")], OPSET, ["group"], [helper.make_attribute("alpha", 0.5)]
    )
    sparse = helper.make_sparse_tensor(
        tensor("s", np.float32([1, 2])), helper.make_tensor("i", T.INT64, [2], [0, 3]), [2, 2]
    )
    made = model(
        [
            helper.make_node("If", ["c"], ["y"], name="if", then_branch=then, else_branch=other),
            helper.make_node("F", ["y", "s"], ["z"], domain="local"),
            helper.make_node(
                "Odd", [], ["q"], domain="other", f=1.5, fs=[1.0, 2.0], i=-3, ins=[1, -2], s="text", graphs=[then]
            ),
        ],
        functions=[function], sparse=[sparse],
    )  # fmt: skip
    helper.set_model_props(made, {"key": "välue", "other": ""})
    assert_same(save(made, tmp_path / "m.onnx"))


OPSET = [helper.make_opsetid("", 23)]


def test_nodes_and_tensors_larger_than_the_window(tmp_path: Path) -> None:
    """Headers on both sides of payloads and of windows of 32 KiB, at every alignment around one."""
    for size in (8150, 8180, 8191, 8192, 8200, 40000):
        nodes = [constant(f"c{i}", weights(size)) for i in range(3)]
        nodes.append(helper.make_node("Many", [f"value_{i:05}" for i in range(size // 4)], ["y"], name="n" * size))
        assert_same(save(model(nodes, [tensor(f"w{i}", weights(size + i)) for i in range(3)]), tmp_path / "m.onnx"))


def test_real_models_of_installed_wheels(wheel_models: dict[str, Path]) -> None:
    for path in wheel_models.values():
        assert_same(path)


def test_counts_of_control_flow_nodes(wheel_models: dict[str, Path]) -> None:
    """A site per convolution, subgraphs included, and every weight as onnx has it."""
    for path in wheel_models.values():
        reference = onnx.load(str(path))
        expected = [n for n in every_node(reference.graph) if n.op_type in ("Conv", "ConvTranspose")]
        with open_model(path) as opened:
            sites = [site for site in opened.sites() if site.op in ("Conv", "ConvTranspose")]
        assert sum(len(site.nodes) for site in sites) == len(expected), path.name
