"""Millions of mutated inputs, in plain worker processes: ``python -m fuzz.run --target reader --runs 1000000``.

Every input has two seconds and 512 MB. What breaks a promise is written to ``fuzz/findings/`` under its SHA-256, with
the traceback beside it; the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

from fuzz import corpus
from fuzz.mutate import Mutator
from fuzz.npy import KeyMutator
from fuzz.targets import TARGETS, Target

SECONDS: Final = 2.0
BYTES: Final = 512 << 20
FINDINGS: Final = Path(__file__).parent / "findings"
_SAME: Final = 3
"""Inputs kept for one place in the code."""


class Source(Protocol):
    """Where inputs come from."""

    def next(self) -> bytes:
        """One more input."""

    def keep(self, data: bytes) -> None:
        """Take ``data`` among the parents of later inputs."""


class TooSlowError(BaseException):
    """An input has used up its time. No ``Exception``, so that nobody on the way catches it."""


@dataclass
class Tally:
    """What came of the inputs so far."""

    inputs: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    slowest_sha: str = ""
    peak: int = 0
    """Resident bytes beyond what the process had before the first input."""

    def add(self, other: Tally) -> None:
        """Take in what another worker counted."""
        self.inputs += other.inputs
        self.seconds = max(self.seconds, other.seconds)
        self.outcomes += other.outcomes
        self.findings += other.findings
        self.peak = max(self.peak, other.peak)
        if other.slowest > self.slowest:
            self.slowest, self.slowest_sha = other.slowest, other.slowest_sha

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "inputs": self.inputs,
            "seconds": round(self.seconds, 1),
            "outcomes": dict(self.outcomes.most_common()),
            "findings": dict(self.findings.most_common()),
            "slowest_ms": round(self.slowest * 1e3, 1),
            "slowest_sha256": self.slowest_sha,
            "peak_mb": round(self.peak / 2**20, 1),
        }


def source(target: str, seed: int, installed: bool = True) -> Source:
    """The inputs for ``target``, the same for the same seed."""
    chance = random.Random(seed)
    if target == "keys":
        return KeyMutator(chance)
    seeds = corpus.external_models() if target == "external" else corpus.models()
    return Mutator([*seeds, *(corpus.installed_models() if installed and target == "reader" else ())], chance)


def fuzz(name: str, runs: int, seed: int, seconds: float = 1e9, installed: bool = True) -> Tally:
    """Try ``runs`` inputs, or as many as there is time for, in this process.

    Args:
        name: The target.
        runs: How many inputs.
        seed: Of the mutations.
        seconds: Stop after that long.
        installed: Start from the models of installed packages, too.
    """
    inputs, target, tally = source(name, seed, installed), TARGETS[name](), Tally()
    target(b"")
    base = _resident()
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    previous = signal.signal(signal.SIGALRM, _too_slow)
    began = time.perf_counter()
    try:
        while tally.inputs < runs and time.perf_counter() - began < seconds:
            _one(target, name, inputs, tally, base)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    tally.seconds = time.perf_counter() - began
    if len(os.listdir("/proc/self/fd")) > files:  # noqa: PTH208
        tally.findings["files left open"] += 1
    return tally


def _one(target: Target, name: str, inputs: Source, tally: Tally, base: int) -> None:
    data = inputs.next()
    began = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        outcome = target(data)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except (Exception, TooSlowError) as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        outcome = "broken promise"
        _found(name, data, error, tally)
    took = time.perf_counter() - began
    tally.inputs += 1
    tally.outcomes[outcome] += 1
    if took > tally.slowest:
        tally.slowest, tally.slowest_sha = took, hashlib.sha256(data).hexdigest()
        if took > SECONDS / 10:
            _write(f"slow-{name}", data, f"{took:.2f} s")
    grown = _resident() - base
    if grown > tally.peak:
        tally.peak = grown
        if grown > BYTES:
            _found(name, data, MemoryError(f"{grown >> 20} MB"), tally)
            # From here on the high-water mark counts afresh, or every later input would look guilty.
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    # One in twenty: indexing an input costs as much as trying one.
    if tally.inputs % 20 == 0 and outcome in ("read", "read in part", "none read"):
        inputs.keep(data)


def _found(name: str, data: bytes, error: BaseException, tally: Tally) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    place = next((f"{Path(f.filename).name}:{f.name}" for f in reversed(frames) if "onnxmark" in f.filename), "")
    what = f"{name}: {type(error).__name__} in {place}: {str(error)[:80]}"
    signature = f"{name}: {type(error).__name__} in {place}"
    tally.findings[signature] += 1
    if tally.findings[signature] <= _SAME:
        _write(name, data, what + "\n" + "".join(traceback.format_exception(error)))


def _write(name: str, data: bytes, note: str) -> None:
    FINDINGS.mkdir(exist_ok=True)
    path = FINDINGS / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}.bin"
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(note, encoding="utf-8", errors="backslashreplace")


def _too_slow(_: int, __: FrameType | None) -> None:
    raise TooSlowError


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _worker(task: tuple[str, int, int, float]) -> Tally:
    # Beyond this nothing is measured any more, it is only kept from taking the machine down.
    resource.setrlimit(resource.RLIMIT_AS, (8 * BYTES, 8 * BYTES))
    return fuzz(*task)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__)
    parser.add_argument("--target", choices=[*TARGETS], default="reader")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    share = -(-given.runs // given.workers)
    tasks = [(given.target, share, given.seed * 1000 + index, given.seconds) for index in range(given.workers)]
    total = Tally()
    with get_context("spawn").Pool(given.workers) as pool:
        for tally in pool.imap_unordered(_worker, tasks):
            total.add(tally)
    sys.stdout.write(json.dumps({"target": given.target, "seed": given.seed, **total.document()}, indent=1) + "\n")
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main())
