"""``onnxmark audit``: is this key's mark in this model?"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxmark.cli.exits import ExitCode
from onnxmark.cli.output import Document, Format, emit, parse_outputs, progress, remark
from onnxmark.errors import ModelError, ModelUnavailable

if TYPE_CHECKING:
    from onnxmark.audit import Audit
    from onnxmark.keys import AnyKey
    from onnxmark.robustness import Trial
    from onnxmark.verdict import Policy


class AttackSet(StrEnum):
    """Simulated attacks of the robustness section."""

    NONE = "none"
    QUICK = "quick"


def audit(
    model: Annotated[Path, typer.Argument(help="ONNX file.", show_default=False)],
    key: Annotated[list[Path] | None, typer.Option("--key", "-k", help="Key file; repeatable.")] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="Directory of key files (*.npy).")] = None,
    message: Annotated[
        Path | None, typer.Option("--message", help="Bits of a foreign key: .npy of 0 and 1, any shape.")
    ] = None,
    layer: Annotated[str | None, typer.Option("--layer", help="Read this layer only (weights or node name).")] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="The model before it was marked: restores its filters' norms.")
    ] = None,
    alpha: Annotated[float, typer.Option("--alpha", help="False-positive rate asked for, after correction.")] = 1e-6,
    registered: Annotated[
        bool, typer.Option("--registered", help="You vouch that the keys were time-stamped before the model appeared.")
    ] = False,
    attacks: Annotated[
        AttackSet, typer.Option("--attacks", help="Simulated attacks on a carrier found.")
    ] = AttackSet.QUICK,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random attacks.")] = 0,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    output: Annotated[list[str] | None, typer.Option("-o", "--output", help="Also write FMT=PATH; repeatable.")] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
) -> None:
    """Look for the mark of one or more keys in a model.

    Exit code 0: a mark was found. 1: no match. 3: inconclusive. 2: error.

    Examples:

      onnxmark audit model.onnx --key key.npy

      onnxmark audit model.onnx --keys ring/ --attacks none --format json

      onnxmark audit model.onnx --key legacy_w.npy --message legacy_b.npy -o json=result.json
    """
    outputs = parse_outputs(output or [])
    paths = [*(key or []), *_ring(keys)]
    if not paths:
        raise typer.BadParameter("give at least one key", param_hint="--key or --keys")
    if not 0 < alpha < 1:
        raise typer.BadParameter(f"{alpha:g} does not lie between 0 and 1", param_hint="--alpha")

    _calm_blas()
    from onnxmark.report.console import print_audit
    from onnxmark.report.document import audit_document, failed_audit_document
    from onnxmark.verdict import Policy

    loaded = _load(paths, message)
    policy = Policy(alpha=alpha, registered=registered)
    document: Document
    try:
        result, trials = _audit(model, loaded, policy, layer, reference, attacks, seed, quiet=no_progress)
        document, code = audit_document(result, trials), _exit_code(result)
    except ModelUnavailable:
        raise
    except ModelError as error:
        remark(f"onnxmark: inconclusive: {error}")
        if format_ is Format.RICH and not outputs:
            raise typer.Exit(ExitCode.INCONCLUSIVE) from error
        document, code = failed_audit_document(str(model), str(error)), ExitCode.INCONCLUSIVE
    emit(document, print_audit, format_, outputs)
    raise typer.Exit(code)


def _calm_blas() -> None:
    """One BLAS thread: an audit multiplies small blocks by one vector, and on a busy machine threads only wait.

    Has no effect where NumPy is loaded already, or where the user decided otherwise.
    """
    for library in ("OPENBLAS", "MKL", "OMP"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def _ring(directory: Path | None) -> list[Path]:
    if directory is None:
        return []
    if not directory.is_dir():
        raise typer.BadParameter(f"{str(directory)!r} is not a directory", param_hint="--keys")
    found = sorted(directory.glob("*.npy"))
    if not found:
        raise typer.BadParameter(f"{str(directory)!r} holds no .npy files", param_hint="--keys")
    return found


def _load(paths: Iterable[Path], message: Path | None) -> list[AnyKey]:
    from onnxmark.keys import ForeignKey, load_key

    loaded = {path: load_key(path, message) for path in dict.fromkeys(paths)}
    for path, key in loaded.items():
        if isinstance(key, ForeignKey) and message is None:
            remark(
                f"onnxmark: warning: {str(path)!r} is a bare matrix and no --message was given: reading it as all "
                "ones, a message that a biased layer can match by itself"
            )
    return list(loaded.values())


def _audit(
    path: Path,
    keys: list[AnyKey],
    policy: Policy,
    layer: str | None,
    reference: Path | None,
    attacks: AttackSet,
    seed: int,
    *,
    quiet: bool,
) -> tuple[Audit, dict[int, tuple[Trial, ...]]]:
    from onnxmark.audit import audit_model, seen_weights
    from onnxmark.model import open_model
    from onnxmark.plugins import scheme
    from onnxmark.verdict import Verdict

    trials = {}
    with ExitStack() as stack:
        model = stack.enter_context(open_model(path))
        before = None if reference is None else stack.enter_context(open_model(reference))
        with progress("reading layers", quiet=quiet) as report:
            result = audit_model(model, keys, policy, layer=layer, reference=before, schemes=scheme, progress=report)
        if attacks is AttackSet.QUICK:
            from onnxmark.attacks import QUICK
            from onnxmark.robustness import sweep

            for index, finding in enumerate(result.findings):
                if finding.verdict is Verdict.MATCH and finding.best is not None:
                    weights = seen_weights(model, finding, before)
                    with progress("simulating attacks", quiet=quiet) as report:
                        trials[index] = sweep(
                            finding, weights, QUICK, policy, seed=seed, schemes=scheme, progress=report
                        )
    return result, trials


def _exit_code(result: Audit) -> ExitCode:
    from onnxmark.verdict import Verdict

    return {
        Verdict.MATCH: ExitCode.DONE,
        Verdict.NO_MATCH: ExitCode.NOT_SATISFIED,
        Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
    }[result.verdict]
