"""ONNX Runtime's own format back to ONNX: the runtime that reads it writes it, without optimising further."""

from __future__ import annotations

from pathlib import Path

from onnxmark.errors import ConversionError
from onnxmark.model.running.runtime import onnxruntime_for, session_options


def write_as_onnx(source: Path, target: Path) -> str:
    """Write the graph of an ``.ort`` file as ONNX.

    What the optimiser that made the file fused or laid out anew stays so.

    Returns:
        The program that wrote it, with its version.

    Raises:
        ConversionError: The runtime does not accept the file.
        MissingExtra: onnxruntime is not installed.
    """
    onnxruntime = onnxruntime_for("converting an .ort file")
    options = session_options(onnxruntime)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ONNX")
    try:
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises classes of its own without a common root
        lines = str(error).strip().splitlines() or ["it says no more"]
        raise ConversionError(
            f"{str(source)!r} is not read by ONNX Runtime {onnxruntime.__version__}: {lines[0][:200]}; make it again "
            "from the original model with this version, or give the original"
        ) from error
    return f"onnxruntime {onnxruntime.__version__}"
