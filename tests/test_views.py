"""Views: a mark that folding or rescaling hid comes back, each is counted, and none makes evidence on strangers."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxmark.audit import audit_file
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from onnxmark.verdict import Policy, Verdict
from onnxmark.views import View, with_norms
from tests.onnx_models import conv_chain, kernel

SHAPE = (32, 16, 3, 3)


def with_batch_norm(path, values, scale):
    """The kernel followed by a normalisation of the given scale."""
    ones, zeros = np.ones(len(values), np.float32), np.zeros(len(values), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"], name="bn"),
    ]
    tensors = {"w": values, "g": scale.astype(np.float32), "b": zeros, "m": zeros, "v": ones}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, values.shape[1], 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def scales():
    """Wild enough to hide a mark of margin 1: log-normal of deviation 1.5."""
    return np.exp(np.random.default_rng(5).normal(0, 1.5, SHAPE[0]))


@pytest.fixture
def marked(tmp_path):
    """A marked kernel, its key with the pre-mark record, and the file it came from."""
    host = conv_chain(tmp_path / "host.onnx", [kernel(SHAPE)])
    with open_model(host) as model:
        site = model.sites()[0]
        key = make_key(carrier_of(site), np.zeros(64, np.uint8), premark=model.read(site))
    embed_file(host, key, tmp_path / "marked.onnx", margin=1.0)
    with open_model(tmp_path / "marked.onnx") as model:
        return key, model.read(model.sites()[0]).values.copy(), host


def rate(finding, view):
    return next(c.evidence.bit_error_rate for c in finding.candidates if c.view is view)


def test_a_mark_in_folded_weights_is_found_where_the_file_keeps_them_apart(marked, scales, tmp_path):
    key, values, _ = marked
    bare = make_key(key.carrier, np.zeros(64, np.uint8))
    column = scales.reshape(-1, 1, 1, 1)
    path = with_batch_norm(tmp_path / "bn.onnx", (values / column).astype(np.float32), scales)
    (finding, other) = audit_file(path, [key, bare]).findings
    assert finding.verdict is Verdict.MATCH
    assert finding.best.view is View.FOLDED
    assert rate(finding, View.FOLDED) == 0
    assert rate(finding, View.STORED) > 0
    assert [c.view for c in finding.candidates] == [View.STORED, View.FOLDED, View.NORMS, View.ALIGNED]
    assert [c.view for c in other.candidates] == [View.STORED, View.FOLDED]
    assert finding.judgement.n_hypotheses == 2 * (4 + 2)


def test_rescaled_filters_come_back_by_the_norms_in_the_key(marked, scales, tmp_path):
    key, values, _ = marked
    path = conv_chain(tmp_path / "scaled.onnx", [values * scales.reshape(-1, 1, 1, 1)])
    (finding,) = audit_file(path, [key]).findings
    assert rate(finding, View.NORMS) == 0
    assert rate(finding, View.STORED) > 0.02
    (faster,) = audit_file(path, [key], align=False).findings
    assert faster.best.view is View.NORMS
    assert faster.judgement.n_hypotheses == finding.judgement.n_hypotheses - 2


def test_an_enlarged_kernel_is_read_at_its_old_size(marked, tmp_path):
    key, values, _ = marked
    larger = np.pad(values, [(0, 0), (0, 0), (1, 1), (1, 1)])
    (finding,) = audit_file(conv_chain(tmp_path / "five.onnx", [larger]), [key]).findings
    assert finding.verdict is Verdict.MATCH
    assert finding.best.reading.resized
    assert finding.best.evidence.n_errors == 0


def test_a_stranger_of_another_kernel_size_is_inconclusive(marked, tmp_path):
    key, _, _ = marked
    (finding,) = audit_file(conv_chain(tmp_path / "x.onnx", [kernel((32, 16, 5, 5), 9)]), [key]).findings
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "those of other sizes do not match" in finding.judgement.reason


def test_no_view_makes_evidence_on_strangers(marked, scales, tmp_path):
    key, _, _ = marked
    for seed in range(20):
        path = with_batch_norm(tmp_path / "stranger.onnx", kernel(SHAPE, seed + 100), scales)
        (finding,) = audit_file(path, [key], Policy(alpha=1e-3)).findings
        assert finding.verdict is Verdict.NO_MATCH
        assert all(0.2 < c.evidence.bit_error_rate < 0.8 for c in finding.candidates)


def test_restored_norms_are_the_norms_and_zeros_stay():
    values = kernel((4, 3, 3, 3))
    values[2] = 0
    restored = with_norms(values, np.array([1, 2, 3, 4], np.float32))
    np.testing.assert_allclose(np.linalg.norm(restored.reshape(4, -1), axis=1), [1, 2, 0, 4], rtol=1e-5)
