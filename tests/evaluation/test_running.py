"""Interrupted at any point, an evaluation goes on and ends where it would have ended."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onnxmark.evaluation import evaluate, parse_plan, reproducible
from onnxmark.evaluation.cells import cells_of
from onnxmark.evaluation.workers import Workers
from tests.evaluation import killed, toy

PLAN = parse_plan(killed.PLAN)
N_CELLS = len(cells_of(PLAN))
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The document of one worker, and the journal that it left; whatever follows works in parallel, too."""
    journal = tmp_path_factory.mktemp("whole") / "journal"
    return json.dumps(reproducible(evaluate(PLAN, toy.laboratory, journal=journal))), journal


def start(tmp_path, count):
    command = [sys.executable, "-m", "tests.evaluation.killed", tmp_path / "journal", tmp_path / "document", str(count)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True)


def n_cells(path):
    return path.read_bytes().count(b'"cell"') if path.exists() else 0


def interrupted(process, journal, count, number):
    """Wait for so many lines, then end the coordinator."""
    for _ in range(1200):
        if n_cells(journal) > count or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(number)
    process.wait(60)


@pytest.mark.parametrize(("number", "count"), [(signal.SIGKILL, 3), (signal.SIGINT, 11)], ids=["killed", "Ctrl-C"])
def test_a_run_that_was_ended_goes_on(tmp_path, uninterrupted, number, count):
    journal = tmp_path / "journal"
    with start(tmp_path, count) as process:
        interrupted(process, journal, count, number)
    left = n_cells(journal)
    assert count <= left < N_CELLS
    assert not (tmp_path / "document").exists()
    reused = []
    again = evaluate(PLAN, toy.laboratory, journal=journal, jobs=2, progress=lambda told: reused.append(told.n_reused))
    assert reused[0] <= left
    assert json.dumps(reproducible(again)) == uninterrupted[0]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["journal"]


def test_a_torn_journal_without_its_networks_goes_on(tmp_path, uninterrupted):
    """Half of the lines and a part of one; the folder of networks is gone, and what is needed of it is made again."""
    lines = uninterrupted[1].read_bytes().splitlines(keepends=True)
    journal = tmp_path / "journal"
    journal.write_bytes(b"".join(lines[:19]) + lines[19][:40])
    told = []
    again = evaluate(PLAN, toy.laboratory, journal=journal, progress=told.append)
    assert json.dumps(reproducible(again)) == uninterrupted[0]
    assert 0 < told[0].n_reused < 17
    assert n_cells(journal) == N_CELLS


def test_a_finished_journal_takes_no_worker_at_all(tmp_path, uninterrupted, monkeypatch):
    journal = tmp_path / "journal"
    shutil.copy(uninterrupted[1], journal)
    told = []
    monkeypatch.setattr(Workers, "start", None)
    again = evaluate(PLAN, toy.laboratory, journal=journal, progress=told.append)
    assert json.dumps(reproducible(again)) == uninterrupted[0]
    assert [(each.n_done, each.n_reused) for each in told] == [(N_CELLS, N_CELLS)]


def test_an_interrupt_in_this_process_is_passed_on(tmp_path):
    def interrupt(told):
        if told.n_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        evaluate(PLAN, toy.laboratory, journal=tmp_path / "journal", progress=interrupt)
    assert n_cells(tmp_path / "journal") == 2


def misbehaving(tmp_path, name):
    (tmp_path / "switches").mkdir()
    (tmp_path / "switches" / name).touch()
    head = toy.ONE.replace('name = "toy"', f'name = "toy"\npath = "{tmp_path / "switches"}"')
    scheme = '\n[[schemes]]\nname = "code"\nscheme = "constant-weight"\nembedding = "fine-tuning"\n'
    return parse_plan(head + scheme + '\n[[modifications]]\nname = "fine-tuning"\nvalues = [1]\n')


@pytest.mark.parametrize(
    ("name", "reason", "n_lacking"),
    [
        ("dies", "fine tuning 1: network 1: its process died (exit 9)", 1),
        # The mark, and whatever would have been looked at with it or for it.
        ("dies embedding", "marking network 1, code, payload 1: its process died (exit 9)", 5),
    ],
)
def test_what_the_machine_did_is_made_up_for_by_the_next_run(tmp_path, name, reason, n_lacking):
    plan, journal = misbehaving(tmp_path, name), tmp_path / "journal"
    first = evaluate(plan, toy.laboratory, journal=journal)
    assert first["status"] == "partial"
    assert first["limits"][0].startswith(f"{n_lacking} pieces of work are lacking; run the same command again")
    assert first["limits"][0].endswith(f"{reason}.")
    assert (tmp_path / "journal.work").is_dir()
    told = []
    second = evaluate(plan, toy.laboratory, journal=journal, progress=told.append)
    assert second["status"] == "complete"
    assert told[0].n_total - told[0].n_done == n_lacking
    assert not (tmp_path / "journal.work").exists()
    whole = evaluate(plan, toy.laboratory)
    assert json.dumps(reproducible(second)) == json.dumps(reproducible(whole))
