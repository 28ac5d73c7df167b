"""What exporters wrote, looked at before it counts.

An exporter may write operators that ONNX does not have, or another operator set than it was asked for, and say so in a
log at most. So a file counts as written once ONNX's checker has been through it.
"""

from __future__ import annotations

from typing import Any

from onnxmark.conversion import Request
from onnxmark_tf.exchange import ExportRefused
from onnxmark_tf.frameworks import first_line, imported


def check_written(request: Request, what: str) -> None:
    """Refuse a file that no runtime would open, or of another operator set than was asked for; it is deleted.

    Args:
        request: What was to be written.
        what: What it was written from, for the message.

    Raises:
        ExportRefused: ONNX's checker finds fault with it, or its operator set is another.
    """
    onnx = imported("onnx", "tf", "checking what was exported")
    try:
        onnx.checker.check_model(str(request.target))
        fault = _other_opset(onnx.load(str(request.target), load_external_data=False), request.opset)
    except (onnx.checker.ValidationError, ValueError) as error:
        fault = f"a file that is not valid ONNX: {first_line(error)}"
    if fault:
        request.target.unlink(missing_ok=True)
        raise ExportRefused(f"{what}: the exporter wrote {fault}")


def _other_opset(model: Any, asked: int | None) -> str:
    """What is wrong with a file's operator set, in words; nothing where it was not asked for."""
    (written,) = {opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")}
    return "" if asked in (None, written) else f"operator set {written} when asked for {asked}; ask for that one"
