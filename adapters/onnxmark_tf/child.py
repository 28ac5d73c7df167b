"""The process a conversion runs in: ``python -m onnxmark_tf.child FOLDER``, with the request in the folder.

Started by :mod:`onnxmark_tf.converter`, never by a user. :func:`converted` is the conversion itself, for those who have
set up a process for TensorFlow anyway.
"""

from __future__ import annotations

import sys
from pathlib import Path

from onnxmark.conversion import Container, Converted, Request
from onnxmark.errors import ConversionError, ModelUnavailable, OnnxmarkError
from onnxmark_tf.exchange import read_request, write_converted, write_error


def converted(request: Request) -> Converted:
    """Convert in this very process; see :func:`onnxmark_tf.converter.convert`.

    Keras has to run on the backend that is asked for, and one of them only.
    """
    if not request.source.exists():
        raise ModelUnavailable(f"{str(request.source)!r}: no such file")
    match request.container:
        case Container.KERAS:
            from onnxmark_tf.keras_models import convert_keras

            return convert_keras(request)
        case Container.HDF5:
            from onnxmark_tf.hdf5_models import convert_hdf5

            return convert_hdf5(request)
        case Container.SAVED_MODEL:
            from onnxmark_tf.saved_model import convert_saved_model

            return convert_saved_model(request)
        case Container.TFLITE:
            from onnxmark_tf.lite import convert_lite

            return convert_lite(request)
    raise ConversionError(f"{str(request.source)!r}: {request.container.words} is not a container of TensorFlow")


def main(folder: Path) -> None:
    """Answer the request in ``folder``."""
    try:
        write_converted(folder, converted(read_request(folder)))
    except OnnxmarkError as error:
        write_error(folder, error)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
