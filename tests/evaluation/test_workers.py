"""Workers: cells come back, deaths cost one cell, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from onnxmark.errors import LaboratoryError
from onnxmark.evaluation.cells import Cell, Kind
from onnxmark.evaluation.workers import Workers


class Doing:
    """Carries out cells by what their network's number says."""

    def __init__(self, note=None):
        self.count = 0
        if note is not None:
            Path(note).write_text(str(os.getpid()))

    def carry_out(self, cell):
        self.count += 1
        match cell.network:
            case 1:
                os._exit(7)
            case 2:
                raise MemoryError("no room")
            case 3:
                raise OSError(28, "No space left on device")
            case 4:
                raise LaboratoryError("closed")
            case 5:
                time.sleep(600)
        return {
            "count": self.count,
            "process": os.getpid(),
            "threads": [
                os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
            ],
        }


def closed():
    raise LaboratoryError("not today")


def cell(number):
    return Cell(Kind.TRAIN, number)


def outcome(workers, number):
    workers.start(cell(number))
    (found,) = workers.finished()
    assert found.cell == cell(number)
    return found


def test_a_worker_keeps_its_bench_and_computes_with_one_thread():
    before = dict(os.environ)
    with Workers(Doing, 1) as workers:
        first, second = outcome(workers, 0).record, outcome(workers, 0).record
    assert (first["count"], second["count"]) == (1, 2)
    assert first["process"] == second["process"] != os.getpid()
    assert first["threads"] == ["1", "1", "1"]
    assert dict(os.environ) == before


def test_a_death_costs_the_cell_it_had():
    with Workers(Doing, 1) as workers:
        assert outcome(workers, 1).failure == "its process died (exit 7)"
        assert outcome(workers, 0).record["count"] == 1


@pytest.mark.parametrize(
    ("number", "failure"), [(2, "MemoryError: no room"), (3, "OSError: [Errno 28] No space left on device")]
)
def test_what_the_machine_does_is_a_failure_and_not_a_result(number, failure):
    with Workers(Doing, 1) as workers:
        found = outcome(workers, number)
        assert (found.failure, found.record, found.refusal) == (failure, None, None)
        assert outcome(workers, 0).record["count"] == 2


def test_what_stands_in_every_cells_way_is_a_refusal():
    with Workers(Doing, 1) as workers:
        assert outcome(workers, 4).refusal == "closed"
    with Workers(closed, 1) as workers:
        assert outcome(workers, 0).refusal == "not today"


def test_several_work_at_a_time():
    with Workers(Doing, 2) as workers:
        workers.start(cell(5))
        assert workers.has_room
        workers.start(cell(0))
        assert not workers.has_room
        assert workers.n_busy == 2
        (found,) = workers.finished()
        assert found.cell == cell(0)
        assert workers.n_busy == 1


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def ends(process):
    for _ in range(100):
        if not alive(process):
            return True
        time.sleep(0.1)
    return False


def written(path):
    for _ in range(300):
        if path.is_file() and path.read_text():
            return int(path.read_text())
        time.sleep(0.1)
    raise TimeoutError(path)


def test_a_worker_ends_with_the_block_whatever_it_is_doing(tmp_path):
    with Workers(partial(Doing, tmp_path / "busy"), 1) as workers:
        workers.start(cell(5))
        busy = written(tmp_path / "busy")
        assert alive(busy)
        started = time.monotonic()
    # Not waited for: it would sleep for ten minutes.
    assert time.monotonic() - started < 60
    assert ends(busy)


def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    code = (
        "import sys, time\nfrom functools import partial\nfrom pathlib import Path\n"
        "from onnxmark.evaluation.workers import Workers\nfrom tests.evaluation.test_workers import Doing, cell\n"
        "if __name__ == '__main__':\n"
        "    with Workers(partial(Doing, Path(sys.argv[1])), 1) as workers:\n"
        "        workers.start(cell(5))\n        workers.finished()\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen([sys.executable, str(script), str(tmp_path / "busy")], env=environment) as parent:
        busy = written(tmp_path / "busy")
        parent.kill()
    assert ends(busy)


def test_there_is_at_least_one():
    with pytest.raises(ValueError, match="at least one worker, not 0"):
        Workers(Doing, 0)
