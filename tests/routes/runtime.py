"""Routes through ONNX Runtime: optimised models saved, and its quantisation tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.routes.bench import INPUT, images, quiet

LEVELS = {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED",
          "layout": "ORT_ENABLE_LAYOUT", "all": "ORT_ENABLE_ALL"}  # fmt: skip


def resaved(source: Path, path: Path, level: str, form: str = "ONNX") -> Path:
    """The model as a session of this optimisation level saves it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[level])
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", form)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return path


def pre_processed(source: Path, path: Path) -> Path:
    """What is advised before quantising."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with quiet():
        quant_pre_process(str(source), str(path), skip_symbolic_shape=True)
    return path


def without_shapes(source: Path) -> Path:
    """A copy without inferred shapes, which the quantiser finds contradictory in the newer exporter's files."""
    model = onnx.load(source)
    del model.graph.value_info[:]
    path = source.with_name(f"{source.stem}-bare.onnx")
    onnx.save(model, path)
    return path


def dynamic(source: Path, path: Path, weight: str = "QInt8", **options: Any) -> Path:
    """``quantize_dynamic``."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(str(source), str(path), weight_type=getattr(QuantType, weight), **options)
    return path


def static(
    source: Path,
    path: Path,
    form: str,
    weight: str,
    activation: str = "QUInt8",
    calibration: str = "MinMax",
    **options: Any,
) -> Path:
    """``quantize_static``, calibrated with a few of the training images."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[np.ndarray] = iter(np.split(images(16), 8))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    with quiet():
        quantize_static(
            str(source), str(path), Reader(), quant_format=getattr(QuantFormat, form),
            weight_type=getattr(QuantType, weight), activation_type=getattr(QuantType, activation),
            calibrate_method=getattr(CalibrationMethod, calibration), **options,
        )  # fmt: skip
    return path
