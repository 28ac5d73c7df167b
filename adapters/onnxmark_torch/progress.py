"""A bar while something takes long, and silence wherever nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Advance(Protocol):
    """What the loop calls after every step."""

    def __call__(self, loss: float | None = None) -> None:
        """Move on by one step; with a loss, show it."""
        ...


@contextmanager
def progress_bar(label: str, total: int, done: int = 0, *, shown: bool = True) -> Iterator[Advance]:
    """A bar on standard error, gone afterwards; nothing where that is not a terminal.

    Args:
        label: What is going on.
        total: Steps in all.
        done: Steps made already.
        shown: False for silence on a terminal, too.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn())
    hidden = not (shown and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(label, total=total, completed=done, loss="")

        def advance(loss: float | None = None) -> None:
            bar.advance(task)
            if loss is not None:
                bar.update(task, loss=f"loss {loss:.3f}")

        yield advance
