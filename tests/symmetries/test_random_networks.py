"""Networks nobody thought of: drawn node by node, attacked, and asked again."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from onnxmark.errors import AttackError
from onnxmark.symmetries import DummyNeurons, Permutation, Rescaling, SignFlip

from .networks import Net
from .subjects import assert_same_answers, file_means

ATTACKS = (
    Permutation(), Permutation(0.4), Rescaling(0.7), SignFlip(),
    *(DummyNeurons(0.4, kind) for kind in ("zero", "dead", "clique", "split", "mixed")),
)  # fmt: skip
UNARY = ("Relu", "LeakyRelu", "Tanh", "Sigmoid", "HardSwish", "Identity", "Neg", "Abs", "Softplus")
STEPS = ("conv", "conv", "depthwise", "grouped", "norm", "unary", "unary", "constant", "pool", "residual", "gate",
         "concat", "prelu", "transposed")  # fmt: skip


def drawn(data: st.DataObject) -> Net:
    """Four to ten random steps on maps of four or six channels, with a way back to any earlier map of the same size."""
    net = Net(np.random.default_rng(data.draw(st.integers(0, 99))))
    x, size = net.conv("x", 4, 3), 4
    maps = [(x, size)]
    for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=4, max_size=10)):
        x, size = advanced(net, step, x, size, maps, data)
        maps.append((x, size))
    result = net.head(net.conv(x, 4, size), 4)
    net.result = result
    return net


def advanced(net: Net, step: str, x: str, size: int, maps: list[tuple[str, int]], data: st.DataObject):
    """One step further from the map ``x``; all maps stay 8 x 8, so that any two can meet."""
    if step == "conv":
        outputs = data.draw(st.sampled_from((4, 6)))
        return net.conv(x, outputs, size, data.draw(st.sampled_from((1, 3))), bias=data.draw(st.booleans())), outputs
    if step == "depthwise":
        return net.conv(x, size, size, group=size), size
    if step == "grouped":
        return net.conv(x, 4, size, group=2), 4
    if step == "norm":
        return net.norm(x, size), size
    if step == "unary":
        return net.add(data.draw(st.sampled_from(UNARY)), x), size
    if step == "constant":
        shape = data.draw(st.sampled_from(((size, 1, 1), (1, size, 1, 1), (1,), (8,), ())))
        constant = net.draw("c", *shape, low=0.3)
        operands = (x, constant) if data.draw(st.booleans()) else (constant, x)
        return net.add(data.draw(st.sampled_from(("Add", "Sub", "Mul", "Max", "Min"))), *operands), size
    if step == "pool":
        kind = data.draw(st.sampled_from(("MaxPool", "AveragePool")))
        return net.add(kind, x, kernel_shape=[3, 3], pads=[1] * 4), size
    if step == "prelu":
        return net.add("PRelu", x, net.draw("slope", size, 1, 1, low=0.1)), size
    if step == "transposed":
        return net.add("ConvTranspose", x, net.draw("w", size, 4, 3, 3), net.draw("b", 4), pads=[1] * 4), 4
    if step == "gate":
        inner = net.add("Relu", net.conv(net.add("GlobalAveragePool", x), 3, size, 1))
        return net.add("Mul", x, net.add("Sigmoid", net.conv(inner, size, 3, 1))), size
    others = [name for name, width in maps if width == size]
    other = data.draw(st.sampled_from(others))
    if step == "concat":
        return net.conv(net.add("Concat", x, other, axis=1), 4, 2 * size), 4
    return net.add(data.draw(st.sampled_from(("Add", "Sub", "Mul", "Max"))), x, other), size


@settings(max_examples=60)
@given(st.data(), st.sampled_from(ATTACKS), st.integers(0, 9))
def test_answers_stay_or_nothing_is_written(data, attack, seed):
    net = drawn(data)
    with TemporaryDirectory() as folder:
        source, result = Path(folder) / "net.onnx", Path(folder) / "attacked.onnx"
        net.save(source, net.result)
        try:
            sentences = attack.rewrite(source, result, file_means(seed=seed))
        except AttackError:
            event(f"{attack.name}: nothing to change")
            assert not result.exists()
            return
        event(f"{attack.name}: changed")
        assert sentences
        # The products of a few maps and factors on the way have numbers far larger than those that come out.
        assert_same_answers(source, result, 1e-4)
