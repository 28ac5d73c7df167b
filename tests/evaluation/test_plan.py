"""The values that plans are made of, and what they refuse."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from onnxmark.evaluation import ROWS, STANDARD, Architecture, Modification, Training, parse_plan
from tests.evaluation import toy

PLAN = parse_plan(toy.TOML)


def test_a_plan_travels_to_workers():
    assert pickle.loads(pickle.dumps(PLAN)) == PLAN


def test_a_plan_does_not_change():
    with pytest.raises(FrozenInstanceError, match="seed"):
        PLAN.seed = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": 0}, "at least one network and one payload, not 0, 2"),
        ({"payloads": 0}, "at least one network and one payload, not 2, 0"),
        ({"schemes": ()}, "at least one architecture and one scheme"),
        ({"architectures": ()}, "at least one architecture and one scheme"),
        ({"modifications": (STANDARD[0], STANDARD[0])}, "two modifications are called alike among 'noise', 'noise'"),
        ({"modifications": (ROWS[-1],)}, r"transfer learning takes another task: settings = \{ elsewhere = "),
    ],
)
def test_plans_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAN, **change)


def test_trainings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="not 0 and 2"):
        Training(0, 2, 0.1)
    with pytest.raises(ValueError, match="not nan"):
        Training(1, 2, float("nan"))


def test_architectures_name_their_sizes():
    assert Architecture("wrn", (("n_blocks", 1), ("widening", 4))).words == "wrn (n_blocks 1, widening 4)"
    assert Architecture("lenet").words == "lenet"


def test_the_standard_table_is_that_of_the_standard():
    """Ids, parameters and ranges as far as they could be read."""
    assert [(each.id, each.parameter) for each in STANDARD] == [
        (0, "S"), (1, "P"), (2, "R"), (3, "B"), (4, "E"), (5, "E"), (6, "W"),
    ]  # fmt: skip
    ranges = {each.name: (min(each.values), max(each.values)) for each in STANDARD}
    assert ranges == {
        "noise": (0.1, 0.3),
        "pruning": (1, 90),
        "random-pruning": (1, 10),
        "quantizing": (2, 16),
        "fine-tuning": (0.25, 0.5),
        "distillation": (0.5, 1.0),
        "overwriting": (2, 4),
    }
    assert [each.name for each in STANDARD if each.trains] == ["fine-tuning", "distillation", "overwriting"]


def test_percentages_become_fractions_exactly():
    pruning = STANDARD[1]
    assert [pruning.strength(value) for value in (1, 10, 30, 70, 90)] == [0.01, 0.1, 0.3, 0.7, 0.9]
    assert type(STANDARD[3].strength(8)) is int


def test_values_beyond_the_standard_are_found():
    tuning = replace(STANDARD[4].counted(10), values=(3, 5, 6))
    assert tuning.excess(10) == (6,)
    assert STANDARD[4].counted(1).excess(1) == ()
    assert STANDARD[0].excess(10) == ()


def test_modifications_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="'noise' has no values"):
        replace(STANDARD[0], values=())
    with pytest.raises(ValueError, match="'rot' needs the name of an attack"):
        Modification(None, "rot", "rot", "", "", (1,))
