"""Dry runs: counts against the cells themselves, durations against the steps they are made of."""

from __future__ import annotations

import os
from dataclasses import fields, replace

import pytest

from onnxmark.audit import built_in
from onnxmark.errors import LaboratoryError
from onnxmark.evaluation import estimate, evaluate, parse_plan
from onnxmark.evaluation.cells import Cell, Kind, cells_of
from onnxmark.evaluation.estimating import rehearsed
from onnxmark.evaluation.loads import Loads, Steps
from tests.evaluation import broken, toy

PLAN = parse_plan(toy.TOML + toy.MODIFICATIONS)
TRAINED = parse_plan(toy.TOML.replace('"fine-tuning"', '"training"') + toy.MODIFICATIONS)
ONE_EPOCH = 600 // 20


def load(kind, plan=PLAN, **about):
    return Loads(plan, 600, (1.0, 2.5), (1.0, 1.5)).load(Cell(kind, 0, **about))


def test_trainings_take_epochs_of_batches():
    assert load(Kind.TRAIN) == Steps(batch=4 * ONE_EPOCH, export=1, score=1)


def test_marks_take_what_their_embedding_takes():
    assert load(Kind.EMBED, scheme=0, payload=0) == Steps(embed=1, score=1)
    assert load(Kind.EMBED, scheme=1, payload=0) == Steps(batch=2.5 * ONE_EPOCH, export=1, score=1)
    assert load(Kind.EMBED, TRAINED, scheme=1, payload=0) == Steps(batch=2.5 * 4 * ONE_EPOCH, export=1, score=1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (None, Steps()),
        ((0, 1), Steps(rewrite=1)),
        ((2, 0), Steps(batch=ONE_EPOCH, export=1)),
        ((3, 0), Steps(batch=1.4 * 2 * ONE_EPOCH, export=1)),
    ],
    ids=["as it is", "noise", "fine-tuning", "distillation"],
)
def test_looks_take_the_modification_a_score_and_a_reading_a_key(change, expected):
    assert load(Kind.LOOK, scheme=0, payload=0, change=change) == expected + Steps(score=1, read=1)
    assert load(Kind.LOOK, change=change) == expected + Steps(score=1, read=4)


def test_there_and_back_is_twice_the_way():
    row = '\n[[modifications]]\nname = "transfer"\nvalues = [3]\nsettings = { elsewhere = "another" }\n'
    found = load(Kind.LOOK, parse_plan(toy.TOML + row), scheme=0, payload=0, change=(0, 0))
    assert found == Steps(batch=2 * 3 * ONE_EPOCH, export=1, score=1, read=1)


def test_a_thief_takes_what_his_marks_take():
    assert load(Kind.LOOK, scheme=0, payload=0, change=(4, 0)) == Steps(embed=1, score=1, read=1)
    assert load(Kind.LOOK, scheme=1, payload=0, change=(4, 0)) == Steps(
        batch=1.5 * ONE_EPOCH, export=1, score=1, read=1
    )


def test_seconds_are_steps_times_their_durations():
    assert Steps(batch=10, export=2) @ Steps(batch=0.5, export=3, read=100) == 11
    assert Steps(batch=1, read=2) + Steps(batch=3) == Steps(batch=4, read=2)


def test_the_counts_are_those_of_the_run():
    found = estimate(PLAN, toy.laboratory, schemes=built_in)
    looks = [cell for cell in cells_of(PLAN) if cell.kind is Kind.LOOK]
    # 2 networks, 2 twins, 4 marks; 10 fine-tunings and 10 distillations; 4 + 2 networks overwritten by training.
    assert found.n_trainings == 2 + 2 + 4 + 10 + 10 + 6
    assert found.n_epochs == 2 * 4 + 2 + 4 + 10 + round(1.4 * 2 * 10) + 6
    assert found.n_modifications == sum(cell.change is not None for cell in looks)
    document = evaluate(replace(PLAN, modifications=PLAN.modifications[:1]), toy.laboratory)
    few = estimate(replace(PLAN, modifications=PLAN.modifications[:1]), toy.laboratory)
    assert few.n_detections == len(document["nnt"]["inferences"])


def test_what_a_laboratory_says_of_a_mark_counts():
    """Four marks that take three trainings instead of one are eight epochs more; the thief's two are four more."""
    harder = parse_plan(toy.TOML.replace('"fine-tuning"', '"fine-tuning"\nmeans = { effort = 3 }') + toy.MODIFICATIONS)
    assert estimate(harder, toy.laboratory).n_epochs == estimate(PLAN, toy.laboratory).n_epochs + 2 * 4 + 2 * 6


def test_more_at_a_time_take_less_until_there_is_nothing_to_share():
    one, two, many = (estimate(PLAN, toy.laboratory, jobs=jobs) for jobs in (1, 2, 100))
    assert two.seconds < 0.75 * one.seconds
    assert many.seconds > one.seconds / 12
    assert [each.jobs for each in (one, two, many)] == [1, 2, 100]


class Counting(toy.ToyLaboratory):
    """A batch takes as many seconds as the process has threads, or more than it can bear."""

    def rehearse(self, network, folder):
        if self.switched("dies"):
            os._exit(5)
        return replace(super().rehearse(network, folder), batch_seconds=float(os.environ["OMP_NUM_THREADS"]))


def counting(plan):
    return Counting(plan)


def test_steps_are_timed_where_the_work_will_be_done(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    n_batches = sum(Loads.of(PLAN, toy.laboratory(PLAN)).load(cell).batch for cell in cells_of(PLAN))
    found = estimate(PLAN, counting)
    assert n_batches < found.seconds < 2 * n_batches
    assert os.environ["OMP_NUM_THREADS"] == "64"


def test_a_rehearsal_that_dies_is_one_line(tmp_path):
    (tmp_path / "dies").touch()
    plan = parse_plan((toy.TOML + toy.NOISE).replace('name = "toy"', f'name = "toy"\npath = "{tmp_path}"'))
    with pytest.raises(LaboratoryError, match=r"^the rehearsal came to no end: its process died \(exit 5\)$"):
        estimate(plan, counting)


def test_every_step_is_rehearsed():
    found = rehearsed(PLAN, toy.laboratory(PLAN), built_in)
    assert (found.batch, found.export, found.score) == (0.002, 0.1, 0.01)
    assert all(0 < getattr(found, field.name) < 5 for field in fields(Steps))


def test_schemes_that_do_not_fit_are_left_out_of_the_mean():
    more = '\n[[schemes]]\nname = "asks"\nscheme = "ingrain"\n[[schemes]]\nname = "widths"\nscheme = "structural"\n'
    plan = parse_plan(toy.TOML + more)
    assert estimate(plan, toy.laboratory, schemes=built_in).seconds > 0
    assert estimate(PLAN, toy.laboratory, schemes=broken.crashing).seconds > 0


def test_mistakes_are_those_of_the_run():
    with pytest.raises(LaboratoryError, match="no architecture 'none'"):
        estimate(parse_plan(toy.TOML.replace('"one"', '"none"')), toy.laboratory)
    with pytest.raises(ValueError, match="at least one network is worked on at a time, not 0"):
        estimate(PLAN, toy.laboratory, jobs=0)
