"""Normalisation folded in: the network answers as before with fewer nodes, and a mark is found in what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxmark.audit import audit_file
from onnxmark.errors import AttackError
from onnxmark.keys import load_key
from onnxmark.symmetries.normalisation import BatchNormFolding
from tests.model.models import weights
from tests.real.models import locate
from tests.routes.runtime import resaved
from tests.symmetries.subjects import DEMO, assert_same_answers, built, file_means, tensors_of

LAYERS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], int, dict[str, Any]]] = {
    "Conv": ("Conv", (5, 3, 3, 3), (2, 3, 9, 8), 5, {"pads": [1, 1, 1, 1]}),
    "Conv, grouped": ("Conv", (6, 2, 3, 3), (2, 4, 9, 8), 6, {"group": 2}),
    "Conv, depthwise": ("Conv", (4, 1, 3, 3), (2, 4, 9, 8), 4, {"group": 4}),
    "Conv, one axis": ("Conv", (5, 3, 4), (2, 3, 9), 5, {}),
    "Conv, three axes": ("Conv", (5, 3, 2, 1, 2), (2, 3, 4, 5, 6), 5, {}),
    "ConvTranspose": ("ConvTranspose", (3, 5, 3, 3), (2, 3, 9, 8), 5, {"strides": [2, 2]}),
    "ConvTranspose, grouped": ("ConvTranspose", (6, 4, 3, 3), (2, 6, 9, 8), 8, {"group": 2}),
    "ConvTranspose, depthwise": ("ConvTranspose", (6, 1, 3), (2, 6, 9), 6, {"group": 6}),
    "Gemm": ("Gemm", (4, 7), (3, 4), 7, {}),
    "Gemm, transposed": ("Gemm", (7, 4), (3, 4), 7, {"transB": 1}),
    "Gemm, square": ("Gemm", (4, 4), (3, 4), 4, {}),
    "Gemm, square, transposed": ("Gemm", (4, 4), (3, 4), 4, {"transB": 1}),
    "Gemm with factors": ("Gemm", (4, 7), (3, 4), 7, {"alpha": 0.5, "beta": -3.0}),
}


def norm(channels: int, seed: int = 5) -> dict[str, np.ndarray]:
    """Parameters of a normalisation, some scales negative, by name."""
    rng = np.random.default_rng(seed)
    return {
        "gamma": rng.normal(size=channels).astype(np.float32),
        "beta": rng.normal(size=channels).astype(np.float32),
        "mean": rng.normal(size=channels).astype(np.float32),
        "var": rng.uniform(0.1, 3, channels).astype(np.float32),
    }


def normalise(source: str = "a", out: str = "y", prefix: str = "", **attributes: Any) -> onnx.NodeProto:
    parameters = [prefix + name for name in ("gamma", "beta", "mean", "var")]
    return helper.make_node("BatchNormalization", [source, *parameters], [out], name=f"norm of {source}", **attributes)


def folded(source: Path, layers: tuple[str, ...] | None = None) -> tuple[Path, tuple[str, ...]]:
    output = source.parent / "out" / source.name
    output.parent.mkdir(exist_ok=True)
    return output, BatchNormFolding().rewrite(source, output, file_means(layers))


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


# Only a Gemm's bias is broadcast.
BIASES = [(name, bias) for name in LAYERS for bias in (None, "of its channels")]
BIASES += [(name, bias) for name in LAYERS if LAYERS[name][0] == "Gemm" for bias in ("one number", "a row")]


@pytest.mark.parametrize(("name", "bias"), BIASES)
def test_the_two_become_one(tmp_path: Path, name: str, bias: str | None) -> None:
    operator, shape, source, channels, attributes = LAYERS[name]
    tensors = {"w": weights(*shape), **norm(channels)}
    form = {"of its channels": (channels,), "one number": (), "a row": (1, channels)}
    if bias:
        tensors["b"] = np.asarray(weights(*form[bias], seed=3))
    nodes = [
        helper.make_node(operator, ["x", "w", *(["b"] if bias else [])], ["a"], **attributes),
        normalise(epsilon=0.03),
    ]
    path = built(tmp_path / "m.onnx", nodes, tensors, source)
    output, said = folded(path)
    assert_same_answers(path, output)
    assert operators(output) == [operator]
    assert said == ("batch normalisation folded in: 1 ('w')",)
    left = tensors_of(output)
    assert left.keys() == {"w", "b" if bias else "w.bias"}
    assert left["w"].shape == shape
    assert not np.array_equal(left["w"], tensors["w"])


@pytest.mark.parametrize("operator", ["Conv", "Gemm"])
def test_against_the_reference_evaluator_in_double_precision(tmp_path: Path, operator: str) -> None:
    """Without rounding to hide behind: 1e-12 of the largest output."""
    shape = {"Conv": (4, 3, 3, 3), "Gemm": (3, 4)}[operator]
    source = {"Conv": (1, 3, 7, 7), "Gemm": (6, 3)}[operator]
    tensors = {name: values.astype(np.float64) for name, values in {"w": weights(*shape), **norm(4)}.items()}
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["a"]), normalise()], "g", [info("x", 11, source)],
        [info("y", 11, None)], [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    output, _ = folded(path)
    x = np.random.default_rng(2).normal(size=source)
    old, new = (ReferenceEvaluator(onnx.load(p)).run(None, {"x": x})[0] for p in (path, output))
    assert new.dtype == np.float64
    np.testing.assert_allclose(new, old, rtol=0, atol=1e-12 * np.abs(old).max())


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 14, 15, 20])
def test_every_version_of_the_operator(tmp_path: Path, opset: int) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), normalise(momentum=0.8)]
    path = built(tmp_path / "m.onnx", nodes, {"w": weights(5, 3, 3, 3), **norm(5)}, (2, 3, 9, 8), opset=opset)
    output, _ = folded(path)
    assert_same_answers(path, output)
    assert operators(output) == ["Conv"]


def test_onnx_runtime_folds_to_the_same_weights(tmp_path: Path) -> None:
    """Somebody else's folding, to a few units in the last place of float32."""
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["a"]), normalise()]
    tensors = {"w": weights(5, 3, 3, 3), "b": weights(5, seed=2), **norm(5)}
    path = built(tmp_path / "m.onnx", nodes, tensors, (2, 3, 9, 8))
    ours, _ = folded(path)
    theirs = tensors_of(resaved(path, tmp_path / "ort.onnx", "basic"))
    shapes = {values.shape: values for values in theirs.values()}
    assert len(shapes) == 2
    for values in tensors_of(ours).values():
        np.testing.assert_allclose(values, shapes[values.shape], rtol=2e-6, atol=1e-6)


