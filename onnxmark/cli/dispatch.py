"""One command line, carried out: whatever ends it becomes an exit code and at most one line on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import typer

from onnxmark.cli.exits import ExitCode
from onnxmark.errors import OnnxmarkError

Program = Callable[..., Any]
"""A command of typer or of what it is built on, called as ``program(arguments, prog_name, standalone_mode)``."""

# The common ancestor of usage errors has no public name in every version of typer.
_UsageError: Final[type[typer.BadParameter]] = typer.BadParameter.__mro__[1]


def dispatch(program: Program, arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        program: The command with all below it.
        arguments: Without the program's name.

    Returns:
        The exit code.
    """
    debug = "--debug" in arguments or bool(os.environ.get("ONNXMARK_DEBUG"))
    try:
        return int(program(list(arguments), prog_name="onnxmark", standalone_mode=False) or ExitCode.DONE)
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


def _complain(line: str) -> None:
    from onnxmark.report.text import plain

    print(f"onnxmark: {plain(line, 2000)}", file=sys.stderr)  # noqa: T201
