"""Which slices belong to one channel: against indices counted one by one, and against what networks answer."""

from __future__ import annotations

import re
from math import prod

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnxmark.model.channels.grouping import channel_groups
from onnxmark.model.channels.groups import ChannelGroup, Commutes, Role, Slot, from_rows, rows_of
from onnxmark.model.channels.moving import constant, scale_channels, take_channels
from onnxmark.model.channels.relayout import relaid
from onnxmark.model.editing.editable import EditableModel

from .models import info, model, tensor, weights

node = helper.make_node
C = 6
SIZES = st.integers(1, 4)


@given(st.lists(SIZES, max_size=2), st.lists(SIZES, max_size=2), SIZES, SIZES, st.integers(2, 5))
def test_rows_hold_what_belongs_to_a_channel(before, after, outer, inner, size):
    shape = (*before, outer * size * inner, *after)
    slot = Slot(len(before), outer, inner)
    values = np.arange(prod(shape)).reshape(shape)
    rows = rows_of(values, slot)
    for channel in range(size):
        indices = [(o * size + channel) * inner + i for o in range(outer) for i in range(inner)]
        assert sorted(rows[channel]) == sorted(values.take(indices, slot.axis).reshape(-1))
    np.testing.assert_array_equal(from_rows(rows, shape, slot), values)
    assert from_rows(rows[[0, 1, 1]], shape, slot).shape[slot.axis] == 3 * slot.repeats


