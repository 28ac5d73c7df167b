"""``onnxmark demo``: the whole story on shipped data, through the same commands a user would type."""

from __future__ import annotations

import sys
from importlib.resources import as_file, files
from typing import Annotated

import typer

from onnxmark.cli.dispatch import dispatch
from onnxmark.cli.exits import ExitCode

_STORY = (
    (
        "An image classifier, trained with a mark in its weights. Which of its layers can carry one?",
        ("inspect", "marked.onnx"),
        ExitCode.DONE,
    ),
    (
        "Is our mark in it? The audit reads the weights, and tries what compression would do to the mark.",
        ("audit", "marked.onnx", "--key", "key.npy"),
        ExitCode.DONE,
    ),
    (
        "The same model, somebody else's key: nothing.",
        ("audit", "marked.onnx", "--key", "other_key.npy"),
        ExitCode.NOT_SATISFIED,
    ),
    (
        "Our key, but a twin of the model that was trained without the mark: nothing.",
        ("audit", "unmarked.onnx", "--key", "key.npy"),
        ExitCode.NOT_SATISFIED,
    ),
    (
        "A thief pruned half of the weights, fine-tuned, and quantised to 8-bit integers: the mark is still there.",
        ("audit", "attacked.onnx", "--key", "key.npy", "--attacks", "none"),
        ExitCode.DONE,
    ),
)


def demo(
    context: typer.Context,
    pause: Annotated[bool, typer.Option("--pause", help="Wait for Enter after each step.")] = False,
) -> None:
    """See a real, trained, marked model inspected, audited, confused with others and attacked.

    Examples:

      onnxmark demo

      onnxmark demo --pause
    """
    from rich.console import Console
    from rich.rule import Rule
    from rich.text import Text

    console = Console(highlight=False)
    with as_file(files("onnxmark").joinpath("demo_data")) as directory:
        for step, (words, arguments, expected) in enumerate(_STORY, start=1):
            console.print(Rule(f"{step} of {len(_STORY)}", style="dim"))
            console.print(Text(words, style="italic"))
            console.print(Text(f"$ onnxmark {' '.join(arguments)}", style="bold cyan"))
            sys.stdout.flush()
            paths = [str(directory / word) if word.endswith((".onnx", ".npy")) else word for word in arguments]
            code = dispatch(context.find_root().command, paths)
            console.print(Text(f"exit code {code}\n", style="dim"))
            if code != expected:
                raise typer.Exit(ExitCode.ERROR)
            if pause and sys.stdin.isatty():
                input("Enter to go on… ")
    console.print(
        Text("Next: onnxmark inspect YOUR.onnx, then keygen, embed and audit; see onnxmark --help.", style="bold")
    )
