"""Whole processes side by side: every command once a round, in random order, timed with their peak memory.

A launcher of a few megabytes starts each command, because Linux counts the memory of the process that starts a program
towards the peak of the program itself. Rounds are compared within themselves, so that a machine that slows down slows
all commands alike.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.display import progress, spread

_LAUNCHER: Final = """
import os, sys, time
null = os.open(os.devnull, os.O_RDWR)
moves = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
started = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=moves)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - started
unit = 1 if sys.platform == "darwin" else 1024
print(seconds, usage.ru_maxrss * unit, usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True, slots=True)
class Command:
    """A program to measure.

    Args:
        arguments: The program's path, then its arguments.
        exit_codes: What it may return.
    """

    arguments: tuple[str, ...]
    exit_codes: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of one command, one entry a round."""

    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain values with their medians."""
        figures = {"seconds": self.seconds, "megabytes": self.megabytes, "cpu_seconds": self.cpu_seconds}
        return {**figures, **{f"median_{name}": statistics.median(values) for name, values in figures.items()}}


def measured(command: Command) -> tuple[float, float, float]:
    """Wall seconds, peak megabytes and CPU seconds of one run.

    Raises:
        RuntimeError: The command failed.
    """
    # -I and -S keep the launcher small: no site, no user directory, nothing imported.
    launched = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command.arguments], capture_output=True, text=True, check=False
    )
    fields = launched.stdout.split()
    if launched.returncode or len(fields) != 4 or int(fields[3]) not in command.exit_codes:
        raise RuntimeError(f"{' '.join(command.arguments)} failed: {launched.stdout}{launched.stderr[-2000:]}")
    return float(fields[0]), float(fields[1]) / 1e6, float(fields[2])


def interleaved(commands: Mapping[str, Command], rounds: int, label: str, seed: int = 0) -> dict[str, Runs]:
    """Run every command once a round, in random order, after one round that warms caches and is thrown away."""
    runs = {name: Runs() for name in commands}
    order = random.Random(seed)
    with progress(label, len(commands) * (rounds + 1)) as done:
        for count in range(rounds + 1):
            for name in order.sample(sorted(commands), len(commands)):
                seconds, megabytes, cpu = measured(commands[name])
                if count:
                    runs[name].seconds.append(seconds)
                    runs[name].megabytes.append(megabytes)
                    runs[name].cpu_seconds.append(cpu)
                done(1)
    return runs


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, float]:
    """Ratio of the medians, and the smallest and largest ratio within a round."""
    each = [above / below for above, below in zip(numerators, denominators, strict=True)]
    return {
        "ratio": statistics.median(numerators) / statistics.median(denominators),
        "min": min(each),
        "max": max(each),
    }


def shown(ratio_: Mapping[str, float]) -> str:
    """A ratio with its spread over rounds."""
    return f"{ratio_['ratio']:.2f} ({ratio_['min']:.2f}–{ratio_['max']:.2f})"


def row(name: str, runs: Runs) -> tuple[str, str, str, str]:
    """Cells of a table: name, seconds, CPU seconds, peak megabytes."""
    return name, spread(runs.seconds, ".3f"), spread(runs.cpu_seconds, ".3f"), spread(runs.megabytes, ".0f")
