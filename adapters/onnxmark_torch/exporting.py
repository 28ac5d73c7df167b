"""From a trained model to an ONNX file that is known to carry its mark: the exporter's output is audited at once.

Exporters fold, fuse, transpose and rename. Whether the mark got through is a question for the file, not for the model
in memory, and the time to ask is before the file leaves the house.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from onnxmark.errors import EmbeddingError, MissingExtra
from onnxmark.keys import AnyKey
from onnxmark_torch.layers import unwrapped

if TYPE_CHECKING:
    from onnxmark.audit import Audit


_TALKATIVE: Final = ("torch.onnx", "torch.export", "torch._export", "onnxscript", "onnx_ir")


class ExportError(EmbeddingError):
    """The file was written, and the mark is not found in it."""


def export(
    model: nn.Module,
    example_inputs: tuple[Any, ...],
    path: str | os.PathLike[str],
    *,
    audit_with: Sequence[AnyKey] | None = None,
    **options: Any,
) -> Audit | None:
    """Export a model in evaluation mode with torch's default exporter, then audit the file.

    Args:
        model: The model; its training mode is restored afterwards, module by module.
        example_inputs: Arguments of one call of the model.
        path: File to write; torch puts large weights beside it (``external_data=False`` keeps them inside).
        audit_with: Keys whose marks the file must carry; None audits nothing.
        **options: Passed on to :func:`torch.onnx.export`.

    Returns:
        The audit of the file, or None where ``audit_with`` is None.

    Raises:
        ExportError: The audit does not find every mark. The file is left in place, to be looked at.
        MissingExtra: onnxscript, which torch's exporter needs, is not installed.
    """
    if find_spec("onnxscript") is None:
        raise MissingExtra("onnxscript", "torch", "exporting from PyTorch")
    # Named, because torch before 2.9 defaults to the older exporter, which folds and renames in another way.
    options.setdefault("dynamo", True)
    options.setdefault("verbose", False)
    with _evaluating(model), silenced():
        torch.onnx.export(unwrapped(model), example_inputs, os.fspath(path), **options)
    return None if audit_with is None else _audited(path, audit_with)


def _audited(path: str | os.PathLike[str], keys: Sequence[AnyKey]) -> Audit:
    from onnxmark.audit import audit_file
    from onnxmark.verdict import Verdict

    audit = audit_file(os.fspath(path), keys)
    for finding in audit.findings:
        if finding.verdict is not Verdict.MATCH:
            detail = finding.judgement.reason or f"log10 p {finding.judgement.log10_p_value:.1f}"
            raise ExportError(
                f"{os.fspath(path)!r} was written without its mark ({finding.verdict}: {detail}); "
                "train on until report(model) shows BER 0, or see validate(model)"
            )
    return audit


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every module's own mode restored, also where a frozen BatchNorm differs from the rest."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Without the exporter's warnings and progress, which are about torch's own insides; what fails is raised."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
