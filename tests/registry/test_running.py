"""Running a scan: each entry once, bounded, journalled before it is told, and blamed only for what it did alone."""

import json
import os
import pickle
from collections import Counter
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.errors import EngineError, JournalError
from onnxmark.registry.engines import Engine, Limits, open_engine
from onnxmark.registry.engines.worker import reply
from onnxmark.registry.entries import Found, Outcome, Stamp
from onnxmark.registry.journal import COMPANIONS, Tally, open_journal, read_journal
from onnxmark.registry.running import Batching, Done, _Scan, run_scan
from onnxmark.registry.terms import Terms
from tests.registry.engines import tasks

TERMS = Terms(("aa",))
LIMITS = Limits(seconds=4.0, memory=1 << 30)


def model(name, size=1000, inode=1):
    return Found(name, "plain", f"/r/{name}", Outcome.MODEL, size, Stamp(size, 5, inode, 1))


def models(count, **options):
    return [model(f"m{number}", **options) for number in range(count)]


class Here(Executor):
    """Runs what it is given when somebody waits for it, at the latest; keeps what it was given."""

    def __init__(self):
        self.chunks = []
        self.flying = self.most = 0

    def submit(self, fn, /, *args, **kwargs):
        future = _Lazy(lambda: fn(*args, **kwargs), self)
        self.flying += 1
        self.most = max(self.most, self.flying)
        return future


class _Lazy(Future):
    def __init__(self, work, executor):
        super().__init__()
        self.work, self.executor = work, executor

    def done_now(self):
        if not self.done():
            self.executor.flying -= 1
            try:
                self.set_result(self.work())
            except BaseException as error:
                self.set_exception(error)

    def cancel(self):
        self.executor.flying -= not self.done()
        return super().cancel()


@pytest.fixture
def here(monkeypatch):
    """An engine that works in this process, one chunk at a time, the first one first."""

    def wait(futures, return_when):
        first = next(iter(futures))
        if isinstance(first, _Lazy):
            first.done_now()
        return {first}, set(futures) - {first}

    monkeypatch.setattr("onnxmark.registry.running.wait", wait)
    executor = Here()

    def ask(message):
        executor.chunks.append(message)
        return reply(message)

    return Engine(executor, ask, 2)


@contextmanager
def journal_of(path, terms=TERMS):
    with open_journal(path, terms) as journal:
        journal.begin(["/r"])
        yield journal


def scanned(path, found, engine, task=tasks.behave, finish=True, **options):
    with journal_of(path) as journal:
        done = list(run_scan(found, task, journal, engine, **options))
        if finish:
            journal.finish()
    return done


