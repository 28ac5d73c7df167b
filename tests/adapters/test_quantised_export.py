"""Trained, exported, quantised to 8 bits by ONNX Runtime, audited: the mark is still there."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnxmark_torch import MarginStop, WarmUp, Watermark
from torch import nn

from onnxmark.audit import audit_file
from tests.adapters.subjects import make_key, tiny_net

quantization = pytest.importorskip("onnxruntime.quantization")
datasets = pytest.importorskip("sklearn.datasets")
WIDTH = 64
N_TRAINING = 1024
BATCH = 32


class Digits(quantization.CalibrationDataReader):
    """A few batches to measure activations with."""

    def __init__(self, name, images):
        self.batches = iter([{name: images[start : start + BATCH]} for start in range(0, 4 * BATCH, BATCH)])

    def get_next(self):
        return next(self.batches, None)


def digits():
    data = datasets.load_digits()
    return data.images.astype(np.float32)[:, None] / 16, data.target.astype(np.int64)


def trained(mark, images, labels, epochs=8):
    """The network after a few epochs of the ordinary loop, with the mark attached."""
    model = tiny_net(WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    mark.attach(optimizer, model)
    for start in list(range(0, N_TRAINING, BATCH)) * epochs:
        piece = slice(start, start + BATCH)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.from_numpy(images[piece])), torch.from_numpy(labels[piece])).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def static(exported, quantised, images):
    reader = Digits(onnx.load(exported).graph.input[0].name, images)
    quantization.quantize_static(exported, quantised, reader, per_channel=True)


def dynamic(exported, quantised, images):
    model = onnx.load(exported)
    # The quantiser transposes Gemm's weights and leaves the shapes that the exporter noted for them.
    del model.graph.value_info[:]
    quantization.quantize_dynamic(model, quantised, weight_type=quantization.QuantType.QInt8)


def accuracy(path, images, labels):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name, n_whole = session.get_inputs()[0].name, len(images) // BATCH * BATCH
    found = [session.run(None, {name: images[start : start + BATCH]})[0] for start in range(0, n_whole, BATCH)]
    return float(np.mean(np.concatenate(found).argmax(axis=1) == labels[:n_whole]))


@pytest.mark.parametrize(("view", "quantise"), [("raw", dynamic), ("folded", static)])
def test_trained_exported_quantised_audited(view, quantise, tmp_path):
    images, labels = digits()
    key = make_key((WIDTH, 8, 3, 3), n_bits=128, name="body.weight")
    mark = Watermark(key, strength=WarmUp(0.05, 20), view=view, cap=2.0, stop=MarginStop(0.75))
    model = trained(mark, images, labels)
    assert mark.validate(model) == []
    exported, quantised = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    mark.export(model, (torch.zeros(BATCH, 1, 8, 8),), exported, external_data=False)
    quantise(exported, quantised, images)
    types = {tensor.data_type for tensor in onnx.load(quantised).graph.initializer if len(tensor.dims) == 4}
    assert types == {onnx.TensorProto.INT8}
    (finding,) = audit_file(quantised, [key]).findings
    assert finding.verdict == "match"
    assert finding.best.evidence.bit_error_rate == 0
    assert accuracy(quantised, images[N_TRAINING:], labels[N_TRAINING:]) > 0.75
