"""Cells: whatever a model does to its worker is an answer, and harms nobody else."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from onnxmark.errors import EngineError
from onnxmark.registry.engines import cell, worker
from onnxmark.registry.engines.cell import Cell, Limits
from onnxmark.registry.engines.isolation import Cells, Reply, message, parse
from tests.registry.engines import tasks

LIMITS = Limits(seconds=20.0, memory=1 << 30)


@pytest.fixture
def cells():
    cells = Cells(LIMITS)
    yield cells
    cells.close()


def asked(cells, *locations, task=tasks.behave):
    return parse(cells.ask(message(task, locations)))


def is_there(pid):
    """Whether a process is running, or a thread of it is; one that has ended and waits to be asked how is not."""
    try:
        ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return not ended or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except FileNotFoundError:
        return False


def gone_within(seconds, pid):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not is_there(pid):
            return True
        time.sleep(0.01)
    return False


def test_results_come_in_the_order_of_the_models(cells):
    names = [f"/r/m{number}" for number in range(20)]
    assert asked(cells, *names) == Reply(tuple(tasks.behave(names)))


def test_a_worker_serves_one_task_after_the_other(cells):
    pids = {asked(cells, "m", task=tasks.environment).results[0]["pid"] for _ in range(5)}
    assert len(pids) == 1
    assert pids != {os.getpid()}


@pytest.mark.parametrize(
    ("deed", "reason", "certain"),
    [
        ("segfault", "worker-killed(SIGSEGV)", False),
        ("exit", "worker-killed(exit status 7)", False),
        ("leave", "worker-killed(exit status 3)", False),
        ("killed", "worker-killed(SIGKILL, as when memory runs out)", False),
        ("real-time", f"worker-killed(signal {signal.SIGRTMIN + 3})", False),
        ("swallow", "worker-killed(out of memory)", True),
        ("raise", "worker-failed(LookupError: no such thing)", True),
    ],
)
def test_what_a_model_does_to_its_worker_is_told(cells, deed, reason, certain):
    assert asked(cells, "m", deed) == Reply(None, reason, certain)
    # And the next one is served as if nothing had happened.
    assert asked(cells, "m").results == (tasks.audited("m"),)


@pytest.mark.parametrize("deed", ["hang", "stop"])
def test_a_worker_that_takes_too_long(deed):
    cells = Cells(Limits(seconds=0.5, memory=1 << 30))
    start = time.monotonic()
    assert asked(cells, deed) == Reply(None, "worker-killed(0.5 s have passed)", certain=True)
    assert 0.5 < time.monotonic() - start < 10
    assert asked(cells, "m").results is not None
    cells.close()


@pytest.mark.parametrize("deed", ["chatter", "interrupted"])
def test_what_harms_no_worker(cells, deed, capfd):
    assert asked(cells, deed, "m").results == (tasks.audited(deed), tasks.audited("m"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (tasks.too_few, "worker-failed(1 results for 2 models)"),
        (tasks.not_json, "worker-failed(ValueError: Out of range float values are not JSON compliant)"),
    ],
)
def test_a_task_that_gives_what_is_no_result(cells, task, reason):
    reply = asked(cells, "a", "b", task=task)
    assert (reply.results, reply.certain) == (None, True)
    assert reply.reason.startswith(reason[:-1])


def test_a_task_that_says_that_it_will_never_have_results(cells):
    with pytest.raises(EngineError, match="the scan cannot go on: the ring is gone"):
        asked(cells, "refuse")


def test_a_task_that_cannot_be_found_where_it_is_run(cells):
    """A function of a script, say, which the worker does not import: no model is to blame."""
    text = cells.ask(message(tasks.behave, ["m"]).replace(b"behave", b"belong"))
    with pytest.raises(EngineError, match="a worker does not find the task: Can't get attribute 'belong' on <module"):
        parse(text)


def test_names_that_are_no_unicode_travel(cells):
    assert asked(cells, "/r/m\udcff\n\0").results == (tasks.audited("m\udcff\n\0"),)


def test_a_worker_takes_one_thread_and_no_more_than_its_memory(cells, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")
    (result,) = asked(cells, "m", task=tasks.environment).results
    assert set(result["threads"].values()) == {"1"}
    assert {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"} <= set(result["threads"])
    assert (result["memory"], result["core"]) == (LIMITS.memory, 0)
    # An interrupt typed at our terminal does not reach it.
    assert result["session"] == result["pid"]


def test_a_worker_without_a_limit_of_memory():
    cells = Cells(Limits(memory=None))
    (result,) = asked(cells, "m", task=tasks.environment).results
    assert result["memory"] == -1
    cells.close()


def test_a_worker_is_the_first_that_a_machine_without_memory_kills(cells):
    (result,) = asked(cells, "m", task=tasks.environment).results
    assert Path(f"/proc/{result['pid']}/oom_score_adj").read_text().strip() == "1000"


def test_an_idle_worker_that_was_killed_is_replaced(cells):
    (result,) = asked(cells, "m", task=tasks.environment).results
    os.kill(result["pid"], signal.SIGKILL)
    assert gone_within(30, result["pid"])
    assert asked(cells, "m").results is not None


def test_a_worker_that_nobody_asks_leaves(monkeypatch):
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(worker, "IDLE", 0.05)
    monkeypatch.setattr(worker, "_settle", lambda memory: None)
    monkeypatch.setattr(worker, "_die_with_parent", lambda *_: None)
    with ours:
        serving = threading.Thread(target=worker.serve, args=(theirs.detach(), 0, "no-room"))
        serving.start()
        serving.join(5)
        assert not serving.is_alive()


def test_closing_ends_workers_whatever_they_do():
    cells = Cells(Limits(seconds=60.0))
    with ThreadPoolExecutor(2) as threads:
        (result,) = asked(cells, "m", task=tasks.environment).results
        waiting = threads.submit(asked, cells, "hang")
        while not cells._busy:
            time.sleep(0.01)
        start = time.monotonic()
        cells.close()
        assert waiting.result(60).results is None
        assert time.monotonic() - start < 30
    assert gone_within(30, result["pid"])


@pytest.mark.parametrize("deed", ["m", "hang"])
def test_no_worker_outlives_the_scan(deed, tmp_path):
    """The coordinator is killed with its workers idle, and in the middle of a task that never ends."""
    program = f"""
