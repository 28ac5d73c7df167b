"""A scan from what is found to what became of it, entry by entry, never holding more than is in flight.

Models travel in chunks, so that what keys cost is shared. When a chunk fails, its models are tried one by one: only the
one that fails alone is blamed, and what it did to its worker becomes its result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from typing import Final

from onnxmark.errors import EngineError
from onnxmark.registry.auditing import failed
from onnxmark.registry.engines import Engine, Task
from onnxmark.registry.engines.isolation import Reply, parse
from onnxmark.registry.entries import Found, Outcome
from onnxmark.registry.journal import COMPANIONS, Journal, Result, Row, Tally

Progress = Callable[[Tally], None]

_AHEAD: Final = 2
"""Chunks in flight for each worker: the next one waits where it will be worked on."""
_DEATHS: Final = 2
"""A model is blamed for the death of so many workers that read nothing else: one may be killed for its neighbours."""
_GROWTH: Final = 17 / 16
"""After a failure has halved chunks, each success makes them grow so much: twelve make up for one failure."""
_FEW: Final = 8
_MANY: Final = 128
"""Models of a chunk, at least and at most."""
_CHUNKS: Final = 6
"""Chunks for each worker, where there are as many."""
_PATIENCE: Final = 256
"""Entries that need no work wait in memory for so many of their kind, to be written at once."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How models are put into chunks, as long as chunks do not fail.

    Args:
        n_models: At most so many.
        n_bytes: At most so many bytes, unless a single model is larger.
    """

    n_models: int = 32
    n_bytes: int = 128 << 20

    @classmethod
    def suited(cls, n_models: int, n_workers: int, *, converting: bool = False) -> Batching:
        """For a scan of so many models on so many workers.

        Large chunks share what keys cost; several for each worker let all of them end together. Where models are
        converted first chunks are small: one conversion takes as long as a hundred audits, and a chunk has as much time
        as a single model.
        """
        largest = _FEW if converting else _MANY
        return cls(min(max(n_models // (_CHUNKS * n_workers), _FEW), largest), 2**32)

    def __post_init__(self) -> None:
        if self.n_models < 1 or self.n_bytes < 1:
            raise ValueError(f"a chunk holds something, found {self}")


@dataclass(frozen=True, slots=True)
class Done:
    """An entry that needs no more work.

    Args:
        found: The file.
        result: What became of it; None for what is not audited.
        reused: An earlier run had left the result.
    """

    found: Found
    result: Result | None
    reused: bool = False


def run_scan(
    found: Iterable[Found],
    task: Task,
    journal: Journal,
    engine: Engine,
    *,
    progress: Progress | None = None,
    batching: Batching | None = None,
) -> Iterator[Done]:
    """Audit what is found, journalling what becomes of it; each entry is given once, as soon as it is known.

    Whatever ends the iteration early, an interrupt included, leaves a journal from which the next run goes on.

    Args:
        found: What discovery comes across; read as it is needed.
        task: Audits the models of a chunk.
        journal: Begun by the caller, who finishes it after the last entry.
        engine: Where tasks run.
        progress: Told how far the scan is, after each entry.
        batching: How models are put into chunks.

    Raises:
        EngineError: The engine went away, or the task says that it will never have results.
        JournalError: The journal cannot be written.
    """
    scan = _Scan(journal, engine, task, batching or Batching())
    tally = Tally()
    for done in scan.run(found):
        status = None if done.result is None else done.result["status"]
        tally = tally.plus(done.found.outcome, status, n_bytes=done.found.size, reused=done.reused)
        if progress is not None:
            progress(tally)
        yield done


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Models that travel together, with the evidence taken before they did.

    Args:
        rows: The models.
        share: Of what a chunk may hold, at most, when this one was made.
        deaths: Workers that died of it while there was a single model in it.
        retry: It failed before.
    """

    rows: tuple[Row, ...]
    share: float
    deaths: int = 0
    retry: bool = False

    def retries(self, certain: bool) -> list[_Chunk]:
        """What to try after a failure; nothing where the blame is clear."""
        if len(self.rows) > 1:
            return [_Chunk((row,), self.share, retry=True) for row in self.rows]
        deaths = self.deaths + 1
        return [] if certain or deaths == _DEATHS else [replace(self, deaths=deaths, retry=True)]


