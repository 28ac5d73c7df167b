"""Where results and remarks go: results to standard output or files, everything else to standard error."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import typer

from onnxmark.errors import ReportError
from onnxmark.report.formats import Document, Format, format_of, require_fit

__all__ = [
    "OUTPUT_HELP",
    "Document",
    "Format",
    "Outputs",
    "check_formats",
    "emit",
    "parse_outputs",
    "progress",
    "remark",
]

Outputs = list[tuple[Format, Path]]

OUTPUT_HELP: Final = f"Also write FMT=PATH, or PATH whose suffix tells; FMT is one of {', '.join(Format)}; repeatable."
_HINT: Final = "FMT=PATH"


def remark(text: str) -> None:
    """A line for people, on standard error."""
    from onnxmark.report.text import plain

    print(plain(text, 2000), file=sys.stderr)  # noqa: T201


def parse_outputs(values: list[str]) -> Outputs:
    """``FMT=PATH`` options; a bare ``PATH`` will do where its suffix tells the form.

    Raises:
        typer.BadParameter: Not of that form, or no such format.
    """
    return [_output(value) for value in values]


def _output(value: str) -> tuple[Format, Path]:
    name, equals, path = value.partition("=")
    if equals and path and name in set(Format):
        return Format(name), Path(path)
    told = None if equals else format_of(Path(value))
    if told is None:
        one_of = f"FMT one of {', '.join(Format)}"
        raise typer.BadParameter(f"{value!r} is not FMT=PATH with {one_of}, nor a PATH that tells", param_hint=_HINT)
    return told, Path(value)


def check_formats(schema: str, format_: Format, outputs: Outputs) -> None:
    """Refuse forms that a kind of document does not come in, before any work is done.

    Raises:
        typer.BadParameter: Naming the forms that there are.
    """
    for hint, asked in (("--format", format_), *((_HINT, asked) for asked, _ in outputs)):
        try:
            require_fit(schema, asked)
        except ReportError as error:
            raise typer.BadParameter(str(error), param_hint=hint) from error


def emit(document: Document, format_: Format, outputs: Outputs) -> None:
    """Write a result to every file asked for and then to standard output.

    Args:
        document: The result.
        format_: Format on standard output.
        outputs: Further formats and files.

    Raises:
        ReportError: The document has no such form; then nothing is written.
        typer.BadParameter: A file cannot be written.
    """
    from onnxmark.report.render import kind_of, render

    for asked in (format_, *(asked for asked, _ in outputs)):
        require_fit(kind_of(document), asked)
    for asked, path in outputs:
        _write(path, render(document, asked).encode())
    if format_ is Format.RICH:
        _show(document)
    else:
        _put(render(document, format_))


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


def _show(document: Document) -> None:
    from rich.console import Console

    from onnxmark.report.pages import page_of
    from onnxmark.report.terminal import print_page

    print_page(page_of(document), Console(highlight=False, soft_wrap=False))
    sys.stdout.flush()


def _put(text: str) -> None:
    """UTF-8 whatever the locale, and line ends as they are: the bytes that a file would have got."""
    sys.stdout.flush()
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:  # a program that called us gave a stream of text alone
        sys.stdout.write(text)
        return
    stream.write(text.encode())
    stream.flush()


def _write(path: Path, content: bytes) -> None:
    """All or nothing: a report cut short by a full disk must not pass for a whole one."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {str(path)!r}: {error.strerror}", param_hint=_HINT) from error