def test_a_chain_with_residual_connections(tmp_path: Path) -> None:
    """Folded where the normalisation alone follows; and the sum still finds what it adds up."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        normalise("a", "b", "n1."),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "w2"], ["d"], pads=[1, 1, 1, 1]),
        normalise("d", "e", "n2."),
        helper.make_node("Add", ["e", "c"], ["y"]),
    ]
    tensors = {"w1": weights(6, 3, 3, 3), "w2": weights(6, 6, 3, 3)}
    for prefix, seed in (("n1.", 1), ("n2.", 2)):
        tensors |= {prefix + name: values for name, values in norm(6, seed).items()}
    path = built(tmp_path / "m.onnx", nodes, tensors, (2, 3, 9, 8))
    output, said = folded(path)
    assert_same_answers(path, output)
    assert operators(output) == ["Conv", "Relu", "Conv", "Add"]
    assert said == ("batch normalisation folded in: 2 ('w1', 'w2')",)
    output, said = folded(path, ("w2",))
    assert_same_answers(path, output)
    assert operators(output) == ["Conv", "BatchNormalization", "Relu", "Conv", "Add"]
    np.testing.assert_array_equal(tensors_of(output)["w1"], tensors["w1"])


def test_layers_that_share_weights_and_parameters_each_get_their_own(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1]),
        normalise("a", "c"),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "w", "b"], ["e"], pads=[1, 1, 1, 1]),
        normalise("e", "f"),
        helper.make_node("Conv", ["f", "w", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    tensors = {"w": weights(3, 3, 3, 3), "b": weights(3, seed=1), **norm(3)}
    path = built(tmp_path / "m.onnx", nodes, tensors, (2, 3, 9, 8))
    output, said = folded(path)
    assert_same_answers(path, output)
    assert operators(output) == ["Conv", "Relu", "Conv", "Conv"]
    assert said == ("batch normalisation folded in: 2 ('w', 'w')",)
    left = tensors_of(output)
    np.testing.assert_array_equal(left["w"], tensors["w"])
    assert len(left) == 6
    assert not left.keys() & {"gamma", "beta", "mean", "var"}


def test_constants_in_nodes(tmp_path: Path) -> None:
    tensors = {"w": weights(5, 3, 3, 3), "b": weights(5), **norm(5)}
    stored = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values))
        for name, values in tensors.items()
    ]
    nodes = [*stored, helper.make_node("Conv", ["x", "w", "b"], ["a"]), normalise()]
    path = built(tmp_path / "m.onnx", nodes, {}, (2, 3, 9, 8))
    output, _ = folded(path)
    assert_same_answers(path, output)
    assert [operator for operator in operators(output) if operator != "Constant"] == ["Conv"]


def graph_with(change: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray], tuple[str, ...]]:
    """Conv and BatchNormalization with something that keeps them apart."""
    conv, bn = helper.make_node("Conv", ["x", "w"], ["a"]), normalise()
    nodes, tensors, outputs = [conv, bn], {"w": weights(5, 3, 3, 3), **norm(5)}, ("y",)
    if change == "used twice":
        nodes.append(helper.make_node("Add", ["a", "y"], ["z"]))
        outputs = ("z",)
    elif change == "an output":
        outputs = ("a", "y")
    elif change == "in training mode":
        nodes = [conv, normalise(training_mode=1)]
    elif change == "in training mode before opset 14":
        nodes = [conv, helper.make_node("BatchNormalization", list(bn.input), ["y", "m", "v"])]
    elif change == "computed weights":
        nodes.insert(0, helper.make_node("Neg", ["v"], ["w"]))
        tensors["v"] = tensors.pop("w")
    elif change == "computed bias":
        nodes[0] = helper.make_node("Conv", ["x", "w", "b"], ["a"])
        nodes.insert(0, helper.make_node("Neg", ["v"], ["b"]))
        tensors["v"] = weights(5)
    elif change == "computed parameters":
        nodes.insert(0, helper.make_node("Neg", ["v"], ["mean"]))
        tensors["v"] = tensors.pop("mean")
    elif change == "an activation between":
        nodes[:] = [conv, helper.make_node("Relu", ["a"], ["r"]), normalise("r")]
    return nodes, tensors, outputs


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("used twice", r"1 \('w'\), whose output is used without the normalisation, too"),
        ("an output", r"1 \('w'\), whose output is used without the normalisation, too"),
        ("in training mode", r"1 \('w'\), whose normalisation is in training mode"),
        ("in training mode before opset 14", r"1 \('w'\), whose normalisation is in training mode"),
        ("computed weights", r"1 \('w'\), whose weights are not stored as floats"),
        ("computed bias", r"1 \('w'\), whose bias is not stored as floats"),
        ("computed parameters", r"1 \('w'\), whose normalisation is not stored as floats"),
        ("an activation between", r"1 \('y'\), which follows no layer that could take it in"),
    ],
)
def test_what_keeps_them_apart_is_a_reason(tmp_path: Path, change: str, reason: str) -> None:
    nodes, tensors, outputs = graph_with(change)
    path = built(tmp_path / "m.onnx", nodes, tensors, (2, 3, 9, 8), outputs)
    with pytest.raises(AttackError, match=rf"no layer can have batch normalisation folded in \({reason}\)"):
        folded(path)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_was_left_alone_is_said_beside_what_was_done(tmp_path: Path) -> None:
    nodes, tensors, _ = graph_with("an activation between")
    nodes += [helper.make_node("Conv", ["y", "u"], ["z"]), normalise("z", "end", "n.")]
    tensors |= {"u": weights(4, 5, 1, 1), **{f"n.{name}": values for name, values in norm(4).items()}}
    path = built(tmp_path / "m.onnx", nodes, tensors, (2, 3, 9, 8), ("end",))
    output, said = folded(path)
    assert_same_answers(path, output)
    assert said == (
        "batch normalisation folded in: 1 ('u')",
        "left alone: 1 ('y'), which follows no layer that could take it in",
    )


def test_values_too_large_for_the_type_of_the_file_are_not_written(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    tensors = {"w": weights(5, 3, 3, 3), **norm(5)} | {"gamma": np.full(5, 6e4, np.float32)}
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["a"]), normalise()], "g", [info("x", 10, [1, 3, 9, 9])],
        [info("y", 10, None)], [numpy_helper.from_array(v.astype(np.float16), name) for name, v in tensors.items()],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    with pytest.raises(AttackError, match=r"whose folded values do not fit into float16"):
        folded(path)


def test_channels_that_do_not_fit_are_left_alone(tmp_path: Path) -> None:
    """A damaged model: ONNX Runtime would refuse it, and so do we, without an exception of NumPy's."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), normalise()]
    path = built(tmp_path / "m.onnx", nodes, {"w": weights(5, 3, 3, 3), **norm(4)}, (2, 3, 9, 8))
    with pytest.raises(AttackError, match="whose channels are not those of its normalisation"):
        folded(path)