@dataclass(slots=True)
class _Scan:
    journal: Journal
    engine: Engine
    task: Task
    batching: Batching
    _flying: dict[Future[str], _Chunk] = field(default_factory=dict)
    _again: deque[_Chunk] = field(default_factory=deque)
    _settled: list[Done] = field(default_factory=list)
    _unwritten: list[Row] = field(default_factory=list)
    _share: float = 1.0
    """Of what a chunk may hold: many models at once may take too long, or too much memory, where each is harmless."""

    def run(self, found: Iterable[Found]) -> Iterator[Done]:
        chunks = self._chunks(found)
        try:
            more = True
            while more or self._flying or self._again:
                more = self._fill(chunks)
                yield from self._take()
                if self._flying:
                    self._land()
                    yield from self._take()
            self._write()
        except (GeneratorExit, KeyboardInterrupt):
            self._write()
            raise
        finally:
            for future in self._flying:
                future.cancel()

    def _chunks(self, found: Iterable[Found]) -> Iterator[_Chunk | None]:
        """Chunks of models that need work; None where entries were settled without."""
        rows: list[Row] = []
        n_bytes = 0
        for one in found:
            evidence = self.journal.evidence(one) if one.outcome is Outcome.MODEL else None
            if self._needs_no_work(one, evidence):
                yield None
                continue
            if rows and n_bytes + one.size > self._share * self.batching.n_bytes:
                yield _Chunk(tuple(rows), self._share)
                rows, n_bytes = [], 0
            rows.append(Row(one, evidence))
            n_bytes += one.size
            if len(rows) >= int(self._share * self.batching.n_models):
                yield _Chunk(tuple(rows), self._share)
                rows, n_bytes = [], 0
        if rows:
            yield _Chunk(tuple(rows), self._share)

    def _needs_no_work(self, found: Found, evidence: str | None) -> bool:
        if found.outcome is not Outcome.MODEL:
            self._settle(Row(found), reused=False)
            return True
        kept = self.journal.recall(found, evidence)
        if kept is not None:
            self._settle(kept, reused=True)
        return kept is not None

    def _settle(self, row: Row, *, reused: bool) -> None:
        self._unwritten.append(row)
        self._settled.append(Done(row.found, _public(row.result), reused))
        if len(self._unwritten) >= _PATIENCE:
            self._write()

    def _write(self) -> None:
        self.journal.put(self._unwritten)
        self._unwritten = []

    def _take(self) -> list[Done]:
        settled, self._settled = self._settled, []
        return settled

    def _fill(self, chunks: Iterator[_Chunk | None]) -> bool:
        """Start what the engine has room for; False once there is nothing more to find."""
        while len(self._flying) < _AHEAD * self.engine.capacity:
            if self._again:
                self._start(self._again.popleft())
                continue
            try:
                chunk = next(chunks)
            except StopIteration:
                return False
            if chunk is not None:
                self._start(chunk)
            elif len(self._settled) >= _PATIENCE:
                return True
        return True

    def _start(self, chunk: _Chunk) -> None:
        locations = [row.found.location for row in chunk.rows]
        self._flying[self.engine.submit(self.task, locations)] = chunk

    def _land(self) -> None:
        """Wait for some chunk, and journal what came of it."""
        done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
        for future in done:
            chunk = self._flying.pop(future)
            reply = self._reply(future)
            self._adapt(chunk, reply)
            retries = [] if reply.results is not None else chunk.retries(reply.certain)
            self._again.extend(retries)
            if not retries:
                self._journal(chunk, reply)

    def _adapt(self, chunk: _Chunk, reply: Reply) -> None:
        if reply.results is None and len(chunk.rows) > 1:
            # All that was in flight may fail for the same reason.
            self._share = min(self._share, chunk.share / 2)
        elif not chunk.retry:
            self._share = min(1.0, self._share * _GROWTH)

    def _reply(self, future: Future[str]) -> Reply:
        try:
            return parse(future.result())
        except EngineError:
            raise
        except (Exception, CancelledError) as error:  # of the cluster's own kind, whatever that is
            if not self.engine.alive():
                raise EngineError(
                    f"the engine went away ({type(error).__name__}); what is done is kept: run the same command again"
                ) from error
            return Reply(None, f"worker-killed({type(error).__name__})", certain=False)

    def _journal(self, chunk: _Chunk, reply: Reply) -> None:
        results = reply.results or (failed(reply.reason),)
        rows = [replace(row, result=result) for row, result in zip(chunk.rows, results, strict=True)]
        self._unwritten += rows
        self._settled += [Done(row.found, _public(row.result)) for row in rows]
        self._write()


def _public(result: Result | None) -> Result | None:
    """A result without what only the journal needs to know."""
    return result and {name: value for name, value in result.items() if name != COMPANIONS}
