"""Folding verdicts with their evidence, and the folded weights against what ONNX Runtime computes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxmark.model import FoldingState, open_model
from onnxmark.model.profile import profile

rng = np.random.default_rng(3)
KERNEL = rng.standard_normal((6, 4, 3, 3)).astype(np.float32)
GAMMA, BETA, MEAN = (rng.standard_normal(6).astype(np.float32) for _ in range(3))
VAR = (rng.random(6) + 0.2).astype(np.float32)


def model(path, *, op="Conv", bias=False, norm=False, name="conv.weight", epsilon=1e-3, branch=False, metadata=()):
    kernel = KERNEL if op == "Conv" else KERNEL.transpose(1, 0, 2, 3).copy()
    inputs = ["x", name, *(["bias"] if bias else [])]
    conv = helper.make_node(op, inputs, ["c"], name="conv")
    for key, value in metadata:
        conv.metadata_props.add(key=key, value=value)
    nodes, initializers, outputs = [conv], [numpy_helper.from_array(kernel, name)], ["c"]
    if bias:
        initializers.append(numpy_helper.from_array(BETA, "bias"))
    if norm:
        attributes = {} if epsilon is None else {"epsilon": epsilon}
        nodes.append(helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"], name="bn", **attributes))
        values = zip("gbmv", (GAMMA, BETA, MEAN, VAR), strict=True)
        initializers += [numpy_helper.from_array(value, letter) for letter, value in values]
        outputs = ["y"]
    if branch:
        nodes.append(helper.make_node("Relu", ["c"], ["z"], name="relu"))
        outputs.append("z")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def folding(path):
    with open_model(path) as opened:
        return opened.folding(opened.sites()[0])


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("epsilon", [1e-3, None])
def test_a_separate_normalisation_folds_as_the_runtime_folds_it(tmp_path, op, epsilon):
    path = model(tmp_path / "m.onnx", op=op, norm=True, epsilon=epsilon)
    assert folding(path).state is FoldingState.SEPARATE
    with open_model(path) as opened:
        folded = opened.read_folded(opened.sites()[0]).values
    # What the normalised layer does to an impulse, minus what it does to nothing, is its folded kernel.
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    zero = np.zeros((1, 4, 8, 8), np.float32)
    rest = session.run(None, {"x": zero})[0]
    for channel in range(4):
        impulse = zero.copy()
        impulse[0, channel, 4, 4] = 1
        answer = (session.run(None, {"x": impulse})[0] - rest)[0]
        seen = answer[:, 2:5, 2:5][:, ::-1, ::-1] if op == "Conv" else answer[:, 4:7, 4:7]
        np.testing.assert_allclose(folded[:, channel], seen, rtol=2e-3, atol=2e-4)


def test_a_normalisation_that_is_not_alone_does_not_fold(tmp_path):
    path = model(tmp_path / "m.onnx", norm=True, branch=True)
    assert folding(path).state is FoldingState.NONE
    with open_model(path) as opened:
        assert opened.read_folded(opened.sites()[0]) is None


@pytest.mark.parametrize(
    ("arguments", "state", "words"),
    [
        ({}, FoldingState.NONE, "no bias"),
        ({"bias": True}, FoldingState.POSSIBLY_FOLDED, "a bias and no normalisation"),
        ({"name": "ConvBnFusion_W_conv1.weight"}, FoldingState.PROBABLY_FOLDED, "ONNX Runtime"),
        ({"name": "onnx::Conv_89"}, FoldingState.PROBABLY_FOLDED, "TorchScript"),
        ({"name": "/bn1/BatchNormalization_output_0_weight"}, FoldingState.PROBABLY_FOLDED, "onnxslim"),
        ({"name": "tiny/stem/convolution/merged_input:0"}, FoldingState.PROBABLY_FOLDED, "tf2onnx"),
        ({"name": "_v_81"}, FoldingState.PROBABLY_FOLDED, "onnxsim"),
        (
            {"metadata": [("pkg.onnxscript.rewriter.rule_name", "FuseBatchNormIntoConv, Other")], "bias": True},
            FoldingState.FOLDED,
            "FuseBatchNormIntoConv",
        ),
    ],
)
def test_the_verdict_and_its_evidence(tmp_path, arguments, state, words):
    found = folding(model(tmp_path / "m.onnx", **arguments))
    assert found.state is state
    assert words in found.evidence[0]
    assert found.folded is None


def test_profile_says_what_numpy_says():
    values = np.where(rng.random((8, 4, 3, 3)) < 0.25, 0, rng.standard_normal((8, 4, 3, 3))).astype(np.float32)
    looks = profile(values)
    assert looks.sparsity == np.mean(values == 0)
    assert looks.std == pytest.approx(values.std(), rel=1e-5)
    assert (looks.low, looks.high) == (values.min(), values.max())
    assert looks.n_levels == len(set(values.ravel().tolist()))
    assert looks.mean_filter_ratio == pytest.approx(values.mean(0).std() * np.sqrt(8) / values.std(), rel=1e-4)


def test_the_shared_shift_shows():
    independent = rng.standard_normal((64, 16, 3, 3)).astype(np.float32)
    shifted = independent + 0.5 * rng.standard_normal((1, 16, 3, 3)).astype(np.float32)
    assert profile(independent).mean_filter_ratio == pytest.approx(1, abs=0.15)
    assert profile(shifted).mean_filter_ratio > 2


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.full((2, 2), np.nan)])
def test_profile_of_weights_without_spread(values):
    assert profile(values.astype(np.float32)).mean_filter_ratio is None
