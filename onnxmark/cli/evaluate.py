"""``onnxmark evaluate``: schemes under the three evaluations of MPAI-NNW (IEEE 3304), one comparative report."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from onnxmark.cli.evaluating import evaluation_progress, lines_of
from onnxmark.cli.exits import ExitCode
from onnxmark.cli.output import OUTPUT_HELP, Document, Format, check_formats, emit, parse_outputs, remark
from onnxmark.report.formats import Kind

JOURNAL: Final = ".journal"
"""Suffix of the journal that stands beside a plan."""


def evaluate(
    plan: Annotated[
        Path | None, typer.Argument(help="What is to be evaluated, in TOML; see --example.", show_default=False)
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Print a plan to start from, and stop.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what there is to do and how long it takes.")
    ] = False,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal", help="Journal: the same command goes on where it ended.  [default: PLAN with .journal]"
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option("-j", "--jobs", min=1, help="Workers; by default one a core.")] = None,
    work: Annotated[
        Path | None,
        typer.Option("--work", help="Keep all networks there; by default beside the journal, until it is complete."),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    output: Annotated[list[str] | None, typer.Option("-o", "--output", help=OUTPUT_HELP)] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress.")] = False,
) -> None:
    """Evaluate watermarking schemes as MPAI-NNW (IEEE 3304) does, and compare them in one report.

    M networks are trained and marked with D payloads each; then the mark's imperceptibility, its robustness against
    seven modifications and its computational cost are measured. Any installed scheme can be evaluated. The evaluation
    may be stopped at any moment: the same command goes on. docs/ieee3304.md says clause by clause what is done.

    Exit code 0: done. 3: something broke; the same command tries it again. 2: error. 130: interrupted.

    Examples:

      onnxmark evaluate --example > plan.toml

      onnxmark evaluate plan.toml --dry-run

      onnxmark evaluate plan.toml -j 2 -o report.html -o report.json

      onnxmark evaluate plan.toml --journal run2.journal --work networks/ --format csv
    """
    outputs = parse_outputs(output or [])
    check_formats(Kind.EVALUATION, format_, outputs)
    if example:
        _print_example()
        return
    if plan is None:
        raise typer.BadParameter("name a plan, or ask for an --example", param_hint="PLAN")
    workers = jobs or os.cpu_count() or 1
    if dry_run:
        _print_estimate(plan, workers)
        return
    document = _evaluated(plan, journal or plan.with_suffix(JOURNAL), work, workers, quiet=no_progress)
    emit(document, format_, outputs)
    if document["status"] != "complete":
        raise typer.Exit(ExitCode.INCONCLUSIVE)


def _print_example() -> None:
    from onnxmark.evaluation import EXAMPLE

    sys.stdout.write(EXAMPLE)


def _print_estimate(path: Path, jobs: int) -> None:
    from onnxmark.evaluation import estimate, load_plan
    from onnxmark.plugins import laboratory

    plan = load_plan(path)
    for line in lines_of(estimate(plan, laboratory(plan.laboratory), jobs=jobs)):
        print(line)  # noqa: T201


def _evaluated(path: Path, journal: Path, work: Path | None, jobs: int, *, quiet: bool) -> Document:
    """The document; where it is interrupted, what has been done stays in the journal, and the user is told."""
    from onnxmark.evaluation import evaluate as run_plan
    from onnxmark.evaluation import load_plan
    from onnxmark.plugins import laboratory

    plan = load_plan(path)
    rooms = laboratory(plan.laboratory)
    try:
        with evaluation_progress(quiet=quiet) as tell:
            return run_plan(plan, rooms, journal=journal, work=work, jobs=jobs, keep=work is not None, progress=tell)
    except KeyboardInterrupt:
        remark(f"onnxmark: the journal {str(journal)!r} is kept: run the same command to go on")
        raise