import threading, time
from onnxmark.registry.engines.cell import Limits
from onnxmark.registry.engines.isolation import Cells, message, parse
from tests.registry.engines import tasks
cells = Cells(Limits())
print(parse(cells.ask(message(tasks.environment, ["m"]))).results[0]["pid"], flush=True)
cells.ask(message(tasks.behave, [{deed!r}]))
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=-1, text=True) as coordinator:
        pid = int(coordinator.stdout.readline())
        time.sleep(0.2)
        assert is_there(pid)
        coordinator.kill()
        assert gone_within(30, pid)


def spawned(path):
    """The program that a task started, and a temporary file of it, once it has."""
    for _ in range(1000):
        if path.exists():
            pid, name = path.read_text().split()
            return int(pid), Path(name)
        time.sleep(0.01)
    raise AssertionError("the task has not begun")


def test_what_a_worker_has_started_ends_with_it(tmp_path):
    """Too slow: the program it waits for is ended too, and what it has written is removed."""
    cells, path = Cells(Limits(seconds=2.0)), tmp_path / "m"
    reply = asked(cells, str(path), task=tasks.spawning)
    assert reply == Reply(None, "worker-killed(2 s have passed)", certain=True)
    pid, file = spawned(path)
    assert gone_within(30, pid)
    assert not file.exists()
    assert not file.is_relative_to(tmp_path)
    cells.close()


def test_what_a_worker_has_started_ends_with_the_coordinator(tmp_path):
    path = tmp_path / "m"
    program = f"""
from onnxmark.registry.engines.cell import Limits
from onnxmark.registry.engines.isolation import Cells, message
from tests.registry.engines import tasks
Cells(Limits()).ask(message(tasks.spawning, [{str(path)!r}]))
"""
    with subprocess.Popen([sys.executable, "-c", program]) as coordinator:
        pid, file = spawned(path)
        assert is_there(pid)
        coordinator.kill()
        assert gone_within(30, pid)
        assert not file.exists()