def rows_of(path):
    with read_journal(path) as journal:
        return [(row.found, row.result) for row in journal.rows()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.sqlite"


OTHERS = [
    Found(outcome.value, "plain", f"/r/{outcome.value}", outcome, 10, reason="for a reason")
    for outcome in Outcome
    if outcome is not Outcome.MODEL
]


def test_each_entry_is_told_once_with_its_result(path, here):
    found = models(100) + OTHERS
    done = scanned(path, found, here)
    assert sorted(done, key=lambda one: one.found.identity) == sorted(
        (Done(one, tasks.audited(one.location) if one.outcome is Outcome.MODEL else None) for one in found),
        key=lambda one: one.found.identity,
    )


def test_the_journal_holds_what_was_told(path, here):
    done = scanned(path, models(100) + OTHERS, here)
    told = sorted(((one.found, one.result) for one in done), key=lambda pair: pair[0].identity)
    assert rows_of(path) == told


def test_a_result_is_journalled_before_it_is_told(path, here):
    with journal_of(path) as journal:
        for count, _ in enumerate(run_scan(models(50), tasks.behave, journal, here, batching=Batching(1)), 1):
            assert journal.tally().audited >= count


def test_nothing_to_scan(path, here):
    assert scanned(path, [], here) == []
    assert rows_of(path) == []


def test_a_second_run_uses_what_the_first_one_left(path, here):
    first = scanned(path, models(100), here)
    here.executor.chunks.clear()
    second = scanned(path, models(100), here)
    assert here.executor.chunks == []
    assert sorted(map(repr, second)) == sorted(repr(replace(one, reused=True)) for one in first)
    assert scanned(path, models(100), here)[0].reused


def test_only_what_has_changed_is_audited_again(path, here):
    scanned(path, models(100), here)
    here.executor.chunks.clear()
    found = [model(f"m{number}", inode=2 if number % 10 == 0 else 1) for number in range(101)]
    done = scanned(path, found, here, batching=Batching(1))
    again = {one.found.identity for one in done if not one.reused}
    assert again == {f"m{number}" for number in range(0, 101, 10)} | {"m100"}
    assert len(here.executor.chunks) == len(again)


def test_discovery_is_never_far_ahead(path, here):
    """A registry need not fit in memory, nor be listed before the first model is read."""
    ahead = []
    taken = 0

    def found():
        nonlocal taken
        for one in models(3000):
            taken += 1
            yield one

    with journal_of(path) as journal:
        for told, _ in enumerate(run_scan(found(), tasks.behave, journal, here, batching=Batching(5)), 1):
            ahead.append(taken - told)
    assert here.executor.most == 2 * here.capacity
    assert max(ahead) <= (2 * here.capacity + 1) * 5


def test_neither_is_it_when_nothing_needs_work(path, here):
    found = [replace(OTHERS[0], identity=f"o{number}", location=f"/r/o{number}") for number in range(3000)]
    taken = 0

    def counted():
        nonlocal taken
        for one in found:
            taken += 1
            yield one

    with journal_of(path) as journal:
        ahead = [taken - told for told, _ in enumerate(run_scan(counted(), tasks.behave, journal, here), 1)]
    assert len(ahead) == 3000
    assert max(ahead) <= 256


@given(
    sizes=st.lists(st.integers(0, 500), max_size=40),
    n_models=st.integers(1, 6),
    n_bytes=st.integers(1, 1000),
)
def test_chunks_keep_to_their_bounds(sizes, n_models, n_bytes):
    class Unread:
        evidence = recall = lambda self, *_: None

    scan = _Scan(Unread(), None, None, Batching(n_models, n_bytes))
    found = [model(f"m{number}", size) for number, size in enumerate(sizes)]
    chunks = [[row.found for row in chunk.rows] for chunk in scan._chunks(found)]
    assert [one for chunk in chunks for one in chunk] == found
    for chunk, following in zip_longest(chunks, chunks[1:]):
        total = sum(one.size for one in chunk)
        assert 1 <= len(chunk) <= n_models
        assert total <= n_bytes or len(chunk) == 1
        # None is closed before it has to be.
        assert following is None or len(chunk) == n_models or total + following[0].size > n_bytes


@pytest.mark.parametrize("wrong", [{"n_models": 0}, {"n_bytes": 0}])
def test_a_chunk_holds_something(wrong):
    with pytest.raises(ValueError, match=r"a chunk holds something, found Batching\("):
        Batching(**wrong)


def test_the_tally_is_told_after_each_entry(path, here):
    tallies = []
    done = scanned(path, models(40) + OTHERS, here, progress=tallies.append)
    assert [tally.found for tally in tallies] == list(range(1, len(done) + 1))
    assert tallies[-1] == Tally(found=44, audited=40, failed=1, skipped=3, n_bytes=40_000)
    with read_journal(path) as journal:
        assert journal.tally() == tallies[-1]
    scanned(path, models(40) + OTHERS, here, progress=tallies.append)
    assert tallies[-1] == Tally(found=44, audited=40, failed=1, skipped=3, reused=40, n_bytes=40_000)


# What goes wrong


BAD = {
    "segfault": "worker-killed(SIGSEGV)",
    "exit": "worker-killed(exit status 7)",
    "killed": "worker-killed(SIGKILL, as when memory runs out)",
    "swallow": "worker-killed(out of memory)",
    "hang": "worker-killed(4 s have passed)",
    "raise": "worker-failed(LookupError: no such thing)",
}


@pytest.mark.parametrize("batching", [Batching(1), Batching(7), Batching(200)])
def test_bad_models_cost_only_themselves(path, batching):
    """Strewn among good ones, whatever company they travel in."""
    found = models(60)
    for number, name in enumerate(BAD):
        found.insert(7 * number + 3, model(name))
    with open_engine("local", jobs=2, limits=LIMITS) as engine:
        done = scanned(path, found, engine, batching=batching)
    assert len(done) == len(found)
    problems = {one.found.identity: one.result["problem"] for one in done if one.result["status"] == "failed"}
    assert problems == BAD
    assert all(one.result == tasks.audited(one.found.location) for one in done if one.found.identity not in BAD)


def test_what_a_model_did_to_its_worker_is_tried_again_by_the_next_run(path, tmp_path):
    with open_engine("local", jobs=1, limits=LIMITS) as engine:
        scanned(path, [model("exit"), model("m")], engine, tasks.Noted(tmp_path))
        assert rows_of(path)[0][1]["problem"] == BAD["exit"]
        before = len((tmp_path / "exit").read_text()), len((tmp_path / "m").read_text())
        scanned(path, [model("exit"), model("m")], engine, tasks.Noted(tmp_path))
    assert len((tmp_path / "exit").read_text()) > before[0]
    assert len((tmp_path / "m").read_text()) == before[1]


@pytest.mark.parametrize(("deed", "tries"), [("exit", 3), ("raise", 2)])
def test_how_often_a_model_is_tried(path, tmp_path, deed, tries):
    """In company; then alone, once more if it may have been killed for what others did."""
    with open_engine("local", jobs=1, limits=LIMITS) as engine:
        scanned(path, [model("m"), model(deed)], engine, tasks.Noted(tmp_path))
    assert (tmp_path / deed).read_text() == "x" * tries
    assert (tmp_path / "m").read_text() == "xx"


class Murdered(Executor):
    """Answers that the worker was killed, for the first tries of each chunk."""

    def __init__(self, times):
        self.times, self.tries = times, Counter()

    def submit(self, fn, /, message):
        future = Future()
        self.tries[message] += 1
        killed = json.dumps({"failed": "worker-killed(SIGKILL)", "certain": False})
        future.set_result(killed if self.tries[message] <= self.times else reply(message))
        return future


def test_a_model_whose_worker_was_killed_for_others_is_not_blamed(path):
    done = scanned(path, models(30), Engine(Murdered(1), None, 2), batching=Batching(10))
    assert Counter(one.result["status"] for one in done) == {"audited": 30}


def test_a_model_that_survives_no_worker_is_blamed(path):
    executor = Murdered(99)
    done = scanned(path, models(30), Engine(executor, None, 2), batching=Batching(10))
    assert {one.result["problem"] for one in done} == {"worker-killed(SIGKILL)"}
    assert sorted(executor.tries.values()) == [1] * 3 + [2] * 30


class Choking(Executor):
    """Carries out chunks of some models, and takes too long for more; notes what it was given."""

    def __init__(self, most):
        self.most, self.sizes = most, []

    def submit(self, fn, /, message):
        future = Future()
        self.sizes.append(len(pickle.loads(message)[1]))
        late = json.dumps({"failed": "worker-killed(4 s have passed)", "certain": True})
        future.set_result(late if self.sizes[-1] > self.most else reply(message))
        return future


def test_chunks_become_smaller_where_they_take_too_long(path):
    """On a slow disk, say, where each would otherwise be tried in vain before its models are, one by one."""
    executor = Choking(10)
    done = scanned(path, models(3000), Engine(executor, None, 1), batching=Batching(64))
    assert Counter(one.result["status"] for one in done) == {"audited": 3000}
    lost = sum(size for size in executor.sizes if size > 10)
    assert lost < 3000 / 3


def test_chunks_grow_again_after_a_bad_model(path, here):
    executor = Choking(64)
    found = models(3000)
    found[100] = model("raise")
    scanned(path, found, Engine(executor, None, 1), batching=Batching(64))
    assert 32 <= min(size for size in executor.sizes[:-1] if size > 1) < 40
    assert executor.sizes.count(64) > 30


class Broken(Executor):
    def submit(self, fn, /, message):
        future = Future()
        future.set_exception(ConnectionError("a node is gone"))
        return future


def test_an_error_of_a_living_cluster_is_that_of_the_chunk(path):
    done = scanned(path, models(3), Engine(Broken(), None, 1))
    assert [one.result["problem"] for one in done] == ["worker-killed(ConnectionError)"] * 3


def test_an_engine_that_went_away(path, here):
    scanned(path, models(5), here, finish=False)
    with pytest.raises(
        EngineError, match=r"the engine went away \(ConnectionError\); what is done is kept: run the same"
    ):
        scanned(path, models(9), Engine(Broken(), None, 1, lambda: False))
    done = scanned(path, models(9), here)
    assert sum(one.reused for one in done) == 5


def test_a_task_that_will_never_have_results_ends_the_scan(path, here):
    with pytest.raises(EngineError, match="the scan cannot go on: the ring is gone"):
        scanned(path, [*models(5), model("refuse")], here)


def test_a_full_disk_ends_the_scan_and_keeps_what_is_done(path, here):
    with journal_of(path) as journal:
        running = run_scan(models(2000), tasks.behave, journal, here)
        for _ in range(200):
            next(running)
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages + 10}")
        with pytest.raises(JournalError, match="disk is full"):
            list(running)
    kept = {found.identity for found, _ in rows_of(path)}
    assert 200 < len(kept) < 2000
    done = scanned(path, models(2000), here)
    assert {one.found.identity for one in done if one.reused} == kept
    assert len(done) == 2000


