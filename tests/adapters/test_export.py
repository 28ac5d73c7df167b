"""From training to a verdict on the exported file: the adapter, torch's default exporter and the audit, end to end."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnxmark_torch import ExportError, Watermark, export
from torch import nn

from onnxmark.audit import audit_file
from onnxmark.errors import MissingExtra
from tests.adapters.subjects import make_key, tiny_net

WIDTH = 64
SHAPE = (WIDTH, 8, 3, 3)
N_BITS = 128
EXAMPLE = (torch.zeros(2, 1, 8, 8),)


def trained(mark, seed=0):
    """A small network after a few steps on scikit-learn's digits, marked or not."""
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    images = torch.from_numpy(digits.images[:512].astype(np.float32)[:, None] / 16)
    labels = torch.from_numpy(digits.target[:512].astype(np.int64))
    model = tiny_net(WIDTH, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if mark is not None:
        mark.attach(optimizer, model)
    for start in range(0, 512, 32):
        piece = slice(start, start + 32)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[piece]), labels[piece]).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def key():
    return make_key(SHAPE, n_bits=N_BITS, name="body.weight")


@pytest.fixture(scope="module")
def marked(key):
    return trained(Watermark(key))


@pytest.fixture(scope="module")
def marked_file(key, marked, tmp_path_factory):
    path = tmp_path_factory.mktemp("marked") / "marked.onnx"
    audit = Watermark(key).export(marked, EXAMPLE, path)
    assert audit.verdict == "match"
    return path


def test_the_exporter_folds_batch_normalisation_and_moves_weights_out(marked, marked_file):
    model = onnx.load(marked_file, load_external_data=False)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert marked_file.with_name("marked.onnx.data").exists()
    stored = {tensor.name: tensor for tensor in onnx.load(marked_file).graph.initializer}
    folded = onnx.numpy_helper.to_array(stored["body.weight"])
    assert not np.allclose(folded, marked.body.weight.detach().numpy())


def test_our_key_matches(key, marked_file):
    (finding,) = audit_file(marked_file, [key]).findings
    assert finding.verdict == "match"
    assert finding.best.evidence.bit_error_rate == 0


def test_another_key_does_not(marked_file):
    other = make_key(SHAPE, n_bits=N_BITS, name="body.weight", label="other")
    assert audit_file(marked_file, [other]).verdict == "no-match"


def test_the_unmarked_twin_does_not(key, tmp_path):
    path = tmp_path / "unmarked.onnx"
    assert export(trained(None), EXAMPLE, path) is None
    assert audit_file(path, [key]).verdict == "no-match"


def test_an_export_without_its_mark_is_refused(key, tmp_path):
    path = tmp_path / "unmarked.onnx"
    with pytest.raises(ExportError, match=r"written without its mark \(no-match: log10 p"):
        Watermark(key).export(trained(None), EXAMPLE, path)
    assert path.exists()


def test_training_modes_are_restored_and_the_exporter_is_silent(tmp_path, capfd):
    model = tiny_net().train()
    model.norm1.eval()
    export(model, EXAMPLE, tmp_path / "m.onnx", external_data=False)
    assert model.training
    assert model.norm2.training
    assert not model.norm1.training
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == [tmp_path / "m.onnx"]


def test_training_modes_are_restored_after_a_failure(tmp_path):
    model = tiny_net().train()
    with pytest.raises(Exception, match="Failed to export"):
        export(model, (torch.zeros(2, 3, 8, 8),), tmp_path / "m.onnx")
    assert model.training
    assert model.norm1.training


# torch warns about its own use of torch.jit while it loads the compiler.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_is_exported(tmp_path):
    export(torch.compile(tiny_net()), EXAMPLE, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").exists()


def test_without_onnxscript_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxmark_torch.exporting.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'onnxmark\[torch\]'"):
        export(tiny_net(), EXAMPLE, tmp_path / "m.onnx")


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_torch_the_cure_is_named():
    code = "import sys; sys.modules['torch'] = None\nimport onnxmark_torch"
    last = run_python(code).stderr.strip().splitlines()[-1]
    assert last.endswith("the PyTorch adapter needs torch, which is not installed; run: pip install 'onnxmark[torch]'")


def test_training_and_reporting_import_no_onnx():
    code = (
        "import sys; from onnxmark_torch import Watermark; from tests.adapters.subjects import make_key, tiny_net\n"
        "mark = Watermark(make_key()); mark.add_grad_(tiny_net()); mark.report(tiny_net())\n"
        "print(sorted({'onnx', 'onnxruntime', 'onnxscript'} & set(sys.modules)))"
    )
    result = run_python(code)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize("container", ["torch", "pt2", "safetensors"])
def test_a_container_of_torch_has_a_converter(container):
    (entry,) = [each for each in importlib.metadata.entry_points(group="onnxmark.adapters") if each.name == container]
    assert entry.load().__module__.startswith("onnxmark_torch.conversion.")
