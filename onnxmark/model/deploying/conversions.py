"""How each deployment tool is called so that it takes the models people have.

Every function turns an ``onnx.ModelProto`` into another and may change the one it is given; each imports its tool when
it is called. The dynamic and the static quantiser get what ONNX Runtime's own guide advises, a model that went through
the basic graph optimisations: as they come, they refuse biases in ``Constant`` nodes, and shapes that the newer PyTorch
exporter has written down. They return None where they find nothing to quantise.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from onnxmark.arrays import AnyArray
from onnxmark.model.deploying.deployment import Inventory, inventory
from onnxmark.model.running.calibration import bind, load_calibration
from onnxmark.model.running.runtime import onnxruntime_for, open_session, session_options

LEVELS: Final = ("basic", "extended", "layout", "all")
"""Graph optimisation levels of ONNX Runtime, weakest first."""
FORMS: Final = ("qdq", "qoperator")
"""How integers are written down: around float operators, or as operators on integers."""
CALIBRATION_BATCH: Final = 8
"""Inputs run at a time: the calibrator keeps the outputs of all layers for one batch."""
_ON_INTEGERS: Final = re.compile("Quantize|Integer|NBits|^Q(Linear|Gemm)")


def optimised(model: Any, level: str) -> Any:
    """The model as ONNX Runtime's graph optimiser leaves it (``level``: one of :data:`LEVELS`)."""
    onnxruntime = onnxruntime_for("optimising a model")
    options = session_options(onnxruntime)
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level.upper()}")

    def write(path: Path) -> None:
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    return _written(write)


def simplified(model: Any) -> Any:
    """The model after onnxsim."""
    import onnxsim

    return onnxsim.simplify(model)[0]


def slimmed(model: Any) -> Any:
    """The model after onnxslim."""
    import onnxslim

    return onnxslim.slim(model)


def passed(model: Any) -> Any:
    """The model after onnxoptimizer's passes that fuse and eliminate nodes."""
    import onnxoptimizer

    return onnxoptimizer.optimize(model)


def halved(model: Any, keep_io: bool) -> Any:
    """The model in float16, by the converter that comes with ONNX Runtime.

    Args:
        model: The model.
        keep_io: Leave the types of inputs and outputs, with casts behind and before them.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    # What the file says of inner shapes may contradict the inference that the converter starts with.
    del model.graph.value_info[:]
    return convert_float_to_float16(model, keep_io_types=keep_io)


def dynamically_quantised(model: Any, bits: int, signed: bool) -> Any:
    """Weights in 8 bits, activations quantised as the model runs.

    Args:
        model: The model.
        bits: 8, or 7 for the range that spares processors without VNNI an overflow.
        signed: int8 rather than uint8.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kind = QuantType.QInt8 if signed else QuantType.QUInt8
    return _quantised(
        model, lambda ready, path: quantize_dynamic(ready, path, weight_type=kind, reduce_range=bits == 7)
    )


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """How a model is quantised with calibration inputs.

    Args:
        bits: Of a weight: 4, 8 or 16; activations have 8, or 16 where weights do.
        per_channel: A scale for each output channel.
        form: One of :data:`FORMS`: ``qdq`` (pairs of QuantizeLinear and DequantizeLinear) or ``qoperator`` (QLinearConv
            and its kin).
    """

    bits: int
    per_channel: bool
    form: str


def statically_quantised(model: Any, calibration: Path, options: StaticOptions) -> Any:
    """Weights and activations quantised, the latter over the range they have on calibration inputs.

    Raises:
        CalibrationError: The inputs do not fit the model.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    reader = _Reader(model, calibration)
    return _quantised(
        model,
        lambda ready, path: quantize_static(
            ready, path, reader,
            quant_format=QuantFormat.QDQ if options.form == "qdq" else QuantFormat.QOperator,
            per_channel=options.per_channel,
            weight_type=getattr(QuantType, f"QInt{options.bits}"),
            activation_type=QuantType.QUInt16 if options.bits == 16 else QuantType.QUInt8,
        ),
    )  # fmt: skip


def blockwise_quantised(model: Any, block: int, symmetric: bool) -> Any:
    """Weights of ``MatMul`` in 4 bits, in blocks of ``block`` inputs with a scale each (``MatMulNBits``)."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    # Not made ready: the basic optimisations turn MatMul and Add into Gemm, which the quantiser leaves alone.
    before = inventory(model)
    quantiser = MatMulNBitsQuantizer(model, bits=4, block_size=block, is_symmetric=symmetric)
    quantiser.process()
    return _if_quantised(before, quantiser.model.model)


class _Reader:
    """Calibration inputs in the form ONNX Runtime's quantiser asks for.

    Args:
        model: The model they go into.
        path: The ``.npz``.
    """

    def __init__(self, model: Any, path: Path) -> None:
        inputs = open_session(model.SerializeToString(), optimise=False).inputs
        self._batches = bind(load_calibration(path), inputs).batches(CALIBRATION_BATCH)

    def get_next(self) -> dict[str, AnyArray] | None:
        """The next feed; None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else batch.feed


def _quantised(model: Any, quantise: Callable[[Any, Path], None]) -> Any:
    ready = _ready(model)
    before = inventory(ready)
    return _if_quantised(before, _written(lambda path: quantise(ready, path)))


def _ready(model: Any) -> Any:
    """The model as the quantisers want it."""
    ready = optimised(model, "basic")
    del ready.graph.value_info[:]
    return ready


def _if_quantised(before: Inventory, model: Any) -> Any:
    """``model``; None if it has no more operators on integers than before: much else may change on the way to none."""
    added = inventory(model).operators - before.operators
    return model if any(_ON_INTEGERS.search(kind) for kind in added) else None


def _written(write: Callable[[Path], None]) -> Any:
    """The model that ``write`` puts at the path it is given."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="onnxmark-") as folder:
        path = Path(folder) / "model.onnx"
        write(path)
        return onnx.load(path)
