"""The time left is learnt from what was done, family by family."""

from __future__ import annotations

import pytest

from onnxmark.evaluation import parse_plan
from onnxmark.evaluation.cells import Kind, cells_of
from onnxmark.evaluation.loads import USUAL, Loads
from onnxmark.evaluation.pacing import Pace
from tests.evaluation import toy

PLAN = parse_plan(toy.TOML)
CELLS = cells_of(PLAN)
LOADS = Loads(PLAN, 600, (1.0, 1.0), (1.0, 1.0))


def usual(cell):
    return LOADS.load(cell) @ USUAL


def trains(cell):
    return LOADS.load(cell).batch > 0


def test_nothing_is_said_before_something_was_measured():
    pace = Pace(LOADS, CELLS)
    assert pace.seconds_left is None
    pace.settle(CELLS[0], None)
    assert pace.seconds_left is None


def test_what_takes_what_is_usual_leaves_what_is_usual():
    pace = Pace(LOADS, CELLS)
    for done, cell in enumerate(CELLS, start=1):
        pace.settle(cell, usual(cell))
        assert pace.seconds_left == pytest.approx(sum(map(usual, CELLS[done:])), abs=1e-6)


def test_slow_trainings_say_nothing_of_readings():
    pace = Pace(LOADS, CELLS)
    first, *rest = CELLS
    assert first.kind is Kind.TRAIN
    pace.settle(first, 7 * usual(first))
    expected = sum((7 if trains(cell) else 1) * usual(cell) for cell in rest)
    assert pace.seconds_left == pytest.approx(expected)


def test_a_modification_of_a_scheme_is_told_from_the_others():
    pace = Pace(LOADS, CELLS)
    looks = [cell for cell in CELLS if cell.kind is Kind.LOOK and cell.change is not None and not trains(cell)]
    slow, other = looks[0], next(cell for cell in looks if cell.change[0] != looks[0].change[0])
    kin = [
        cell for cell in CELLS if cell.kind is Kind.LOOK and cell.scheme == slow.scheme and cell.change == slow.change
    ]
    pace.settle(slow, 9 * usual(slow))
    pace.settle(other, usual(other))
    assert len(kin) > 1
    wide = (9 * usual(slow) + usual(other)) / (usual(slow) + usual(other))

    def factor(cell):
        if trains(cell):
            return 1.0
        for done, times in ((slow, 9.0), (other, 1.0)):
            if (
                (cell.kind, cell.scheme) == (done.kind, done.scheme)
                and cell.change
                and cell.change[0] == done.change[0]
            ):
                return times
        return wide

    rest = [cell for cell in CELLS if cell not in (slow, other)]
    assert pace.seconds_left == pytest.approx(sum(factor(cell) * usual(cell) for cell in rest))


def test_at_the_end_nothing_is_left():
    pace = Pace(LOADS, CELLS)
    for cell in CELLS:
        pace.settle(cell, 0.3)
    assert pace.seconds_left == pytest.approx(0, abs=1e-9)