def test_a_worker_that_cannot_start_says_why():
    with pytest.raises(
        EngineError, match=r"a worker does not start \(.*\); see that .* within the memory limit of 4096"
    ):
        asked(Cells(Limits(memory=4096)), "m")


def test_a_program_that_cannot_be_run(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/dev/null")
    with pytest.raises(EngineError, match=r"a worker does not start \(.*Permission denied: '/dev/null'\)"):
        asked(Cells(LIMITS), "m")


def test_a_worker_that_is_killed_while_it_starts_is_started_again(monkeypatch):
    start, started = cell._start, []

    def start_and_kill(*arguments):
        process = start(*arguments)
        if not started:
            process.kill()
        started.append(process)
        return process

    monkeypatch.setattr(cell, "_start", start_and_kill)
    cells = Cells(LIMITS)
    assert asked(cells, "m").results is not None
    assert len(started) == 2
    cells.close()


def test_a_worker_that_is_stuck_while_it_starts(monkeypatch):
    monkeypatch.setattr(cell, "_PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(cell, "_START_LIMIT", 0.2)
    with pytest.raises(EngineError, match=r"a worker does not start \(SIGKILL"):
        Cell(LIMITS)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '"results"', '{"results": 3}', '{"results": [3]}', "{}", "[" * 100_000, "\ufffd\0"],
)
def test_an_answer_that_cannot_be_read_is_a_failure(text):
    """A worker that was taken over by a model can say anything."""
    reply = parse(text)
    assert reply.results is None
    assert reply.reason.startswith("worker-failed(answer cannot be read: ")


def test_an_answer_in_pickle_is_never_unpickled(monkeypatch, tmp_path):
    """Were it, a model that takes over its worker would have the coordinator, too."""
    hostile = pickle.dumps(_Touch(str(tmp_path / "owned")))
    program = f"""
import sys, os
from multiprocessing.connection import Connection
line = Connection(int(sys.argv[1]))
line.send_bytes(b"ready")
line.recv_bytes()
line.send_bytes({hostile!r})
line.poll(None)
"""
    monkeypatch.setattr(cell, "_PROGRAM", program)
    cells = Cells(LIMITS)
    assert asked(cells, "m").results is None
    assert not (tmp_path / "owned").exists()
    pickle.loads(hostile)
    assert (tmp_path / "owned").exists()
    cells.close()


class _Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_many_threads_share_cells(cells):
    with ThreadPoolExecutor(3) as threads:
        names = [[f"m{number}"] for number in range(60)]
        replies = list(threads.map(lambda chunk: asked(cells, *chunk), names))
    assert [reply.results for reply in replies] == [tuple(tasks.behave(chunk)) for chunk in names]
    assert len(cells._idle) <= 3


@pytest.mark.parametrize("wrong", [{"seconds": 0.0}, {"seconds": -1.0}, {"seconds": float("nan")}, {"memory": 0}])
def test_limits_are_positive(wrong):
    with pytest.raises(ValueError, match=r"limits are positive, found Limits\("):
        Limits(**wrong)


def test_the_message_holds_the_name_of_the_task_and_not_the_task():
    assert pickle.loads(message(tasks.behave, ["a"])) == (tasks.behave, ("a",))
    assert len(message(tasks.behave, ["a"])) < 100


def test_what_a_worker_answers_is_json():
    assert json.loads(worker.reply(message(tasks.behave, ["a"]))) == {"results": [tasks.audited("a")]}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_plain_pool_would_lose_the_others():
    """The reason for all this: one of ten tasks kills its worker, and the pool gives up tasks that harmed nobody."""
    names = ["m0", "m1", "m2", "killed", *["hang"] * 6]
    with ProcessPoolExecutor(2) as pool:
        # Those that come after are at work for as long as it takes, or wait for their turn.
        futures = [pool.submit(tasks.behave, [name]) for name in names]
        lost = [number for number, future in enumerate(futures) if future.exception() is not None]
    assert all(isinstance(futures[number].exception(), BrokenProcessPool) for number in lost)
    assert lost == [3, 4, 5, 6, 7, 8, 9]
    cells = Cells(LIMITS)
    replies = [asked(cells, "killed" if number == 3 else f"m{number}") for number in range(10)]
    assert [number for number, reply in enumerate(replies) if reply.results is None] == [3]
    cells.close()
