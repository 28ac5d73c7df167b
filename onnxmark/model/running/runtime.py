"""Running a model, for the few questions weights alone cannot answer: what a layer's inputs are, what a mark changed.

The only module that imports onnxruntime, and only when it is called: reading, marking and auditing work without it.
ONNX Runtime speaks through log lines and exceptions of many lines; here both become one typed sentence.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from onnxmark.arrays import AnyArray, Int64Array
from onnxmark.errors import CalibrationError, MissingExtra, ModelError, ModelUnavailable
from onnxmark.model.running.calibration import BATCH_SIZE, Batch, BoundCalibration, Calibration, ModelInput, bind
from onnxmark.model.weights_only import is_weights_only

_PREFERRED: Final = ("CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider", "CPUExecutionProvider")
_SILENT: Final = 4
_MAX_THREADS: Final = 1024
_ELEMENT_TYPES: Final = {
    "float": "f4",
    "double": "f8",
    "float16": "f2",
    "bool": "?",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
}

Model = Path | str | bytes


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """A model ready to run.

    Args:
        inputs: What it takes.
        outputs: Names of what it gives.
        provider: Execution provider it runs on, as ONNX Runtime names it.
        handle: ONNX Runtime's own session.
        source: The file, for messages.
    """

    inputs: tuple[ModelInput, ...]
    outputs: tuple[str, ...]
    provider: str
    handle: Any
    source: str

    def run(self, feed: dict[str, AnyArray], outputs: tuple[str, ...] | None = None) -> dict[str, AnyArray]:
        """Outputs by name for one feed.

        Raises:
            CalibrationError: The model fails on these inputs.
        """
        names = self.outputs if outputs is None else outputs
        try:
            values = self.handle.run(list(names), feed)
        except Exception as error:  # ONNX Runtime's exceptions share no base class below this one
            raise CalibrationError(
                f"{self.source}: the model fails on the calibration inputs ({_brief(error)})"
            ) from error
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What a model answers to all calibration inputs.

    Args:
        values: By output name. Batches are joined along the first axis; an output without a batch has a row a batch.
        n_inputs: Number of inputs.
        provider: Execution provider.
    """

    values: dict[str, AnyArray]
    n_inputs: int
    provider: str


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What a change of the weights did to the answers of a model.

    Args:
        relative_change: Norm of the change of the first floating-point output over its norm, over all inputs.
        decisions_changed: Inputs whose top-1 class changed; None where no output has shape (N, C > 1).
        n_inputs: Number of inputs.
        accuracy_before: Top-1 accuracy of the original in [0, 1]; None without labels or decisions.
        accuracy_after: The same of the marked model.
        provider: Execution provider both ran on.
    """

    relative_change: float
    decisions_changed: int | None
    n_inputs: int
    accuracy_before: float | None
    accuracy_after: float | None
    provider: str


def open_session(model: Model, *, optimise: bool = True, provider: str | None = None) -> Session:
    """Load a model into ONNX Runtime on the best execution provider there is.

    Args:
        model: A file, or a serialised model without external data.
        optimise: Let ONNX Runtime rewrite the graph.
        provider: Use this provider instead of the best one; the CPU steps in for operators it lacks.

    Raises:
        CalibrationError: The provider is not installed, the model takes something else than tensors of numbers, or it
            has weights only and no graph.
        MissingExtra: onnxruntime is not installed.
        ModelError: ONNX Runtime cannot load the model.
    """
    ort = onnxruntime_for("running a model")
    source = "model" if isinstance(model, bytes) else repr(str(model))
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise ModelUnavailable(f"{source}: no such file")
    options = session_options(ort)
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = _providers(ort, provider)
    content = model if isinstance(model, bytes) else str(model)
    try:
        handle = ort.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class below this one
        raise ModelError(f"{source}: ONNX Runtime cannot load it ({_brief(error)})") from error
    if is_weights_only(handle.get_modelmeta().custom_metadata_map):
        raise CalibrationError(
            f"{source}: holds weights without the graph they belong to, so there is nothing to run; convert the model "
            "with its graph ('onnxmark convert --model module:function', or export it to ONNX)"
        )
    return Session(
        inputs=tuple(_model_input(item, source) for item in handle.get_inputs()),
        outputs=tuple(item.name for item in handle.get_outputs()),
        provider=handle.get_providers()[0],
        handle=handle,
        source=source,
    )


def run(model: Model, calibration: Calibration, *, batch_size: int = BATCH_SIZE) -> Outputs:
    """Answers of a model to all calibration inputs.

    Args:
        model: A file, or a serialised model.
        calibration: Its inputs.
        batch_size: Inputs at a time, where the model leaves it open.

    Raises:
        CalibrationError: The inputs do not fit, or the model fails on them.
        MissingExtra: onnxruntime is not installed.
        ModelError: The model cannot be loaded.
    """
    session = open_session(model)
    bound = bind(calibration, session.inputs)
    parts: dict[str, list[AnyArray]] = {name: [] for name in session.outputs}
    for batch, found in answers(session, bound, batch_size):
        for name, value in found.items():
            joined = value.ndim > 0 and len(value) % batch.count == 0
            parts[name].append(value if joined else value[None])
    try:
        values = {name: np.concatenate(blocks) for name, blocks in parts.items()}
    except ValueError as error:
        raise CalibrationError(f"{session.source}: outputs change shape from batch to batch ({error})") from error
    return Outputs(values, bound.n_inputs, session.provider)


def fidelity(original: Model, marked: Model, calibration: Calibration, *, batch_size: int = BATCH_SIZE) -> Fidelity:
    """Compare the answers of a model before and after marking, batch by batch.

    Args:
        original: The model before.
        marked: The model after; its inputs and outputs bear the same names.
        calibration: Inputs, with labels where accuracy is wanted.
        batch_size: Inputs at a time, where the model leaves it open.

    Raises:
        CalibrationError: The inputs do not fit, a model fails on them, or the two models do not answer alike.
        MissingExtra: onnxruntime is not installed.
        ModelError: A model cannot be loaded.
    """
    before, after = open_session(original), open_session(marked)
    bound = bind(calibration, before.inputs)
    if before.inputs != after.inputs or before.outputs != after.outputs:
        raise CalibrationError(
            f"{after.source}: takes or gives other tensors than {before.source}; compare like with like"
        )
    pairs = zip(answers(before, bound, batch_size), answers(after, bound, batch_size), strict=True)
    return compared(((batch, old, new) for (batch, old), (_, new) in pairs), bound, before)


def compared(
    answered: Iterable[tuple[Batch, dict[str, AnyArray], dict[str, AnyArray]]], bound: BoundCalibration, before: Session
) -> Fidelity:
    """What became of the answers.

    Args:
        answered: Each batch with the outputs before and after, by name.
        bound: The inputs.
        before: The session that answered before.

    Raises:
        CalibrationError: The model has no floating-point output.
    """
    change = norm = 0.0
    decisions: list[tuple[Int64Array, Int64Array]] = []
    for batch, old, new in answered:
        first = _first_float(old, before.source)
        change += float(np.sum(np.square(new[first].astype(np.float64) - old[first])))
        norm += float(np.sum(np.square(old[first], dtype=np.float64)))
        name = _decision_output(old, batch.count)
        if name is not None:
            decisions.append((old[name].argmax(axis=-1), new[name].argmax(axis=-1)))
    relative = float(np.sqrt(change / norm)) if norm > 0 else (0.0 if change == 0 else float("inf"))
    return _fidelity(relative, decisions, bound, before.provider)


def _fidelity(
    relative: float, decisions: list[tuple[Int64Array, Int64Array]], bound: BoundCalibration, provider: str
) -> Fidelity:
    if not decisions:
        return Fidelity(relative, None, bound.n_inputs, None, None, provider)
    old, new = (np.concatenate(side) for side in zip(*decisions, strict=True))
    labels = bound.labels
    return Fidelity(
        relative_change=relative,
        decisions_changed=int(np.sum(old != new)),
        n_inputs=bound.n_inputs,
        accuracy_before=None if labels is None else float(np.mean(old == labels)),
        accuracy_after=None if labels is None else float(np.mean(new == labels)),
        provider=provider,
    )


def answers(
    session: Session, bound: BoundCalibration, size: int = BATCH_SIZE, fixed: Mapping[str, AnyArray] | None = None
) -> Iterator[tuple[Batch, dict[str, AnyArray]]]:
    """Each batch with a model's outputs for it, padding removed.

    Args:
        session: The model.
        bound: The inputs.
        size: Inputs at a time, where the model leaves it open.
        fixed: Further inputs, the same for every batch.
    """
    for batch in bound.batches(size):
        found = session.run({**batch.feed, **(fixed or {})})
        yield batch, {name: batch.cut(value) for name, value in found.items()}


def _first_float(found: dict[str, AnyArray], source: str) -> str:
    for name, value in found.items():
        if value.dtype.kind == "f":
            return name
    raise CalibrationError(f"{source}: has no floating-point output to compare")


def _decision_output(found: dict[str, AnyArray], count: int) -> str | None:
    for name, value in found.items():
        if value.dtype.kind == "f" and value.ndim == 2 and value.shape[0] == count and value.shape[1] > 1:
            return name
    return None


def onnxruntime_for(purpose: str) -> Any:
    """The package.

    Raises:
        MissingExtra: It is not installed; the message names the purpose.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "runtime", purpose) from error
    return onnxruntime


