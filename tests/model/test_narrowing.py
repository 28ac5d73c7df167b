"""Channels are removed from files, and what is left computes what pruning means: nobody hears of those removed."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxmark.errors import EmbeddingError
from onnxmark.model import open_model
from onnxmark.model.channels.eligible import eligible_layers, obstacle
from onnxmark.model.channels.grouping import channel_groups
from onnxmark.model.channels.loosening import loosen_reshapes, loosened
from onnxmark.model.channels.narrowing import kept_channels, narrow
from onnxmark.model.editing.editable import EditableModel
from tests.symmetries.networks import SUBJECTS, Net
from tests.symmetries.subjects import answers

from .models import info, model, tensor, weights

# For every layer that can be narrowed, in graph order, the value whose channels its consumers hear, and their axis.
HEARD = {
    "partly defined": [("flatten4", 1)],
    "axes": [("relu1", 1)],
    "plain": [("maxpool2", 1), ("flatten6", 1)],
    "batch normalisation": [("relu2", 1), ("flatten7", 1)],
    "residual": [("relu5", 1)],
    "same channels in and out": [],
    "mobile": [("clip7", 1)],
    "depthwise": [("relu3", 1), ("flatten7", 1)],
    "grouped": [],
    "flatten": [("relu1", 1)],
    "reshape to a constant": [("relu1", 1)],
    "channels last": [("transpose2", 3)],
    "slopes": [("prelu1", 1), ("leakyrelu3", 1), ("flatten7", 1)],
    "odd": [("tanh1", 1), ("flatten5", 1)],
    "linear": [("averagepool5", 1), ("flatten8", 1)],
    "gated": [("relu5", 1)],
    "instance normalisation": [("flatten4", 1)],
    "decoder": [("relu1", 1), ("flatten8", 1)],
    "perceptron": [],
    "tied weights": [],
    "concatenation": [],
}
NARROWABLE = [name for name, heard in HEARD.items() if heard]


def silenced(path, value: str, axis: int, dropped: list[int], output) -> None:
    """A copy of a file in which everybody who uses a value gets zeros for some of its channels."""
    proto = onnx.load(path)
    shape = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    known = {item.name: item.type.tensor_type.shape.dim for item in shape.graph.value_info}[value]
    mask = np.ones([known[at].dim_value if at == axis else 1 for at in range(len(known))], np.float32)
    mask[(slice(None),) * axis + (dropped,)] = 0
    for node in proto.graph.node:
        for place, name in enumerate(node.input):
            if name == value:
                node.input[place] = f"{value}_silenced"
    proto.graph.initializer.append(numpy_helper.from_array(mask, f"{value}_mask"))
    maker = next(at for at, node in enumerate(proto.graph.node) if value in node.output)
    silencer = helper.make_node("Mul", [value, f"{value}_mask"], [f"{value}_silenced"])
    proto.graph.node.insert(maker + 1, silencer)
    onnx.save(proto, output)


def smallest(path, name: str, count: int) -> list[int]:
    """The filters of smallest L1 norm of a tensor of a file."""
    values = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}[name]
    norms = np.linalg.norm(values.reshape(len(values), -1).astype(np.float64), ord=1, axis=1)
    return np.argsort(norms)[:count].tolist()


@pytest.mark.parametrize("subject", HEARD)
def test_what_can_be_narrowed_is_found(subject, tmp_path):
    edited = EditableModel.load(SUBJECTS[subject].save(tmp_path / "net.onnx"))
    layers = eligible_layers(edited)
    assert len(layers) == len(HEARD[subject])
    assert [layer.shape[0] for layer in layers] == [layer.group.size for layer in layers]


def test_every_network_is_listed():
    assert HEARD.keys() == SUBJECTS.keys()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("subject", NARROWABLE)
def test_a_narrow_model_is_the_wide_one_with_channels_nobody_hears(subject, share, tmp_path):
    source, result, reference = (tmp_path / f"{name}.onnx" for name in ("net", "narrow", "reference"))
    SUBJECTS[subject].save(source)
    edited = EditableModel.load(source)
    layers = eligible_layers(edited)
    widths = {layer.name: max(1, int(share * layer.shape[0])) for layer in layers}
    narrow(edited, widths)
    edited.save(result)
    current = source
    for layer, (value, axis) in zip(layers, HEARD[subject], strict=True):
        dropped = smallest(source, layer.name, layer.shape[0] - widths[layer.name])
        silenced(current, value, axis, dropped, reference)
        current = reference
    for found, expected in zip(answers(result), answers(reference), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # Of few channels removed, all may have been silent already.
    for found, original in zip(answers(result), answers(source), strict=True) if share < 0.5 else ():
        assert not np.allclose(found, original, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("subject", NARROWABLE)
def test_a_narrow_model_is_a_valid_one_of_the_widths_asked_for(subject, tmp_path):
    source, result = tmp_path / "net.onnx", tmp_path / "narrow.onnx"
    edited = EditableModel.load(SUBJECTS[subject].save(source))
    widths = {layer.name: layer.shape[0] - 1 for layer in eligible_layers(edited)}
    narrow(edited, widths)
    edited.save(result)
    onnx.shape_inference.infer_shapes(onnx.load(result), check_type=True, strict_mode=True)
    with open_model(source) as before, open_model(result) as after:
        wide, thin = ({site.name: site for site in each.sites()} for each in (before, after))
    assert wide.keys() == thin.keys()
    assert {name: thin[name].shape[0] for name in widths} == widths
    # Nobody else's number of outputs has changed, but for the depthwise convolutions on the way.
    others = {name for name in wide if name not in widths and wide[name].group == 1}
    assert all(thin[name].shape[0] == wide[name].shape[0] for name in others)


def test_the_original_widths_change_nothing(tmp_path):
    source, result = tmp_path / "net.onnx", tmp_path / "same.onnx"
    edited = EditableModel.load(SUBJECTS["plain"].save(source))
    narrow(edited, {layer.name: layer.shape[0] for layer in eligible_layers(edited)})
    edited.save(result)
    assert onnx.load(result).graph.initializer == onnx.load(source).graph.initializer


def test_all_choices_are_made_before_anything_is_removed(tmp_path):
    """Removing inputs of a layer changes its norms: its filters are chosen by what they were."""
    source = SUBJECTS["plain"].save(tmp_path / "net.onnx")
    tensors = []
    for turn in (1, -1):
        edited = EditableModel.load(source)
        layers = eligible_layers(edited)[::turn]
        narrow(edited, {layer.name: 2 for layer in layers})
        edited.save(tmp_path / "narrow.onnx")
        tensors.append(list(onnx.load(tmp_path / "narrow.onnx").graph.initializer))
    assert tensors[0] == tensors[1]


class TestObstacles:
    def words(self, subject: str, tmp_path) -> list[str]:
        edited = EditableModel.load(SUBJECTS[subject].save(tmp_path / "net.onnx"))
        return [obstacle(group) or "" for group in channel_groups(edited)]

    @pytest.mark.parametrize(
        ("subject", "said"),
        [
            ("residual", "2 layers make its channels"),
            ("gated", "2 layers make its channels"),
            ("grouped", "in 3 groups"),
            ("plain", "is an output of the model"),
            ("flatten", "made by Gemm, not by a convolution"),
            ("concatenation", "mixes channels or is not known"),
        ],
    )
    def test_they_are_said_in_words(self, subject, said, tmp_path):
        assert any(said in words for words in self.words(subject, tmp_path))

    def test_shared_weights_are_named(self, tmp_path):
        edited = EditableModel.load(SUBJECTS["tied weights"].save(tmp_path / "net.onnx"))
        group = channel_groups(edited)[0]
        (name,) = {use.tensor for use in group.uses if use.role == "consumer"}
        assert obstacle(group) is None
        assert obstacle(group, frozenset([name])) == f"several layers share the weights {name!r}"

    def test_channels_nobody_uses(self):
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["h"]),
            helper.make_node("Relu", ["h"], ["unused"]),
            helper.make_node("Identity", ["x"], ["y"]),
        ]
        edited = EditableModel(model(nodes, [tensor("w", weights(4, 3, 3, 3))]))
        assert [obstacle(group) for group in channel_groups(edited)] == ["no layer uses it"]
        assert eligible_layers(edited) == ()


class TestRefusals:
    @pytest.fixture
    def edited(self, tmp_path) -> EditableModel:
        return EditableModel.load(SUBJECTS["residual"].save(tmp_path / "net.onnx"))

    def test_a_layer_that_cannot_be_narrowed(self, edited):
        (inner,) = eligible_layers(edited)
        with pytest.raises(EmbeddingError, match=f"'w0' cannot be removed .* only those of '{inner.name}'; make a"):
            narrow(edited, {"w0": 2})

    def test_a_model_with_no_such_layer(self, tmp_path):
        edited = EditableModel.load(SUBJECTS["perceptron"].save(tmp_path / "net.onnx"))
        with pytest.raises(EmbeddingError, match="only those of no layer"):
            narrow(edited, {"w0": 2})

    @pytest.mark.parametrize("width", [0, 5])
    def test_a_width_it_cannot_have(self, edited, width):
        (inner,) = eligible_layers(edited)
        with pytest.raises(EmbeddingError, match=f"has 4 channels and cannot be given {width}; take the model"):
            narrow(edited, {inner.name: width})

    def test_nothing_is_removed_where_one_layer_is_refused(self, edited, tmp_path):
        (inner,) = eligible_layers(edited)
        with pytest.raises(EmbeddingError, match="cannot be removed"):
            narrow(edited, {inner.name: 2, "w0": 2})
        assert eligible_layers(edited)[0].shape == inner.shape


class TestKeptChannels:
    @given(st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=1, max_size=8), st.data())
    def test_the_largest_stay_and_the_earlier_of_equals(self, rows, data):
        width = data.draw(st.integers(1, len(rows)))
        ranked = sorted(range(len(rows)), key=lambda row: (-sum(map(abs, rows[row])), row))
        assert kept_channels(np.array(rows, np.float32), width).tolist() == sorted(ranked[:width])

    def test_sums_do_not_overflow_half_precision(self):
        rows = np.full((2, 1000), 200, np.float16)
        rows[0, 0] = 199
        assert kept_channels(rows, 1).tolist() == [1]

    @pytest.mark.parametrize("width", [0, 4, -1])
    def test_as_many_as_there_are(self, width):
        with pytest.raises(ValueError, match=f"1 to 3 can be kept, not {width}"):
            kept_channels(np.ones((3, 2)), width)


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


class TestLoosening:
    @given(SIZES, st.booleans(), st.data())
    def test_any_loosened_reshape_is_the_same_reshape(self, source, is_open, data):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(source)), max_size=3)))
        result = [prod(source[one:other]) for one, other in zip([0, *cuts], [*cuts, len(source)], strict=True)]
        target = [-1 if is_open and place == 0 else size for place, size in enumerate(result)]
        known = (None, *source[1:]) if is_open else tuple(source)
        stays = is_open and prod(source[1:]) == prod(result[1:])
        described = (None, *result[1:]) if is_open else tuple(result)
        loose = loosened(tuple(target), known, described)
        if loose is None:
            assert target[-1] < 0 or (is_open and not stays) or (is_open and len(target) == 1)
            return
        assert loose[-1] == -1
        for batch in (1, 2, 3) if is_open else (source[0],):
            values = np.arange(batch * prod(source[1:])).reshape(batch, *source[1:])
            np.testing.assert_array_equal(reshaped(values, loose), reshaped(values, target))

    @pytest.mark.parametrize(
        ("target", "source", "result", "loose"),
        [
            ((1, 800), (1, 50, 4, 4), (1, 800), (0, -1)),
            ((-1, 800), (None, 50, 4, 4), (None, 800), (0, -1)),
            ((2, 50, 16), (2, 50, 4, 4), (2, 50, 16), (0, 0, -1)),
            ((800,), (50, 4, 4), (800,), (-1,)),
            ((0, -1), (1, 50, 4, 4), (1, 800), None),
            ((-1, 400), (None, 50, 4, 4), (None, 400), None),
            ((1, 800), (None, 50, 4, 4), (1, 800), None),
            ((1, 0), (1, 0, 4), (1, 0), None),
            ((1, 800), (1, None, 4), (1, 800), None),
            ((), (1, 1), (), None),
        ],
    )
    def test_shapes(self, target, source, result, loose):
        assert loosened(target, source, result) == loose

    @pytest.mark.parametrize(("target", "batch"), [([1, 32], 1), ([-1, 32], "n")])
    def test_exported_flattening_no_longer_forbids(self, target, batch):
        made = flattening(target, batch)
        images = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
        (expected,) = ReferenceEvaluator(made).run(None, {"x": images})
        edited = EditableModel(made)
        assert "has their number in its shape" in channel_groups(edited)[0].rigid
        loosen_reshapes(edited)
        assert channel_groups(edited)[0].rigid is None
        np.testing.assert_array_equal(ReferenceEvaluator(made).run(None, {"x": images})[0], expected)

    def test_a_shape_that_others_use_stays_theirs(self):
        also = helper.make_node("ConstantOfShape", ["shape"], ["zeros"])
        edited = EditableModel(flattening([1, 32], 1, also))
        loosen_reshapes(edited)
        assert edited.constant(also.input[0]).tolist() == [1, 32]
        assert channel_groups(edited)[0].rigid is None

    def test_shapes_that_are_computed_are_left_alone(self):
        net = Net()
        x = net.conv("x", 4, 3)
        shape = net.add("Shape", net.add("Flatten", x))
        nodes = [*net.nodes, helper.make_node("Reshape", [x, shape], ["y"])]
        edited = EditableModel(model(nodes, [tensor(*each) for each in net.tensors.items()]))
        loosen_reshapes(edited)
        assert edited.nodes[-1].input[1] == shape


def flattening(target: list[int], batch: int | str, *more: onnx.NodeProto) -> onnx.ModelProto:
    """A convolution, flattened as PyTorch's exporter writes it, and a linear layer."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node("Reshape", ["h", "shape"], ["flat"], allowzero=1),
        helper.make_node("MatMul", ["flat", "v"], ["y"]),
        *more,
    ]
    stored = {"w": weights(8, 3, 3, 3), "shape": np.array(target), "v": weights(32, 5)}
    made = model(nodes, [tensor(*each) for each in stored.items()])
    made.graph.input[0].CopyFrom(info("x", [batch, 3, 4, 4]))
    return made


def reshaped(values: np.ndarray, target) -> np.ndarray:
    made = model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])], [tensor("shape", np.array(target, dtype=np.int64))]
    )
    return ReferenceEvaluator(made).run(None, {"x": values.astype(np.float32)})[0]
