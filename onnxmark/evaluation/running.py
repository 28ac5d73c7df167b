"""Cells in the order of what they need, on workers; the coordinator alone writes the journal.

Whatever ends a run, an interrupt included, leaves a journal from which the next one goes on. Networks that a finished
cell left behind and that are gone since are made again: the same plan makes the same ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from onnxmark.errors import LaboratoryError
from onnxmark.evaluation.cells import Cell, Kind, cells_of, needs
from onnxmark.evaluation.journal import Journal
from onnxmark.evaluation.loads import Loads
from onnxmark.evaluation.pacing import Pace
from onnxmark.evaluation.plan import Plan
from onnxmark.evaluation.rooms import Room
from onnxmark.evaluation.workers import Outcome, Workers

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Args:
        n_done: Cells with an outcome, reused ones included.
        n_total: All cells.
        n_reused: Cells that an earlier run had done.
        seconds: Since this run began.
        seconds_left: Until its end, as far as can be told; None at the beginning.
        latest: The cell done last, in words; empty at the beginning.
    """

    n_done: int
    n_total: int
    n_reused: int
    seconds: float
    seconds_left: float | None
    latest: str


Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a run leaves.

    Args:
        records: By name of the cell.
        failures: Cells that may go another way next time, with the reason.
    """

    records: dict[str, Record]
    failures: dict[str, str]


@dataclass(slots=True, eq=False)
class Run:
    """One run over all cells of a plan.

    Args:
        plan: The plan.
        journal: Of the plan.
        room: Where networks are.
        loads: What cells take.
        tell: Told how far the run is.
    """

    plan: Plan
    journal: Journal
    room: Room
    loads: Loads
    tell: Tell | None = None
    _failures: dict[str, str] = field(default_factory=dict)
    _derived: dict[str, Record] = field(default_factory=dict)
    _again: frozenset[Cell] = frozenset()
    _settled: set[str] = field(default_factory=set)
    _started: float = 0.0
    _pace: Pace = field(init=False)
    _n_at_a_time: int = 1
    _n_reused: int = 0
    _n_total: int = 0

    def over(self, workers: Workers) -> Outcomes:
        """Carry out what is not done yet.

        Raises:
            JournalError: The journal cannot be written.
            LaboratoryError: No cell can be carried out.
        """
        waiting = self._begin()
        self._n_at_a_time = workers.count
        self._say("")
        while waiting or workers.n_busy:
            waiting = self._start(waiting, workers)
            if workers.n_busy:
                for outcome in workers.finished():
                    self._settle(outcome)
        return Outcomes({**self.journal.records, **self._derived}, self._failures)

    def _begin(self) -> list[Cell]:
        """The cells to carry out, in order."""
        cells = cells_of(self.plan)
        todo = [cell for cell in cells if cell.name not in self.journal.records]
        self._again = frozenset(self._gone(todo))
        self._settled = {cell.name for cell in cells} - {cell.name for cell in (*todo, *self._again)}
        self._n_total, self._n_reused = len(cells), len(cells) - len(todo) - len(self._again)
        todo = [cell for cell in cells if cell.name not in self._settled]
        self._started, self._pace = time.monotonic(), Pace(self.loads, todo)
        return todo

    def _gone(self, todo: Iterable[Cell]) -> set[Cell]:
        """Finished cells whose networks are needed and no longer there."""
        gone: set[Cell] = set()
        asked = list(todo)
        while asked:
            for need in needs(self.plan, asked.pop()):
                record = self.journal.records.get(need.name)
                if need not in gone and record is not None and "problem" not in record and not self.room.holds(need):
                    gone.add(need)
                    asked.append(need)
        return gone

    def _start(self, waiting: list[Cell], workers: Workers) -> list[Cell]:
        """Start what can be started; what is left waits."""
        left = []
        for cell in waiting:
            if not workers.has_room:
                left.append(cell)
                continue
            required = needs(self.plan, cell)
            if not all(need.name in self._settled for need in required):
                left.append(cell)
            elif (reason := self._hindrance(cell, required)) is not None:
                self._skip(cell, required, reason)
            else:
                workers.start(cell)
        return left

    def _hindrance(self, cell: Cell, required: Iterable[Cell]) -> str | None:
        """Why a cell cannot be carried out, for lack of what it needs."""
        for need in required:
            if need.name in self._failures:
                return self._failures[need.name]
            record = self.journal.records.get(need.name) or self._derived.get(need.name, {})
            # Keys that could not be made are not looked for in an unmarked network; all else is lacking.
            if "problem" in record and not (need.kind is Kind.EMBED and cell.payload is None):
                return str(record["problem"])
        return None

    def _skip(self, cell: Cell, required: Iterable[Cell], reason: str) -> None:
        if any(need.name in self._failures for need in required):
            self._failures[cell.name] = reason
        else:
            self._derived[cell.name] = {"problem": reason}
        self._finish(cell, None)

    def _settle(self, outcome: Outcome) -> None:
        if outcome.refusal is not None:
            raise LaboratoryError(f"no cell can be carried out: {outcome.refusal}")
        if outcome.record is None:
            self._failures[outcome.cell.name] = f"{outcome.cell.words(self.plan)}: {outcome.failure}"
        else:
            self.journal.put(outcome.cell.name, outcome.record)
        self._finish(outcome.cell, outcome.seconds)

    def _finish(self, cell: Cell, seconds: float | None) -> None:
        self._settled.add(cell.name)
        self._pace.settle(cell, seconds)
        self._say(cell.words(self.plan))

    def _say(self, latest: str) -> None:
        if self.tell is None:
            return
        n_at_a_time = max(1, min(self._n_total - len(self._settled), self._n_at_a_time))
        left = self._pace.seconds_left
        self.tell(
            Progress(
                n_done=len(self._settled),
                n_total=self._n_total,
                n_reused=self._n_reused,
                seconds=time.monotonic() - self._started,
                seconds_left=None if left is None else left / n_at_a_time,
                latest=latest,
            )
        )
