"""The application: its commands, and the one place where an exception becomes a line and an exit code."""

from __future__ import annotations

import os
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
from onnxmark.cli.embed import embed
from onnxmark.cli.evaluate import evaluate
from onnxmark.cli.exits import ExitCode
from onnxmark.cli.inspect import inspect
from onnxmark.cli.keygen import keygen
from onnxmark.cli.report import report
from onnxmark.cli.scan import merge, scan, status
from onnxmark.errors import OnnxmarkError

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
    debug = "--debug" in arguments or bool(os.environ.get("ONNXMARK_DEBUG"))
    try:
        return int(app(list(arguments), prog_name="onnxmark", standalone_mode=False) or ExitCode.DONE)
    except typer.Exit as exit_:
        return exit_.exit_code
    except (typer.Abort, KeyboardInterrupt):
        _complain("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader went away (onnxmark audit ... | head): nothing more to say, and nothing to flush into.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.ERROR
    except OnnxmarkError as error:
        if debug:
            raise
        _complain(f"error: {error}")
        return ExitCode.ERROR
    except _UsageError as error:
        context = getattr(error, "ctx", None)
        _complain(f"error: {error.format_message()}; see '{context.command_path if context else 'onnxmark'} --help'")
        return ExitCode.ERROR
    except MemoryError:
        if debug:
            raise
        _complain("error: out of memory; close other programs or take a machine with more of it")
        return ExitCode.ERROR
    except Exception as error:
        if debug:
            raise
        _complain(f"internal error: {type(error).__name__}: {error}; please report it with the output of --debug")
        return ExitCode.ERROR


def main() -> NoReturn:
    """Entry point of the ``onnxmark`` program."""
    sys.exit(run(sys.argv[1:]))


# The common ancestor of usage errors has no public name in every version of typer.
_UsageError: Final[type[typer.BadParameter]] = typer.BadParameter.__mro__[1]


def _complain(line: str) -> None:
    from onnxmark.report.text import plain

    print(f"onnxmark: {plain(line, 2000)}", file=sys.stderr)  # noqa: T201