def session_options(ort: Any) -> Any:
    """Options of a session that writes no log lines and takes the threads that this process is to take.

    ONNX Runtime takes all cores whatever ``OMP_NUM_THREADS`` says, which NumPy, PyTorch and job schedulers go by:
    n workers on n cores would have n threads each.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isascii() and threads.isdigit():
        options.intra_op_num_threads = min(int(threads), _MAX_THREADS)
    return options


def _providers(ort: Any, wanted: str | None) -> list[str]:
    available = ort.get_available_providers()
    if wanted is not None and wanted not in available:
        raise CalibrationError(f"execution provider {wanted!r} is not installed; there are {', '.join(available)}")
    best = [name for name in _PREFERRED if name in available] if wanted is None else [wanted]
    return best if "CPUExecutionProvider" in best else [*best, "CPUExecutionProvider"]


def _model_input(item: Any, source: str) -> ModelInput:
    element = _ELEMENT_TYPES.get(item.type.removeprefix("tensor(").removesuffix(")"))
    if element is None:
        raise CalibrationError(
            f"{source}: input {item.name!r} is {item.type}; only tensors of numbers can be calibrated"
        )
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in item.shape)
    return ModelInput(item.name, np.dtype(element), shape)


def _brief(error: BaseException) -> str:
    """The first line of an ONNX Runtime message, without its bracketed status."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.rpartition("] : ")[2][:300]
