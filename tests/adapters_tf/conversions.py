"""Converting in the tests' own process, and asking ONNX Runtime what came of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from onnxmark_tf.child import converted

from onnxmark.conversion import Container, Request, convert
from onnxmark.model import open_model

ENDINGS = {".keras": Container.KERAS, ".h5": Container.HDF5, ".hdf5": Container.HDF5, ".tflite": Container.TFLITE}


def convert_here(source, target, **options):
    """The conversion, without a process of its own."""
    source = Path(source)
    container = ENDINGS.get(source.suffix, Container.SAVED_MODEL)
    return convert(Request(source, container, Path(target), **options), lambda _: converted)


def run(path, arrays):
    """The first output of an ONNX file. Two runtimes in one process must not fight for the cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, arrays)[0]


def origins(conversion):
    """Site of each of the framework's weights, with what it was multiplied by."""
    return {origin.weights: origin for origin in conversion.origins}


def weights_at(path, site):
    """Canonical weights of an ONNX file."""
    with open_model(path) as model:
        return np.array(model.read(model.site(site)).values)
