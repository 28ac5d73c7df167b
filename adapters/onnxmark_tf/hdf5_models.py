"""HDF5 files of Keras: whole models, which Keras opens, and weights without a model, which are read here.

HDF5 can point outside the file, and can declare far more than it holds; what is read is what lies in the file.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from onnxmark.conversion import Converted, Request, SourceWeights
from onnxmark.errors import ConversionError
from onnxmark.model.weights_only import write_weights_only
from onnxmark_tf.backends import versions
from onnxmark_tf.hdf5 import configuration, opened
from onnxmark_tf.keras_models import convert_keras
from onnxmark_tf.kernels import Kernel, kernels
from onnxmark_tf.orders import canonical

_MAX_EXPANSION: Final = 1_000
"""Times the bytes on disk that a compressed tensor may have: one of zeros is a bomb, not a kernel."""
_GUESSED: Final = (
    "the file holds weights without a model, so there is no graph, and what kind of layer a kernel belongs to "
    "(convolution, depthwise, transposed, fully connected) was guessed from its name; "
    "--model module:function with the code of the model leaves nothing to guess"
)


def convert_hdf5(request: Request) -> Converted:
    """Convert a whole model through Keras, and weights without model and factory to a file without a graph.

    Raises:
        ConversionError: The file is damaged, or holds no weights of layers.
        TrustRequired: It holds code.
        MissingExtra: h5py or Keras is not installed.
    """
    if request.factory is not None or configuration(request.source) is not None:
        return convert_keras(request)
    with opened(request.source) as file:
        weights = tuple(_read(file, kernel) for kernel in kernels(file))
    if not weights:
        raise ConversionError(
            f"{str(request.source)!r}: no tensor in it looks like the weights of a layer of Keras; "
            "name the code of the model with --model module:function"
        )
    write_weights_only(request.target, weights)
    return Converted(versions(("h5py",)), weights, has_graph=False, notes=(_GUESSED,))


def _read(file: Any, kernel: Kernel) -> SourceWeights:
    """The weights of a kernel.

    Raises:
        ValueError: They are not floats, or not in the file.
    """
    dataset = file[kernel.place]
    declared = int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
    if dataset.external or dataset.is_virtual or declared > _MAX_EXPANSION * dataset.id.get_storage_size():
        raise ValueError(f"tensor {kernel.place!r} says it has {declared} bytes, which the file does not hold")
    values = dataset[()]
    if dataset.attrs.get("dtype") == "bfloat16":
        values = values.view("bfloat16")
    if values.dtype.kind != "f" and values.dtype.name != "bfloat16":
        raise ValueError(f"tensor {kernel.place!r} holds {values.dtype}, not floats")
    group = int(values.shape[-2]) if kernel.order == "HWCM" else 1
    return SourceWeights(kernel.name, canonical(values, kernel.order), kernel.order, group)