@pytest.mark.parametrize("spread", [0.0, 0.2, 0.4])
def test_the_shipped_mark_is_found_in_folded_weights(tmp_path: Path, spread: float) -> None:
    """Every convolution of the shipped model gets a normalisation whose scales differ, and then takes it in."""
    model = onnx.load(DEMO / "marked.onnx")
    rng = np.random.default_rng(3)
    for place, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type == "Conv":
            inner, prefix = f"{node.output[0]}.raw", f"norm{place}."
            channels = next(item.dims[0] for item in model.graph.initializer if item.name == node.input[1])
            values = norm(channels) | {"gamma": np.exp(rng.normal(0, spread, channels)).astype(np.float32)}
            values["var"] = np.ones(channels, np.float32)
            model.graph.initializer.extend(numpy_helper.from_array(v, prefix + name) for name, v in values.items())
            model.graph.node.insert(place + 1, normalise(inner, node.output[0], prefix))
            node.output[0] = inner
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    output, said = folded(path)
    assert said[0].startswith("batch normalisation folded in: 3 (")
    assert_same_answers(path, output)
    assert "BatchNormalization" not in operators(output)
    (finding,) = audit_file(output, [load_key(DEMO / "key.npy")]).findings
    (stranger,) = audit_file(output, [load_key(DEMO / "other_key.npy")]).findings
    assert (finding.verdict, stranger.verdict) == ("match", "no-match")