def test_an_interrupt_leaves_a_journal_that_goes_on(path, here):
    def interrupted():
        yield from models(100)
        yield from OTHERS
        raise KeyboardInterrupt

    told = []
    with journal_of(path) as journal:
        running = run_scan(interrupted(), tasks.behave, journal, here, batching=Batching(10))
        with pytest.raises(KeyboardInterrupt):
            told.extend(one.found for one in running)
    assert told
    with read_journal(path) as journal:
        assert not journal.complete
        assert set(told) <= {row.found for row in journal.rows()}
    assert here.executor.flying == 0
    done = scanned(path, models(100) + OTHERS, here)
    assert len(done) == 104
    assert sum(one.reused for one in done) >= 60


def test_who_stops_listening_leaves_a_journal_too(path, here):
    with journal_of(path) as journal:
        running = run_scan(OTHERS + models(100), tasks.behave, journal, here, batching=Batching(10))
        first = [next(running) for _ in OTHERS]
        running.close()
        assert {row.found for row in journal.rows()} >= {one.found for one in first}
    assert here.executor.flying == 0


def test_what_only_the_journal_needs_is_not_told(path, here, tmp_path):
    data = tmp_path / "model.onnx_data"
    data.write_bytes(b"weights")
    task = partial(with_companion, data=str(data))
    for reused in (False, True):
        (done,) = scanned(path, [model("m")], here, task)
        assert (done.result, done.reused) == (tasks.audited("m"), reused)
    os.utime(data, ns=(1, 1))
    (done,) = scanned(path, [model("m")], here, task)
    assert not done.reused


def with_companion(locations, data):
    status = Path(data).stat()
    known = [data, status.st_size, status.st_mtime_ns, status.st_ino]
    return [tasks.audited(location) | {COMPANIONS: [known]} for location in locations]


@pytest.mark.parametrize(
    ("n_models", "n_workers", "converting", "size"),
    [(3, 2, False, 8), (600, 2, False, 50), (100_000, 4, False, 128), (100_000, 4, True, 8), (3, 2, True, 8)],
)
def test_chunks_suit_the_scan(n_models, n_workers, converting, size):
    assert Batching.suited(n_models, n_workers, converting=converting).n_models == size
