"""Where results and remarks go: results to standard output or files, everything else to standard error."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

Document = dict[str, Any]
Printer = Callable[[Document, "Console"], None]


class Format(StrEnum):
    """Formats of a result."""

    RICH = "rich"
    JSON = "json"


def remark(text: str) -> None:
    """A line for people, on standard error."""
    from onnxmark.report.text import plain

    print(plain(text, 2000), file=sys.stderr)  # noqa: T201


def parse_outputs(values: list[str]) -> list[tuple[Format, Path]]:
    """``FMT=PATH`` options.

    Raises:
        typer.BadParameter: Not of that form, or no such format.
    """
    outputs = []
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or not path or name not in set(Format):
            raise typer.BadParameter(f"{value!r} is not FMT=PATH with FMT one of {', '.join(Format)}", param_hint="-o")
        outputs.append((Format(name), Path(path)))
    return outputs


def emit(document: Document, printer: Printer, format_: Format, outputs: list[tuple[Format, Path]]) -> None:
    """Write a result to every file asked for and then to standard output.

    Args:
        document: The result.
        printer: Renders it for a console.
        format_: Format on standard output.
        outputs: Further formats and files.
    """
    for kind, path in outputs:
        _write(path, _render(document, printer, kind))
    if format_ is Format.JSON:
        sys.stdout.write(_json(document))
    else:
        printer(document, _console())
    sys.stdout.flush()


@contextmanager
def progress(label: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error while it is a terminal; None to report to otherwise."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def _json(document: Document) -> str:
    from onnxmark.report.document import to_json

    return to_json(document)


def _render(document: Document, printer: Printer, kind: Format) -> str:
    if kind is Format.JSON:
        return _json(document)
    from rich.console import Console

    text = StringIO()
    printer(document, Console(file=text, width=110, highlight=False, no_color=True))
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    """All or nothing: a report cut short by a full disk must not pass for a whole one."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {str(path)!r}: {error.strerror}", param_hint="-o") from error
