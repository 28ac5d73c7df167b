"""Sessions, batches and fidelity, against the arithmetic they stand for."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxmark.errors import CalibrationError, MissingExtra, ModelError, ModelUnavailable
from onnxmark.model.running import runtime
from onnxmark.model.running.calibration import Calibration
from onnxmark.model.running.runtime import fidelity, onnxruntime_for, open_session, run, session_options
from tests.model_runtime.graphs import classifier, model, normal, save


def _given(**arrays):
    return Calibration({name: np.asarray(array) for name, array in arrays.items()}, "inputs.npz")


def _logits(built, x):
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in built.graph.initializer}
    return x @ weights["w"].T + weights["b"]


@pytest.mark.parametrize("count", [1, 64, 150])
@pytest.mark.parametrize("batch", ["N", 1, 8])
def test_run_joins_batches(tmp_path, batch, count):
    built, x = classifier(batch=batch), normal(count, 6)
    outputs = run(save(built, tmp_path / "m.onnx"), _given(x=x), batch_size=32)
    np.testing.assert_allclose(outputs.values["y"], _logits(built, x), rtol=1e-4, atol=1e-5)
    assert outputs.n_inputs == count
    assert outputs.provider == "CPUExecutionProvider"


def test_run_from_bytes():
    built, x = classifier(), normal(3, 6)
    outputs = run(built.SerializeToString(), _given(x=x))
    np.testing.assert_allclose(outputs.values["y"], _logits(built, x), rtol=1e-4, atol=1e-5)


def test_run_with_external_data(tmp_path):
    built, x = classifier(), normal(3, 6)
    onnx.save(built, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    outputs = run(str(tmp_path / "m.onnx"), _given(x=x))
    np.testing.assert_allclose(outputs.values["y"], _logits(classifier(), x), rtol=1e-4, atol=1e-5)


def test_outputs_without_a_batch_have_a_row_a_batch():
    built = model([helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], [("x", ["N", 6])], [("y", [])], {})
    assert run(built.SerializeToString(), _given(x=np.ones((5, 6))), batch_size=2).values["y"].tolist() == [12, 12, 6]


def test_outputs_that_change_shape_are_reported():
    built = model([helper.make_node("Transpose", ["x"], ["y"])], [("x", ["N", 6])], [("y", [6, "N"])], {})
    with pytest.raises(CalibrationError, match="change shape from batch to batch"):
        run(built.SerializeToString(), _given(x=np.ones((5, 6))), batch_size=4)


def test_session_describes_the_model(tmp_path):
    session = open_session(save(classifier(batch=8), tmp_path / "m.onnx"))
    assert [(item.name, item.dtype, item.shape) for item in session.inputs] == [("x", np.float32, (8, 6))]
    assert session.outputs == ("y",)


def test_missing_file(tmp_path):
    with pytest.raises(ModelUnavailable, match="no such file"):
        open_session(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08"])
def test_models_that_cannot_be_loaded_give_one_line(tmp_path, capfd, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"^[^\n]*m\.onnx': ONNX Runtime cannot load it \([^\n]+\)$"):
        open_session(tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")


def test_a_model_that_fails_gives_one_line(capfd):
    built = model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", ["N", 6])],
        [("y", [4, 5])],
        {"shape": np.array([4, 5])},
    )
    with pytest.raises(CalibrationError, match=r"^model: the model fails on the calibration inputs \([^\n]+\)$"):
        run(built.SerializeToString(), _given(x=np.ones((3, 6))))
    assert capfd.readouterr() == ("", "")


def test_inputs_of_text_are_refused():
    built = model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", ["N"], TensorProto.STRING)],
        [("y", ["N"], TensorProto.STRING)],
        {},
    )
    with pytest.raises(CalibrationError, match=r"input 'x' is tensor\(string\); only tensors of numbers"):
        open_session(built.SerializeToString())


def test_without_onnxruntime_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"running a model needs onnxruntime.*pip install 'onnxmark\[runtime\]'"):
        open_session(b"")


class _Available:
    def __init__(self, *names):
        self.get_available_providers = lambda: list(names)


def test_best_provider_comes_first():
    found = runtime._providers(
        _Available("TensorrtExecutionProvider", "CPUExecutionProvider", "CUDAExecutionProvider"), None
    )
    assert found == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_provider_can_be_named():
    available = _Available("CUDAExecutionProvider", "CPUExecutionProvider")
    assert runtime._providers(available, "CPUExecutionProvider") == ["CPUExecutionProvider"]
    assert runtime._providers(_Available("X", "CPUExecutionProvider"), "X") == ["X", "CPUExecutionProvider"]


def test_a_provider_that_is_not_there():
    with pytest.raises(CalibrationError, match=r"'NoSuchProvider' is not installed; there are .*CPUExecutionProvider"):
        open_session(classifier().SerializeToString(), provider="NoSuchProvider")


def test_fidelity_counts_changes_and_accuracy():
    old, new, x = classifier(0), classifier(7), normal(130, 6)
    before, after = _logits(old, x), _logits(new, x)
    labels = before.argmax(1)
    labels[:13] = (labels[:13] + 1) % 4
    found = fidelity(old.SerializeToString(), new.SerializeToString(), _given(x=x, labels=labels))
    assert found.relative_change == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(before), rel=1e-5)
    assert found.decisions_changed == np.sum(before.argmax(1) != after.argmax(1))
    assert found.accuracy_before == pytest.approx(0.9)
    assert found.accuracy_after == pytest.approx(np.mean(after.argmax(1) == labels))
    assert (found.n_inputs, found.provider) == (130, "CPUExecutionProvider")


@pytest.mark.parametrize("batch", ["N", 8])
def test_a_model_is_faithful_to_itself(batch):
    content = classifier(batch=batch).SerializeToString()
    found = fidelity(content, content, _given(x=normal(20, 6)))
    assert (found.relative_change, found.decisions_changed, found.accuracy_before) == (0, 0, None)


def test_padding_does_not_count():
    old, new, x = classifier(0, batch=8), classifier(7, batch=8), normal(9, 6)
    opened, fixed = (
        fidelity(*(classifier(seed, batch=batch).SerializeToString() for seed in (0, 7)), _given(x=x))
        for batch in ("N", 8)
    )
    assert fixed.relative_change == pytest.approx(opened.relative_change, rel=1e-6)
    assert fixed.decisions_changed == opened.decisions_changed
    assert old.graph != new.graph


def test_no_decisions_where_no_output_is_a_row_of_classes():
    built = model([helper.make_node("Relu", ["x"], ["y"])], [("x", ["N", 2, 3])], [("y", ["N", 2, 3])], {})
    found = fidelity(
        built.SerializeToString(), built.SerializeToString(), _given(x=normal(4, 2, 3), labels=np.zeros(4, int))
    )
    assert (found.decisions_changed, found.accuracy_before, found.accuracy_after) == (None, None, None)


@pytest.mark.parametrize(("scale", "expected"), [(0.0, 0.0), (1.0, float("inf"))])
def test_change_relative_to_nothing(scale, expected):
    def scaled(factor):
        nodes = [helper.make_node("Mul", ["x", "s"], ["y"])]
        return model(nodes, [("x", ["N", 3])], [("y", ["N", 3])], {"s": np.float32(factor)}).SerializeToString()

    assert fidelity(scaled(0.0), scaled(scale), _given(x=np.ones((2, 3)))).relative_change == expected


def test_an_output_without_floats_cannot_be_compared():
    built = model(
        [helper.make_node("ArgMax", ["x"], ["y"], axis=1)], [("x", ["N", 3])], [("y", ["N", 1], TensorProto.INT64)], {}
    )
    with pytest.raises(CalibrationError, match="no floating-point output"):
        fidelity(built.SerializeToString(), built.SerializeToString(), _given(x=np.ones((2, 3))))


def test_unlike_models_are_not_compared():
    other = model([helper.make_node("Relu", ["x"], ["z"])], [("x", ["N", 6])], [("z", ["N", 6])], {})
    with pytest.raises(CalibrationError, match="compare like with like"):
        fidelity(classifier().SerializeToString(), other.SerializeToString(), _given(x=np.ones((2, 6))))


@pytest.mark.parametrize(
    ("given", "threads"), [("1", 1), ("3", 3), ("", 0), ("4,2", 0), ("many", 0), ("-1", 0), ("9" * 40, 1024)]
)
def test_it_takes_the_threads_that_the_process_is_to_take(given, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert session_options(onnxruntime_for("a test")).intra_op_num_threads == threads


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted on Linux only")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_session_has_no_others(threads, monkeypatch):
    """This one computes, too."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    before = len(list(Path("/proc/self/task").iterdir()))
    session = open_session(classifier().SerializeToString())
    assert len(list(Path("/proc/self/task").iterdir())) - before == threads - 1
    assert session.provider == "CPUExecutionProvider"


def test_all_cores_where_nothing_is_said(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert session_options(onnxruntime_for("a test")).intra_op_num_threads == 0
