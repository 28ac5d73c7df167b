"""Every engine keeps the same promises, on clusters that are really there."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import Future, wait
from importlib.util import find_spec

import pytest

from onnxmark.errors import EngineError, MissingExtra
from onnxmark.registry.auditing import failed
from onnxmark.registry.engines import ENGINES, Limits, open_engine
from onnxmark.registry.engines.isolation import Reply, parse
from onnxmark.registry.engines.ray import RayExecutor
from onnxmark.registry.entries import Found, Outcome, Stamp
from onnxmark.registry.journal import open_journal
from onnxmark.registry.running import Batching, run_scan
from onnxmark.registry.terms import Terms
from tests.registry.engines import tasks

LIMITS = Limits(seconds=5.0, memory=1 << 30)
PACKAGES = {"local": None, "dask": "distributed", "ray": "ray"}
# Raised in the depths of a cluster that starts or ends; none of it is ours.
NOISE = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def engine_named(name):
    package = PACKAGES[name]
    absent = package is not None and find_spec(package) is None
    skip = pytest.mark.skipif(absent, reason=f"{package} is not installed")
    return pytest.param(name, marks=[skip, *NOISE])


@pytest.fixture(scope="module", params=[engine_named(name) for name in ENGINES])
def engine(request):
    address = request.param if request.param == "local" else f"{request.param}://local"
    with open_engine(address, jobs=2, limits=LIMITS) as engine:
        yield engine


def replies(engine, *chunks, task=tasks.behave):
    return [parse(future.result(60)) for future in [engine.submit(task, chunk) for chunk in chunks]]


def test_there_is_a_row_for_every_engine():
    assert set(PACKAGES) == set(ENGINES)


def test_chunks_get_their_results(engine):
    chunks = [[f"/r/{chunk}-{number}" for number in range(5)] for chunk in range(20)]
    assert replies(engine, *chunks) == [Reply(tuple(tasks.behave(chunk))) for chunk in chunks]


def test_it_runs_as_much_at_once_as_it_says(engine, tmp_path):
    assert engine.capacity == 2
    found = replies(engine, *[[str(tmp_path)]] * 8, task=tasks.meeting)
    assert len({reply.results[0]["pid"] for reply in found}) == 2


def test_bad_models_cost_only_themselves(engine):
    deeds = {
        "segfault": Reply(None, "worker-killed(SIGSEGV)", certain=False),
        "killed": Reply(None, "worker-killed(SIGKILL, as when memory runs out)", certain=False),
        "swallow": Reply(None, "worker-killed(out of memory)", certain=True),
        "hang": Reply(None, "worker-killed(5 s have passed)", certain=True),
        "raise": Reply(None, "worker-failed(LookupError: no such thing)", certain=True),
    }
    chunks = [[name] for deed in deeds for name in (deed, f"after-{deed}")]
    expected = [reply for deed, bad in deeds.items() for reply in (bad, Reply((tasks.audited(f"after-{deed}"),)))]
    assert replies(engine, *chunks) == expected


def test_the_same_chunk_is_run_again_when_it_is_asked_again(engine, tmp_path):
    """A cluster may remember what a pure function gave."""
    for _ in range(2):
        replies(engine, ["m"], task=tasks.Noted(tmp_path))
    assert (tmp_path / "m").read_text() == "xx"


def test_a_task_that_will_never_have_results(engine):
    with pytest.raises(EngineError, match="the scan cannot go on: the ring is gone"):
        replies(engine, ["refuse"])


def test_a_scan_leaves_the_same_journal_on_every_engine(engine, tmp_path):
    found = [
        Found(name, "plain", f"/r/{name}", Outcome.MODEL, 10, Stamp(10, 1, 1, 1))
        for name in ("a", "exit", "b", "swallow", *(f"m{number}" for number in range(30)))
    ]
    with open_journal(tmp_path / "scan.sqlite", Terms(("k",))) as journal:
        journal.begin(["/r"])
        list(run_scan(found, tasks.behave, journal, engine, batching=Batching(5)))
        rows = {row.found: row.result for row in journal.rows()}
    expected = {one: tasks.audited(one.identity) for one in found}
    expected[found[1]] = failed("worker-killed(exit status 7)")
    expected[found[3]] = failed("worker-killed(out of memory)")
    assert rows == expected


def test_an_engine_is_alive_while_it_is_open(engine):
    assert engine.alive()


def test_a_future_can_be_waited_for_with_others(engine):
    futures = [engine.submit(tasks.behave, ["m"]) for _ in range(3)]
    done, left = wait(futures, timeout=60)
    assert (len(done), len(left)) == (3, 0)
    assert all(isinstance(future, Future) for future in futures)


@pytest.mark.parametrize("name", [engine_named(name) for name in ENGINES if name != "ray"])
def test_leaving_early_does_not_wait_for_what_hangs(name):
    address = name if name == "local" else f"{name}://local"
    with open_engine(address, jobs=1, limits=Limits(seconds=300.0)) as engine:
        replies(engine, ["m"])
        futures = [engine.submit(tasks.behave, ["hang"]) for _ in range(3)]
        start = time.monotonic()
    assert time.monotonic() - start < 30
    assert all(future.done() for future in futures)


@pytest.mark.parametrize(
    "address", ["", "local://", "local://x", "dask", "dask://", "spark://local", "ray", "Local", "dask:/local"]
)
def test_there_is_no_such_engine(address):
    with pytest.raises(EngineError, match=r"there is no engine '.*'; there are local, dask://HOST:PORT"):
        open_engine(address, jobs=1)


def test_there_is_at_least_one_worker():
    with pytest.raises(ValueError, match="a scan takes at least one worker, found 0"):
        open_engine("local", jobs=0)


@pytest.mark.parametrize(
    ("address", "package", "message"),
    [
        ("dask://local", "distributed", r"dask://local needs Dask \(distributed\).*pip install 'onnxmark\[dask\]'"),
        ("ray://local", "ray", r"ray://local needs Ray.*pip install 'onnxmark\[ray\]'"),
    ],
)
def test_a_missing_package_is_named_with_its_cure(address, package, message, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=message), open_engine(address, jobs=1):
        pass


def test_no_cluster_is_imported_before_one_is_asked_for():
    program = "import sys, onnxmark.registry.engines as e; print({'distributed', 'dask', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "set()"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("name", [engine_named("dask")])
def test_nobody_listens(name, monkeypatch):
    monkeypatch.setattr("onnxmark.registry.engines.dask._PATIENCE", 1)
    address = f"{name}://127.0.0.1:{free_port()}"
    with (
        pytest.raises(EngineError, match=rf"{address} cannot be reached \(.*\); start") as caught,
        open_engine(address, jobs=1),
    ):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [engine_named("dask")])
def test_a_cluster_that_somebody_else_started(name, monkeypatch):
    """A scheduler and its workers, reached by their address; a worker that is killed costs nothing."""
    from distributed import LocalCluster

    monkeypatch.setattr("onnxmark.registry.engines.dask._PATIENCE", 3)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "memory_limit": 0}
    with (
        LocalCluster(**options) as cluster,
        open_engine(cluster.scheduler_address.replace("tcp", name), jobs=1, limits=LIMITS) as engine,
    ):
        assert engine.capacity == 2
        futures = [engine.submit(tasks.slowly, [f"{chunk}-{n}" for n in range(5)]) for chunk in range(8)]
        os.kill(cluster.workers[0].pid, 9)
        results = [parse(future.result(60)).results for future in futures]
        assert [result[0]["name"] for result in results] == [f"{chunk}-0" for chunk in range(8)]
        cluster.close()
        late = engine.submit(tasks.behave, ["m"])
        wait([late], timeout=60)
        assert late.cancelled() or late.exception(0) is not None
        assert not engine.alive()


class TestRayExecutor:
    """The adapter, without a cluster: it has few promises and keeps them."""

    class Reference:
        def __init__(self, kept):
            self.kept = kept

        def future(self):
            return self.kept

    def executor(self, futures, cancelled):
        class Remote:
            @staticmethod
            def remote(fn, args, kwargs):
                futures.append(Future())
                return TestRayExecutor.Reference(futures[-1])

        return RayExecutor(Remote, cancelled.append)

    def test_what_has_ended_is_forgotten(self):
        futures, cancelled = [], []
        executor = self.executor(futures, cancelled)
        assert executor.submit(print, "x") is futures[0]
        futures[0].set_result(3)
        executor.shutdown(cancel_futures=True)
        assert cancelled == []

    def test_what_runs_is_cancelled_when_that_is_wanted(self):
        futures, cancelled = [], []
        executor = self.executor(futures, cancelled)
        executor.submit(print, "x")
        executor.shutdown(wait=False)
        assert cancelled == []
        executor.shutdown(wait=False, cancel_futures=True)
        assert [reference.kept for reference in cancelled] == futures
