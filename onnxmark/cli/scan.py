"""``onnxmark scan`` and ``onnxmark merge``: a registry of models against a ring of keys."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from onnxmark.cli.audit import key_files
from onnxmark.cli.exits import ExitCode
from onnxmark.cli.output import OUTPUT_HELP, Document, Format, check_formats, emit, parse_outputs, remark
from onnxmark.cli.scanning import scan_progress
from onnxmark.registry.alarms import Alarm
from onnxmark.report.formats import Kind

if TYPE_CHECKING:
    from onnxmark.registry.entries import Found
    from onnxmark.registry.filters import Filters
    from onnxmark.registry.journal import Journal
    from onnxmark.registry.ring import Ring
    from onnxmark.registry.terms import Option, Shard, Terms
    from onnxmark.verdict import Policy

_STRIKING: Final = -15.0
"""Readings of so small a probability, base 10, are matches however much else is tried."""
_PUBLIC: Final = "public"
"""In the terms of a scan: the public side of its keys, so that shards can be merged without them."""

Fail = Annotated[Alarm, typer.Option("--fail-on", help="Exit with 1 on: match, no-match, inconclusive, never.")]
Alpha = Annotated[float, typer.Option("--alpha", help="False-positive rate of the whole scan, after correction.")]
Registered = Annotated[
    bool, typer.Option("--registered", help="You vouch that the keys were time-stamped before the models appeared.")
]
Baseline = Annotated[
    Path | None, typer.Option("--baseline", help="An older scan (.json): says which matches are new and which gone.")
]


def scan(
    roots: Annotated[list[str], typer.Argument(help="Directories, files or URLs (s3://, memory://, …).")],
    key: Annotated[list[Path] | None, typer.Option("--key", "-k", help="Key file; repeatable.")] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="Directory of key files (*.npy).")] = None,
    db: Annotated[
        Path | None, typer.Option("--db", help="Journal: the same command goes on where an earlier run ended.")
    ] = None,
    fail_on: Fail = Alarm.NEVER,
    include: Annotated[list[str] | None, typer.Option("--include", help="Only files like this; repeatable.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="No files or folders/ like this; wins; repeatable.")
    ] = None,
    max_size: Annotated[str | None, typer.Option("--max-size", help="Leave out larger models: 500M, 2G.")] = None,
    convert: Annotated[
        bool, typer.Option("--convert", help="Convert models of Keras, TensorFlow and PyTorch; their code never runs.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be scanned.")] = False,
    baseline: Baseline = None,
    jobs: Annotated[int | None, typer.Option("-j", "--jobs", min=1, help="Workers; by default one a core.")] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="local, dask://HOST:PORT, dask://local, ray://HOST:PORT, ray://local.")
    ] = "local",
    shard: Annotated[
        str, typer.Option("--shard", help="Scan one share of several, I/N; then 'onnxmark merge'.")
    ] = "1/1",
    alpha: Alpha = 1e-6,
    registered: Registered = False,
    digest: Annotated[
        bool, typer.Option("--digest", help="Tell models by SHA-256, also in the report, not by size and time.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds that a model may take.")] = 300.0,
    memory: Annotated[str, typer.Option("--memory", help="Memory that a worker may take.")] = "8G",
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    output: Annotated[list[str] | None, typer.Option("-o", "--output", help=OUTPUT_HELP)] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress.")] = False,
) -> None:
    """Look for the marks of many keys in a registry of models.

    Models are found in plain folders, Hugging Face caches, MLflow and Triton registries, and wherever fsspec reaches;
    nothing is executed and nothing unpickled. With --db the scan may be killed at any moment: the same command goes on.
    Verdicts are corrected for everything that was tried in the whole registry.

    Exit code 0: done. 1: --fail-on applies. 3: something could not be audited. 2: error. 130: interrupted.

    Examples:

      onnxmark scan /models --keys ring/ --db scan.sqlite -o report.html -o scan.json

      onnxmark scan ~/.cache/huggingface/hub --keys ring/ --fail-on match --exclude 'tests/'

      onnxmark scan /models --keys ring/ --convert --timeout 600

      onnxmark scan s3://bucket/models --keys ring/ --engine dask://scheduler:8786

      onnxmark scan /models --keys ring/ --shard 2/8 --db shard2.sqlite
    """
    outputs = parse_outputs(output or [])
    check_formats(Kind.SCAN, format_, outputs)
    paths = key_files(key, keys)
    from onnxmark.registry.filters import Filters
    from onnxmark.registry.terms import Shard

    try:
        largest = None if max_size is None else _bytes(max_size)
        filters = Filters.given(include or (), exclude or (), largest, convert=convert)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--include / --exclude / --max-size") from error
    policy, share = _policy(alpha, registered), Shard.parse(shard)
    old = None if baseline is None else _saved(baseline)
    found = _found(roots, filters, share, quiet=no_progress)
    if dry_run:
        raise typer.Exit(_listed(found))
    with ExitStack() as stack:
        from onnxmark.registry.auditing import LEVEL, audit_chunk
        from onnxmark.registry.engines import Limits, open_engine
        from onnxmark.registry.journal import open_journal
        from onnxmark.registry.ring import load_ring, ring_folder
        from onnxmark.registry.running import Batching, run_scan

        folder = stack.enter_context(ring_folder(paths, jobs))
        ring = load_ring(folder)
        _say_asking(ring)
        level = max(LEVEL, alpha)
        terms = _terms(ring, level, digest=digest)
        journal = stack.enter_context(open_journal(_journal(stack, db), terms, digest=digest))
        journal.begin(roots, (share,))
        task = partial(audit_chunk, ring=folder, level=level, digest=digest, max_size=_bytes(memory), convert=convert)
        limits = Limits(seconds=timeout, memory=_bytes(memory))
        workers = stack.enter_context(open_engine(engine, jobs=jobs or os.cpu_count() or 1, limits=limits))
        with scan_progress(found, policy, quiet=no_progress) as tell:
            batching = Batching.suited(len(found), workers.capacity, converting=convert)
            for done in run_scan(found, task, journal, workers, batching=batching):
                tell(done)
        journal.finish()
        document = _concluded(journal, policy, fail_on, old)
    emit(document, format_, outputs)
    raise typer.Exit(_code(document, fail_on))


def merge(
    journals: Annotated[list[Path], typer.Argument(help="Journals of shards, as --db made them.")],
    db: Annotated[Path | None, typer.Option("--db", help="Keep the merged journal there.")] = None,
    fail_on: Fail = Alarm.NEVER,
    baseline: Baseline = None,
    alpha: Alpha = 1e-6,
    registered: Registered = False,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    output: Annotated[list[str] | None, typer.Option("-o", "--output", help=OUTPUT_HELP)] = None,
) -> None:
    """Make one report of the shards of a registry that were scanned apart.

    Examples:

      onnxmark merge shard1.sqlite shard2.sqlite -o scan.json -o report.html
    """
    outputs = parse_outputs(output or [])
    check_formats(Kind.SCAN, format_, outputs)
    from onnxmark.registry.journal import read_journal
    from onnxmark.registry.merging import merge as merged_into

    policy = _policy(alpha, registered)
    old = None if baseline is None else _saved(baseline)
    with ExitStack() as stack:
        target = _journal(stack, db)
        merged = merged_into(journals, target)
        for missing in merged.missing:
            remark(f"onnxmark: warning: shard {missing} is missing: the report does not cover it")
        for path in merged.unfinished:
            remark(f"onnxmark: warning: the scan of {str(path)!r} had not come to its end")
        journal = stack.enter_context(read_journal(target))
        document = _concluded(journal, policy, fail_on, old)
    emit(document, format_, outputs)
    raise typer.Exit(ExitCode.INCONCLUSIVE if not merged.complete else _code(document, fail_on))


def status(
    journal: Annotated[Path, typer.Argument(help="Journal of a scan, as --db made it; it may be running.")],
) -> None:
    """Say on one screen how far a scan is.

    Examples:

      watch -n 10 onnxmark status scan.sqlite
    """
    from onnxmark.registry.journal import read_journal
    from onnxmark.report.progress import Counts, summary

    with read_journal(journal) as scanned:
        tally = scanned.tally()
        hits = [hit["log10_p"] for row in scanned.rows() if row.result is not None for hit in row.result["hits"]]
        doubts = sum(len(row.result["doubts"]) for row in scanned.rows() if row.result is not None)
        counts = Counts(
            tally.audited + tally.failed,
            tally.audited + tally.failed if scanned.complete else None,
            n_matches=sum(least <= _STRIKING for least in hits),
            n_inconclusive=doubts,
            n_failed=tally.failed,
            n_skipped=tally.skipped,
            bytes_done=tally.n_bytes,
        )
        typer.echo(summary(", ".join(scanned.roots), counts), nl=False)


def _policy(alpha: float, registered: bool) -> Policy:
    from onnxmark.verdict import Policy

    if not 0 < alpha < 1:
        raise typer.BadParameter(f"{alpha:g} does not lie between 0 and 1", param_hint="--alpha")
    return Policy(alpha=alpha, registered=registered)


def _bytes(text: str) -> int:
    """A size as people write it: 500M, 2G, 1048576."""
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in units else (text, "")
    if not number.isascii() or not number.isdigit() or len(number) > 15:
        raise typer.BadParameter(f"{text!r} is not a size like 500M or 2G", param_hint="--max-size / --memory")
    return int(number) << units.get(unit, 0)


def _saved(path: Path) -> Document:
    from onnxmark.report.saved import load_document

    return load_document(path)


def _found(roots: list[str], filters: Filters, share: Shard, *, quiet: bool) -> list[Found]:
    """Everything in this share of the registry: the total is needed to say how long it will take."""
    from onnxmark.registry.discovery import discover

    found = [one for one in discover(roots, filters) if share.holds(one.identity)]
    if not quiet:
        remark(f"onnxmark: {len(found):,} files that are or may be models")
    return found


def _listed(found: list[Found]) -> ExitCode:
    """One line a file: what a dry run shows."""
    from onnxmark.registry.entries import Outcome
    from onnxmark.report.text import byte_size, plain

    for one in found:
        reason = "" if one.reason is None else f"  ({one.reason})"
        print(f"{one.outcome:<12}{byte_size(one.size):>10}  {plain(one.identity + reason, 400)}")  # noqa: T201
    models = [one for one in found if one.outcome is Outcome.MODEL]
    remark(f"onnxmark: {len(models):,} models, {byte_size(sum(one.size for one in models))}, would be scanned")
    return ExitCode.DONE


def _say_asking(ring: Ring) -> None:
    for index in ring.asking:
        key = ring.keys[index]
        remark(
            f"onnxmark: warning: key {key.commitment[:16]}… asks the model, which a scan does not run: left out "
            "(see 'onnxmark audit --run')"
        )


def _terms(ring: Ring, level: float, *, digest: bool) -> Terms:
    from onnxmark.registry.terms import Terms
    from onnxmark.report.documents.findings import public_key

    public = [public_key(key) for index, key in enumerate(ring.keys) if index not in ring.asking]
    options: dict[str, Option] = {"level": level, "digest": digest, _PUBLIC: json.dumps(public, sort_keys=True)}
    return Terms(tuple(key["commitment"] for key in public), options)


def _journal(stack: ExitStack, db: Path | None) -> Path:
    """The journal's file; without one of the user's, a temporary one."""
    if db is not None:
        return db
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onnxmark-scan-"))) / "scan.sqlite"


def _concluded(journal: Journal, policy: Policy, fail_on: Alarm, baseline: Document | None) -> Document:
    from onnxmark.registry.conclude import conclude

    public = json.loads(str(journal.terms.options[_PUBLIC]))
    rows = ((row.found, row.result) for row in journal.rows())
    return conclude(rows, policy, roots=journal.roots, keys=public, fail_on=fail_on, baseline=baseline)


def _code(document: Document, fail_on: Alarm) -> ExitCode:
    from onnxmark.registry.alarms import raised

    if raised(document, fail_on):
        return ExitCode.NOT_SATISFIED
    return ExitCode.DONE if document["status"] == "complete" else ExitCode.INCONCLUSIVE