def holders(slot: Slot, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """The channel every element of a tensor belongs to."""
    index = np.arange(shape[slot.axis]) // slot.inner % size
    return np.broadcast_to(np.moveaxis(index[(...,) + (None,) * (len(shape) - 1)], 0, slot.axis), shape)


@given(st.lists(SIZES, min_size=1, max_size=4), st.integers(2, 4), st.data())
def test_reshaping_carries_channels_where_numpy_carries_them(sizes, size, data):
    axis = data.draw(st.integers(0, len(sizes) - 1))
    source = (*sizes[:axis], sizes[axis] * size, *sizes[axis + 1 :])
    inner = data.draw(st.sampled_from([n for n in range(1, sizes[axis] + 1) if sizes[axis] % n == 0]))
    slot = Slot(axis - len(source), sizes[axis] // inner, inner)
    cuts = data.draw(st.permutations(factors(prod(source))))
    parts = data.draw(st.lists(st.integers(0, len(cuts)), max_size=3).map(sorted))
    target = tuple(prod(cuts[i:j]) for i, j in zip([0, *parts], [*parts, len(cuts)], strict=True))
    moved = relaid(slot, size, source, target)
    expected = holders(slot, size, source).reshape(target)
    if moved is not None:
        np.testing.assert_array_equal(holders(moved, size, target), expected)
    else:
        # Nothing was found because there is nothing: the channel is not told by the index of any one axis.
        for candidate in range(len(target)):
            lines = np.moveaxis(expected, candidate, 0).reshape(target[candidate], -1)
            assert (lines != lines[:, :1]).any()


def factors(number: int) -> list[int]:
    found, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return found


def test_open_sizes_are_followed_only_where_they_do_not_matter():
    assert relaid(Slot(-3), C, (None, C, 4, 4), (None, 16 * C)) == Slot(-1, 1, 16)
    assert relaid(Slot(-3), C, (None, C, None, 4), (None, 16 * C)) is None
    assert relaid(Slot(-3), C, (None, C, 4, 4), (None, None)) is None
    assert relaid(Slot(-3), C, (1, C, 0, 4), (1, 0)) is None
    assert relaid(Slot(-1), C, (None, 4, C), (None, 4 * C)) == Slot(-1, 4, 1)


def layers(*middle, outputs=("y",), opsets=None, **tensors) -> EditableModel:
    """Convolution ``h`` of an input, what lies in the ``middle`` and makes ``m``, convolution of that."""
    stored = {"w": weights(C, 3, 3, 3), "v": weights(4, C, 3, 3, seed=1), **tensors}
    made = model(
        [node("Conv", ["x", "w"], ["h"], name="first"), *middle, node("Conv", ["m", "v"], ["y"], name="second")],
        [tensor(name, values) for name, values in stored.items()],
        outputs=outputs,
        **({"opsets": opsets} if opsets else {}),
    )
    made.graph.input[0].CopyFrom(info("x", ["n", 3, 12, 12]))
    return EditableModel(made)


def first(edited: EditableModel) -> ChannelGroup:
    return channel_groups(edited)[0]


def one(operator: str, *extra: str, **attributes) -> list[onnx.NodeProto]:
    return [node(operator, ["h", *extra], ["m"], name="middle", **attributes)]


UNARY = {
    Commutes.LINEAR: [
        one("Identity"), one("Neg"), one("Dropout"), one("AveragePool", kernel_shape=[2, 2]), one("Cast", to=T.FLOAT),
    ],
    Commutes.HOMOGENEOUS: [
        one("Relu"), one("LeakyRelu", alpha=0.3), one("Abs"), one("MaxPool", kernel_shape=[2, 2]),
        one("LpPool", kernel_shape=[2, 2]),
    ],
    Commutes.ODD: [one("Tanh"), one("Sin"), one("Atan"), one("Asinh"), one("Softsign"), one("Erf"), one("Sign")],
    Commutes.ZERO: [one("HardSwish"), one("Elu"), one("Selu"), one("Gelu"), one("Mish"), one("Floor")],
    Commutes.NOTHING: [one("Sigmoid"), one("HardSigmoid"), one("Softplus"), one("Exp"), one("Cos")],
}  # fmt: skip
EVERY = [pytest.param(commutes, nodes, id=nodes[0].op_type) for commutes, some in UNARY.items() for nodes in some]


@pytest.mark.parametrize(("commutes", "nodes"), EVERY)
def test_what_is_said_to_pass_is_what_passes(commutes, nodes):
    """f(s x) = s f(x), asked of onnx's reference, for 0, a positive factor and -1."""
    (region,) = first(layers(*nodes)).regions
    assert region.commutes == commutes
    alone = helper.make_model(
        helper.make_graph(nodes, "one", [info("h", [1, C, 4, 4])], [info("m")]),
        opset_imports=[helper.make_opsetid("", 23)],
    )
    values = weights(1, C, 4, 4)
    apply = ReferenceEvaluator(alone).run
    for factor, kind in ((0, Commutes.ZERO), (np.float32(2.5), Commutes.SCALE), (np.float32(-1), Commutes.SIGN)):
        scaled = apply(None, {"h": factor * values})[0]
        expected = factor * apply(None, {"h": values})[0]
        assert np.allclose(scaled, expected, rtol=1e-5, atol=1e-6) == (kind in commutes)


CLIPS = [
    (0.0, None, Commutes.HOMOGENEOUS),
    (None, None, Commutes.ODD),
    (-1.0, 1.0, Commutes.ODD),
    (0.0, 6.0, Commutes.ZERO),
    (-1.0, 2.0, Commutes.ZERO),
    (None, 6.0, Commutes.ZERO),
    (0.5, 6.0, Commutes.NOTHING),
]


@pytest.mark.parametrize(("low", "high", "commutes"), CLIPS)
def test_clip_by_its_bounds(low, high, commutes):
    bounds = {name: np.float32(value) for name, value in (("low", low), ("high", high)) if value is not None}
    names = ["low" if low is not None else "", "high" if high is not None else ""]
    assert first(layers(*one("Clip", *names), **bounds)).regions[0].commutes == commutes
    attributes = {name: value for name, value in (("min", low), ("max", high)) if value is not None}
    old = layers(*one("Clip", **attributes), opsets=[helper.make_opsetid("", 10)])
    assert first(old).regions[0].commutes == commutes


def test_bounds_that_are_computed_are_not_known():
    bound = node("ReduceMax", ["x"], ["top"], keepdims=0)
    assert first(layers(bound, *one("Clip", "", "top"))).regions[0].commutes is Commutes.NOTHING


@pytest.mark.parametrize(
    ("operator", "shape", "role", "commutes"),
    [
        ("Add", (C, 1, 1), Role.SHIFT, Commutes.LINEAR),
        ("Sub", (1, C, 1, 1), Role.SHIFT, Commutes.LINEAR),
        ("Max", (C, 1, 1), Role.SHIFT, Commutes.HOMOGENEOUS),
        ("Mul", (C, 1, 1), Role.FACTOR, Commutes.LINEAR),
        ("Div", (1, C, 1, 1), Role.FACTOR, Commutes.LINEAR),
        ("Pow", (C, 1, 1), Role.FACTOR, Commutes.NOTHING),
        ("PRelu", (C, 1, 1), Role.SLOPE, Commutes.HOMOGENEOUS),
        ("PRelu", (1,), None, Commutes.HOMOGENEOUS),
        ("Add", (), None, Commutes.NOTHING),
        ("Add", (1, 1, 10), None, Commutes.NOTHING),
        ("Mul", (), None, Commutes.LINEAR),
        ("Mul", (10, 10), None, Commutes.LINEAR),
    ],
)
def test_constants_beside_channels(operator, shape, role, commutes):
    group = first(layers(*one(operator, "c"), c=np.abs(weights(*shape))))
    assert group.problem is None
    assert group.regions[0].commutes == commutes
    found = [(use.role, use.slot) for use in group.uses if use.tensor == "c"]
    assert found == ([(role, Slot(shape.index(C)))] if role else [])


BESIDE = {
    "padded with zeros": (one("Pad", "p"), Commutes.LINEAR, None),
    "padded with ones": (one("Pad", "p", "c"), Commutes.NOTHING, None),
    "mirrored": (one("Pad", "p", mode="reflect"), Commutes.LINEAR, None),
    "channels padded": (one("Pad", "pc"), None, "pads the channels"),
    "resized": (one("Resize", "", "two", mode="linear"), Commutes.LINEAR, None),
    "resized to a size": (one("Resize", "", "", "size"), Commutes.LINEAR, "has their number in its sizes"),
    "channels resized": (one("Resize", "", "four"), None, "resizes the channels"),
    "cropped": (
        one("Resize", "roi", "two", coordinate_transformation_mode="tf_crop_and_resize"), Commutes.NOTHING, None,
    ),
    "pooled along another axis": (
        [node("Transpose", ["h"], ["t"], perm=[0, 2, 1, 3]), node("MaxPool", ["t"], ["m"], kernel_shape=[1, 1])],
        None, "pools along the channels",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "commutes", "reason"), BESIDE.values(), ids=BESIDE)
def test_operators_along_other_axes(nodes, commutes, reason):
    tensors = {
        "p": np.int64([0, 0, 1, 1, 0, 0, 1, 1]), "pc": np.int64([0, 1, 0, 0, 0, 1, 0, 0]), "c": np.float32(1),
        "two": np.float32([1, 1, 2, 2]), "four": np.float32([1, 2, 2, 2]), "size": np.int64([1, C, 12, 12]),
        "roi": np.float32([0, 0, 0, 0, 1, 1, 1, 1]),
    }  # fmt: skip
    group = first(layers(*nodes, **tensors))
    if commutes is not None:
        assert group.problem is None
        assert group.regions[0].commutes == commutes
    assert (group.rigid is None) == (reason is None)
    assert reason is None or reason in group.rigid


PRODUCTS = {
    "by itself": ([node("Mul", ["h", "h"], ["m"])], Commutes.ZERO),
    "by what comes of it": ([node("Relu", ["h"], ["r"]), node("Mul", ["h", "r"], ["m"])], Commutes.ZERO),
    "divided by it": ([node("Abs", ["h"], ["r"]), node("Div", ["c", "r"], ["m"])], Commutes.NOTHING),
    "of constants, added": ([node("Mul", ["c", "c"], ["r"]), node("Add", ["h", "r"], ["m"])], Commutes.NOTHING),
    "by one map for all": ([node("ReduceMean", ["x"], ["r"], axes=[1]), node("Slice", ["r", "s", "e", "a"], ["t"]),
                            node("Mul", ["h", "t"], ["m"])], Commutes.LINEAR),
    "plus one map for all": ([node("ReduceMean", ["x"], ["r"], axes=[1]), node("Slice", ["r", "s", "e", "a"], ["t"]),
                              node("Add", ["h", "t"], ["m"])], Commutes.NOTHING),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "commutes"), PRODUCTS.values(), ids=PRODUCTS)
def test_products(nodes, commutes):
    """Channels in two factors, in none, or in one."""
    ends = {"s": np.int64([0, 0]), "e": np.int64([10, 10]), "a": np.int64([2, 3])}
    opsets = [helper.make_opsetid("", 17)]
    group = first(layers(*nodes, c=np.abs(weights(C, 1, 1)), opsets=opsets, **ends))
    assert group.problem is None
    assert group.regions[0].commutes == commutes


def test_nought_may_be_added_to_all():
    assert first(layers(*one("Add", "c"), c=np.float32([0]))).regions[0].commutes is Commutes.LINEAR


def test_a_normalisation_divides_regions():
    parameters = {name: np.abs(weights(C)) for name in ("g", "b", "a", "s")}
    group = first(layers(*one("BatchNormalization", "g", "b", "a", "s"), **parameters))
    before, after = group.regions
    assert before.values == ("h",)
    assert after.values == ("m",)
    told = {use.role: (use.takes, use.gives) for use in group.uses}
    assert told == {
        Role.PRODUCER: (None, 0), Role.GAMMA: (0, 1), Role.BETA: (None, 1), Role.MEAN: (None, 0),
        Role.VARIANCE: (None, None), Role.CONSUMER: (1, None),
    }  # fmt: skip
    assert group.name == "w"
    assert [use.tensor for use in group.having(Role.GAMMA, Role.BETA)] == ["g", "b"]


BRANCH = helper.make_graph([node("Relu", ["h"], ["z"])], "then", [], [info("z")])
BLOCKED = {
    "an output": (one("Relu"), {}, ("y", "h"), "value 'h': is an output of the model"),
    "the input added": (
        [node("Pad", ["x", "p"], ["xp"]), node("Add", ["h", "xp"], ["m"])],
        {"p": np.int64([0, 0, -1, -1, 0, 3, -1, -1])}, ("y",), "value 'xp': a Pad node pads the channels",
    ),
    "softmax": (one("Softmax", axis=1), {}, ("y",), "Softmax node 'middle' mixes channels or is not known"),
    "another domain": (one("Relu", domain="com.microsoft"), {}, ("y",), "mixes channels or is not known"),
    "a mean of channels": (
        [node("ReduceMean", ["h"], ["r"]), node("Add", ["h", "r"], ["m"])], {}, ("y",), "ReduceMean node reduces",
    ),
    "a branch": (
        [*one("Relu"), node("If", ["f"], ["z"], name="choice", then_branch=BRANCH, else_branch=BRANCH)],
        {"f": np.array(True)}, ("y", "z"), "If node 'choice' uses it in a graph of its own",
    ),
    "computed weights": (
        [node("Sigmoid", ["u"], ["cw"]), node("Conv", ["h", "cw"], ["m"], name="middle", pads=[1, 1, 1, 1])],
        {"u": weights(C, C, 3, 3)}, ("y",), "has weights that are quantised or computed in the file",
    ),
    "a positions' table": (one("Add", "c"), {"c": weights(1, 12, 1, 1)}, ("y",), "of another size"),
    "training": (
        [node("BatchNormalization", ["h", *"gbas"], ["m", "rm", "rv"], name="middle", training_mode=1)],
        {name: np.abs(weights(C)) for name in "gbas"}, ("y",), "is in training mode",
    ),
    "indices": (
        [node("MaxPool", ["h"], ["m", "i"], kernel_shape=[2, 2]), node("Cast", ["i"], ["j"], to=T.FLOAT)],
        {}, ("y", "j"), "does more with the channels than is followed",
    ),
    "whole numbers added": (one("Add", "c"), {"c": np.int64(np.ones((C, 1, 1)))}, ("y",), "is int64"),
    "legacy broadcasting": (
        [node("Add", ["h", "c"], ["m"], name="middle", broadcast=1, axis=1)], {"c": weights(C)}, ("y",),
        "broadcasts by the rules of an operator set before 7",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("middle", "tensors", "outputs", "reason"), BLOCKED.values(), ids=BLOCKED)
def test_where_channels_cannot_be_followed(middle, tensors, outputs, reason):
    group = first(layers(*middle, outputs=outputs, **tensors))
    assert group.problem is not None
    assert re.search(reason, group.problem)
    assert group.rigid == group.problem


def test_channels_are_counted_only_where_nothing_counts_them():
    nodes = [node("Shape", ["h"], ["s"]), node("Gather", ["s", "i"], ["n"]), node("Cast", ["n"], ["c"], to=T.FLOAT),
             node("Mul", ["h", "c"], ["m"])]  # fmt: skip
    assert first(layers(*nodes, i=np.int64([2]))).rigid is None
    counted = first(layers(*nodes, i=np.int64([1])))
    assert counted.problem is None
    assert counted.rigid == "a Shape node tells their number"


def test_groups_of_a_convolution_cannot_be_reordered_but_rescaled():
    nodes = [node("Conv", ["h", "u"], ["m"], name="middle", group=2)]
    before, after = channel_groups(layers(*nodes, u=weights(C, C // 2, 1, 1)))[:2]
    assert "convolves its inputs in 2 groups" in before.problem
    assert "makes its outputs in 2 groups" in after.problem
    assert before.regions[0].problem is not None
    assert after.regions[0].problem is None


def test_nothing_but_layers_with_weights_starts_a_group():
    made = model([node("MatMul", ["x", "x"], ["h"]), node("MatMul", ["h", "w"], ["y"])], [tensor("w", weights(3))])
    assert channel_groups(EditableModel(made)) == ()


def test_taking_channels_twice_and_leaving_some_out():
    edited = layers(*one("Relu"))
    group = first(edited)
    take_channels(edited, group, np.array([5, 5, 0]))
    taken, consumer = (constant(edited, use) for use in group.uses)
    np.testing.assert_array_equal(taken, weights(C, 3, 3, 3)[[5, 5, 0]])
    np.testing.assert_array_equal(consumer, weights(4, C, 3, 3, seed=1)[:, [5, 5, 0]])


def test_scaling_divides_where_channels_are_used():
    edited = layers(*one("Relu"))
    group = first(edited)
    factors = np.array([1, 2, 4, 8, 16, 0.5])
    scale_channels(edited, group, {0: factors})
    made, used = (constant(edited, use) for use in group.uses)
    np.testing.assert_array_equal(made, weights(C, 3, 3, 3) * factors[:, None, None, None].astype(np.float32))
    np.testing.assert_array_equal(used * factors[:, None, None].astype(np.float32), weights(4, C, 3, 3, seed=1))
    assert used.dtype == np.float32


def test_a_graph_changed_since_is_refused():
    edited = layers(*one("Relu"))
    group = first(edited)
    edited.connect(edited.nodes[0], 1, "x")
    with pytest.raises(ValueError, match="Conv node 'first' no longer has a constant at input 1"):
        take_channels(edited, group, np.arange(C))
