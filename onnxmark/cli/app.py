"""The application: its commands, and the one place where an exception becomes a line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Final, NoReturn

import typer

from onnxmark import __version__
from onnxmark.cli.attack import CONTEXT as ATTACK_CONTEXT
from onnxmark.cli.attack import attack
from onnxmark.cli.audit import audit
from onnxmark.cli.convert import convert
from onnxmark.cli.demo import demo
from onnxmark.cli.dispatch import dispatch
from onnxmark.cli.embed import embed
from onnxmark.cli.evaluate import evaluate
from onnxmark.cli.exits import ExitCode
from onnxmark.cli.inspect import inspect
from onnxmark.cli.keygen import keygen
from onnxmark.cli.report import report
from onnxmark.cli.scan import merge, scan, status

_CODES: Final = "  ".join(f"{code.value} {code.meaning}." for code in ExitCode)

app = typer.Typer(
    name="onnxmark",
    help="Embed, attack and audit ownership watermarks in neural networks stored as ONNX.",
    epilog=f"Exit codes: {_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"onnxmark {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", envvar="ONNXMARK_DEBUG")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    # Typer turns a closed pipe or Ctrl-C into its own exceptions; whether to show tracebacks is decided in run().
    del debug, version


for command in (inspect, keygen, embed, audit, scan, status, merge, attack, evaluate, convert, report, demo):
    app.command(rich_help_panel=None, context_settings=ATTACK_CONTEXT if command is attack else None)(command)


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: Without the program's name.

    Returns:
        The exit code.
    """
    return dispatch(app, arguments)


def main() -> NoReturn:
    """Entry point of the ``onnxmark`` program."""
    sys.exit(run(sys.argv[1:]))
