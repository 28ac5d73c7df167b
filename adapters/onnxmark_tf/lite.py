"""TensorFlow Lite models to ONNX, through tf2onnx: of floats, with quantised weights, or of integers throughout.

TensorFlow Lite's interpreter verifies a flatbuffer when it opens it; the Python classes that everything else reads
through do not, and would follow a hostile offset anywhere. Nothing is run.
"""

from __future__ import annotations

from typing import Final

from onnxmark.conversion import Converted, Request
from onnxmark.errors import ConversionError
from onnxmark_tf.backends import versions
from onnxmark_tf.exchange import ExportRefused
from onnxmark_tf.frameworks import first_line, imported
from onnxmark_tf.lite_tensors import host_weights
from onnxmark_tf.mending import mended
from onnxmark_tf.written import check_written

_PURPOSE: Final = "converting a TensorFlow Lite model"


def convert_lite(request: Request) -> Converted:
    """Write the ONNX file of a TensorFlow Lite model.

    Raises:
        ConversionError: The file is damaged, or uses what ONNX has not.
        MissingExtra: TensorFlow or tf2onnx is not installed.
    """
    tensorflow = imported("tensorflow", "tf", _PURPOSE)
    tf2onnx = imported("tf2onnx", "tf", _PURPOSE)
    where = repr(str(request.source))
    content = request.source.read_bytes()
    try:
        tensorflow.lite.Interpreter(model_content=content)
        weights, unread = host_weights(imported("tf2onnx.tflite.Model", "tf", _PURPOSE).Model.GetRootAs(content, 0))
    except Exception as error:
        raise ConversionError(
            f"{where}: damaged, or no TensorFlow Lite model ({first_line(error)}); convert it anew"
        ) from error
    try:
        with mended():
            tf2onnx.convert.from_tflite(str(request.source), opset=request.opset, output_path=str(request.target))
    except Exception as error:
        raise ExportRefused(f"{where}: tf2onnx cannot convert it: {first_line(error)}") from error
    check_written(request, where)
    left_out = f"weights that are sparse or of an unknown type are not followed: {', '.join(unread[:8])}"
    return Converted(versions(("tensorflow", "tf2onnx")), weights, notes=(left_out,) if unread else ())