EXPORTERS: dict[str, tuple[dict[str, Any], int]] = {
    "torchscript": ({"dynamo": False, "do_constant_folding": False}, 3),
    # It folds the first convolution itself.
    "torchscript, folded": ({"dynamo": False}, 2),
    # It writes zero biases as computations on constants.
    "dynamo": ({"dynamo": True, "optimize": False, "external_data": False, "verbose": False}, 3),
}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_exports_of_torch(tmp_path: Path, exporter: str) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    from tests.routes.bench import quiet

    options, count = EXPORTERS[exporter]
    torch.manual_seed(0)
    layers = torch.nn
    net = layers.Sequential(
        layers.Conv2d(3, 8, 3, bias=False), layers.BatchNorm2d(8), layers.ReLU(),
        layers.ConvTranspose2d(8, 6, 3, groups=2), layers.BatchNorm2d(6), layers.ReLU(), layers.Flatten(),
        layers.Linear(6 * 64, 5), layers.BatchNorm1d(5),
    )  # fmt: skip
    net(torch.randn(64, 3, 8, 8))
    path = tmp_path / "m.onnx"
    with quiet():
        torch.onnx.export(net.eval(), (torch.randn(2, 3, 8, 8),), path, opset_version=18, **options)
    assert operators(path).count("BatchNormalization") == count
    output, said = folded(path)
    assert_same_answers(path, output)
    assert len(said) == 1
    assert said[0].startswith(f"batch normalisation folded in: {count} (")
    assert "BatchNormalization" not in operators(output)


@pytest.mark.parametrize(
    ("name", "count"), [("ch_ppocr_mobile_v2.0_cls_infer.onnx", 35), ("ch_PP-OCRv4_rec_infer.onnx", 6)]
)
def test_real_models_answer_as_before(tmp_path: Path, name: str, count: int) -> None:
    path = locate("rapidocr-onnxruntime", name)
    if path is None:
        pytest.skip("needs a real model: pip install --no-deps rapidocr-onnxruntime")
    norms = [node for node in onnx.load(path).graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == count
    output = tmp_path / name
    said = BatchNormFolding().rewrite(path, output, file_means())
    done = count - operators(output).count("BatchNormalization")
    assert said[0].startswith(f"batch normalisation folded in: {done} (")
    assert done > 0
    # Rounding adds up over some fifty layers.
    assert_same_answers(path, output, within=1e-3, taps=tuple(node.output[0] for node in norms), size=64)


def test_it_describes_itself() -> None:
    assert BatchNormFolding().label == "batch normalisation folded in"
    assert BatchNormFolding().parameter == 1
    assert repr(BatchNormFolding()) == "BatchNormFolding()"
