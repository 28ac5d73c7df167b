"""Changing a graph: constants in all their forms, uses, and nothing left behind."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnxmark.errors import ExternalDataError, ModelError, ModelLimitError, NotAModel, WriteBackError
from onnxmark.model.editing import whole
from onnxmark.model.editing.editable import INSIDE, EditableModel

from .models import constant, conv, info, model, save, tensor, weights

W = weights(4, 3, 3, 3)
node = helper.make_node


def editable(*args, **kwargs) -> EditableModel:
    return EditableModel(model(*args, **kwargs))


def stored(edited: EditableModel, tmp_path) -> dict[str, np.ndarray]:
    edited.save(tmp_path / "out.onnx")
    return {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(tmp_path / "out.onnx").graph.initializer}


CONSTANTS = {
    "initializer": ([], [tensor("w", W)], W),
    "Constant": ([constant("w", W)], [], W),
    "Constant of whole numbers": ([node("Constant", [], ["w"], value_ints=[1, 2])], [], np.int64([1, 2])),
    "Constant of one number": ([node("Constant", [], ["w"], value_float=0.5)], [], np.float32(0.5)),
    "Identity": ([node("Identity", ["v"], ["w"])], [tensor("v", W)], W),
    "Transpose of Identity": (
        [node("Identity", ["v"], ["u"]), node("Transpose", ["u"], ["w"], perm=[1, 0, 2, 3])],
        [tensor("v", W)],
        W.transpose(1, 0, 2, 3),
    ),
    "Reshape": (
        [constant("s", np.int64([1, -1, 1, 1])), node("Reshape", ["v", "s"], ["w"])],
        [tensor("v", W[0, 0, 0])],
        W[0, 0, 0].reshape(1, 3, 1, 1),
    ),
    "Expand to a Shape": (
        [node("Shape", ["v"], ["s"], start=0, end=1), node("Expand", ["nought", "s"], ["w"])],
        [tensor("v", W), tensor("nought", np.float32(0))],
        np.zeros(4, np.float32),
    ),
    "CastLike an input": ([node("CastLike", ["v", "x"], ["w"])], [tensor("v", np.float64([1, 2]))], np.float32([1, 2])),
    "float16": ([], [tensor("w", W.astype(np.float16))], W.astype(np.float16)),
    "computed otherwise": ([node("Mul", ["v", "v"], ["w"])], [tensor("v", W)], None),
    "string": ([node("Constant", [], ["w"], value_string="no")], [], None),
    "bfloat16": ([], [helper.make_tensor("w", T.BFLOAT16, [2], [1.0, 2.0])], None),
    "input": ([node("Identity", ["x"], ["w"])], [], None),
    "circle": ([node("Identity", ["v"], ["w"]), node("Identity", ["w"], ["v"])], [], None),
    "too large": (
        [node("Expand", ["v", "s"], ["w"])],
        [tensor("v", np.float32([1])), tensor("s", np.int64([1 << 40]))],
        None,
    ),
    "broken": ([node("Reshape", ["v", "s"], ["w"])], [tensor("v", W), tensor("s", np.int64([7]))], None),
}


@pytest.mark.parametrize(("nodes", "tensors", "expected"), CONSTANTS.values(), ids=CONSTANTS)
def test_constants_in_every_form(nodes, tensors, expected):
    found = editable([*nodes, node("Identity", ["x"], ["y"])], tensors).constant("w")
    if expected is None:
        assert found is None
    else:
        np.testing.assert_array_equal(found, expected, strict=True)
        assert not found.flags.writeable


def test_expressions_deeper_than_python_recurses_and_wider_than_it_could_walk():
    chain = [node("Identity", [f"v{index}"], [f"v{index + 1}"]) for index in range(3000)]
    found = editable([*chain, node("Identity", ["x"], ["y"])], [tensor("v0", W)])
    np.testing.assert_array_equal(found.constant("v3000"), W)
    assert found.stored_name("v3000") == "v0"
    doubled = [node("Concat", [f"v{index}"] * 2, [f"v{index + 1}"], axis=0) for index in range(80)]
    assert editable([*doubled, node("Identity", ["x"], ["y"])], [tensor("v0", W)]).constant("v80") is None


def test_a_tensor_of_one_layer_keeps_its_name(tmp_path):
    edited = editable([conv()], [tensor("w", W)])
    assert edited.replace_constant(edited.nodes[0], 1, 2 * W) == "w"
    np.testing.assert_array_equal(edited.constant("w"), 2 * W)
    np.testing.assert_array_equal(stored(edited, tmp_path)["w"], 2 * W)


def test_a_layer_that_shares_its_tensor_gets_its_own(tmp_path):
    edited = editable([conv(out="h"), conv(source="x", out="g"), node("Add", ["h", "g"], ["y"])], [tensor("w", W)])
    assert edited.replace_constant(edited.nodes[0], 1, 2 * W) == "w_2"
    assert edited.replace_constant(edited.nodes[1], 1, 3 * W) == "w"
    assert {name: float(values.sum() / W.sum()) for name, values in stored(edited, tmp_path).items()} == pytest.approx(
        {"w": 3, "w_2": 2}
    )


@pytest.mark.parametrize("form", ["Constant", "Identity", "Reshape", "Expand to a Shape"])
def test_what_made_the_old_values_goes(form, tmp_path):
    nodes, tensors, _ = CONSTANTS[form]
    edited = editable([*nodes, node("Add", ["x", "w"], ["y"])], tensors)
    name = edited.replace_constant(edited.nodes[-1], 1, np.float32([5]))
    edited.save(tmp_path / "out.onnx")
    made = onnx.load(tmp_path / "out.onnx")
    assert [item.op_type for item in made.graph.node] == ["Add"]
    assert [item.name for item in made.graph.initializer] == [name] == [made.graph.node[0].input[1]]
    assert ReferenceEvaluator(made).run(None, {"x": np.float32([1, 2])})[0].tolist() == [6, 7]


def test_what_a_branch_or_an_output_uses_stays(tmp_path):
    branch = helper.make_graph([node("Add", ["x", "w"], ["z"])], "then", [], [info("z")])
    choice = node("If", ["flag"], ["i"], then_branch=branch, else_branch=branch)
    made = model([conv(out="h"), choice, node("Identity", ["w"], ["o"])], [tensor("w", W)], ("x", "flag"), ("h", "o"))
    edited = EditableModel(made)
    uses = [(use.node.op_type, use.place) for use in edited.consumers("w")]
    assert uses == [("Conv", 1), ("If", INSIDE), ("Identity", 0)]
    assert [use.node.op_type for use in edited.consumers("x")] == ["Conv", "If"]
    edited.replace_constant(edited.nodes[0], 1, 2 * W)
    np.testing.assert_array_equal(stored(edited, tmp_path)["w"], W)


def test_a_tensor_that_is_an_output_stays(tmp_path):
    edited = editable([conv(out="h")], [tensor("w", W)], outputs=("h", "w"))
    assert edited.replace_constant(edited.nodes[0], 1, 2 * W) == "w_2"
    np.testing.assert_array_equal(stored(edited, tmp_path)["w"], W)


def test_before_version_4_initializers_are_inputs_of_their_new_shape(tmp_path):
    made = model([conv()], [tensor("w", W)], inputs=("x", "w"), ir=3)
    edited = EditableModel(made)
    edited.replace_constant(edited.nodes[0], 1, W[:2])
    edited.connect(edited.nodes[0], 2, edited.add_constant("b", np.zeros(2, np.float32)))
    edited.save(tmp_path / "out.onnx")
    declared = {
        item.name: [size.dim_value for size in item.type.tensor_type.shape.dim]
        for item in onnx.load(tmp_path / "out.onnx").graph.input
    }
    assert declared["w"] == [2, 3, 3, 3]
    assert declared["b"] == [2]


def test_nodes_come_and_go_in_order(tmp_path):
    edited = editable([node("Relu", ["x"], ["h"]), node("Tanh", ["h"], ["y"])])
    relu, tanh = edited.nodes
    edited.insert(edited.make_node("Neg", ["h"], ["n"], name="new"), before=tanh)
    edited.connect(tanh, 0, "n")
    edited.insert(edited.make_node("Abs", ["y"], ["unused"]), after=tanh)
    assert [item.op_type for item in edited.nodes] == ["Relu", "Neg", "Tanh", "Abs"]
    assert edited.producer("n") is edited.nodes[1]
    edited.remove(edited.nodes[3])
    edited.connect(relu, 0, "other")
    assert list(relu.input) == ["other"]
    assert edited.consumers("x") == ()
    edited.connect(relu, 0, "x")
    edited.set_output(tanh, 0, "z")
    assert edited.producer("y") is None
    edited.set_output(tanh, 0, "y")
    edited.save(tmp_path / "out.onnx")
    result = ReferenceEvaluator(onnx.load(tmp_path / "out.onnx")).run(None, {"x": np.float32([-1, 2])})[0]
    np.testing.assert_allclose(result, np.tanh(-np.maximum(np.float32([-1, 2]), 0)), rtol=1e-6)
    with pytest.raises(ValueError, match="node 'new' is not in this graph"):
        editable([node("Relu", ["x"], ["y"])]).remove(edited.nodes[1])
    with pytest.raises(ValueError, match="either the node to insert before or the node to insert after"):
        edited.insert(edited.make_node("Neg", ["h"], ["m"]))


def test_uses_inside_branches_are_uses():
    branch = helper.make_graph([node("Relu", ["h"], ["z"])], "then", [], [info("z")])
    edited = editable(
        [node("Abs", ["x"], ["h"]), node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)],
        inputs=("x", "flag"),
    )
    assert [use.place for use in edited.consumers("h")] == [INSIDE]


def test_attributes_are_python_values():
    edited = editable([conv(pads=[1, 1, 1, 1], auto_pad="NOTSET", group=1)], [tensor("w", W)])
    (item,) = edited.nodes
    assert edited.attribute(item, "pads") == [1, 1, 1, 1]
    assert edited.attribute(item, "auto_pad") == "NOTSET"
    assert edited.attribute(item, "strides", "none") == "none"
    edited.set_attribute(item, "pads", [2, 2, 2, 2])
    edited.set_attribute(item, "auto_pad", None)
    assert edited.attribute(item, "pads") == [2, 2, 2, 2]
    assert edited.attribute(item, "auto_pad") is None


def test_names_are_fresh_in_branches_too():
    branch = helper.make_graph([node("Relu", ["x"], ["w_2"])], "then", [], [info("w_2")])
    edited = editable(
        [conv(out="h"), node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)],
        [tensor("w", W)],
        inputs=("x", "flag"),
    )
    assert edited.fresh("w") == "w_3"
    assert edited.fresh("anything") == "anything"


def test_shapes_are_onnx_s_own():
    made = model([conv()], [tensor("w", W)])
    del made.graph.input[:]
    made.graph.input.append(info("x", ["n", 3, 8, 8]))
    edited = EditableModel(made)
    assert edited.shapes()["y"] == (None, 4, 6, 6)


def test_stale_shapes_are_forgotten(tmp_path):
    made = model([conv(out="h"), node("Relu", ["h"], ["y"])], [tensor("w", W)])
    made.graph.value_info.append(info("h", [1, 4, 6, 6]))
    edited = EditableModel(made)
    edited.forget_shapes()
    edited.save(tmp_path / "out.onnx")
    assert not onnx.load(tmp_path / "out.onnx").graph.value_info


def test_external_data_come_inside(tmp_path):
    made = model([conv(), constant("unused", W)], [tensor("w", W)])
    onnx.save(made, tmp_path / "in.onnx", save_as_external_data=True, location="w.bin", size_threshold=0,
              convert_attribute=True)  # fmt: skip
    edited = EditableModel.load(tmp_path / "in.onnx")
    np.testing.assert_array_equal(edited.constant("w"), W)
    np.testing.assert_array_equal(edited.constant("unused"), W)
    (tmp_path / "elsewhere").mkdir()
    edited.save(tmp_path / "elsewhere" / "out.onnx")
    assert [item.name for item in (tmp_path / "elsewhere").iterdir()] == ["out.onnx"]
    loaded = onnx.load(tmp_path / "elsewhere" / "out.onnx")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(loaded.graph.initializer[0]), W)


def test_external_data_stay_in_the_directory(tmp_path):
    made = model([conv()], [tensor("w", W)])
    (tmp_path / "secret").write_bytes(W.tobytes())
    (tmp_path / "models").mkdir()
    stored_outside = made.graph.initializer[0]
    stored_outside.ClearField("raw_data")
    stored_outside.data_location = T.EXTERNAL
    stored_outside.external_data.add(key="location", value="../secret")
    save(made, tmp_path / "models" / "in.onnx")
    with pytest.raises(ExternalDataError, match=r"'\.\./secret' contains '\.\.'"):
        EditableModel.load(tmp_path / "models" / "in.onnx")


def test_damaged_and_missing_files_are_told_apart(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        EditableModel.load(tmp_path / "none.onnx")
    (tmp_path / "page.onnx").write_text("<!doctype html><html></html>")
    with pytest.raises(NotAModel, match="HTML"):
        EditableModel.load(tmp_path / "page.onnx")
    content = model([conv()], [tensor("w", W)]).SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="truncated"):
        EditableModel.load(tmp_path / "cut.onnx")


def test_more_than_the_library_writes_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    made = model([conv()], [tensor("w", W)])
    path = save(made, tmp_path / "in.onnx")
    edited = EditableModel.load(path)
    monkeypatch.setattr(whole, "LARGEST", 100)
    with pytest.raises(ModelLimitError, match="only changed or tapped up to 2 GiB"):
        EditableModel.load(path)
    with pytest.raises(ModelLimitError, match="only changed or tapped up to 2 GiB"):
        edited.save(tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
    monkeypatch.setattr(whole, "LARGEST", path.stat().st_size)
    onnx.save(made, tmp_path / "big.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    huge = onnx.load(tmp_path / "big.onnx", load_external_data=False)
    huge.graph.initializer[0].dims[0] = 1 << 40
    save(huge, tmp_path / "big.onnx")
    with pytest.raises(ModelLimitError, match="only changed or tapped up to 2 GiB"):
        EditableModel.load(tmp_path / "big.onnx")


def test_a_place_that_cannot_be_written_to(tmp_path):
    edited = editable([conv()], [tensor("w", W)])
    with pytest.raises(WriteBackError, match="cannot be written"):
        edited.save(tmp_path / "nowhere" / "out.onnx")
    (tmp_path / "taken.onnx").mkdir()
    with pytest.raises(WriteBackError, match="cannot be written"):
        edited.save(tmp_path / "taken.onnx")
    assert [item.name for item in tmp_path.iterdir()] == ["taken.onnx"]
