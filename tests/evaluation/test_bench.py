"""Cells carried out in this process: what modifications do to files, what records say, what is left behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxmark.audit import built_in
from onnxmark.errors import AttackError, LaboratoryError, MissingExtra, ModelError, PluginError
from onnxmark.evaluation import MODEL, Modification, parse_plan, roles_of
from onnxmark.evaluation import ROWS as EVERY_ROW
from onnxmark.evaluation.bench import Bench, attempted
from onnxmark.evaluation.cells import Cell, Change, Kind, cells_of
from onnxmark.evaluation.modifying import recipe_of
from onnxmark.verdict import Policy
from tests.evaluation import toy

PLAN = parse_plan(toy.TOML + toy.MODIFICATIONS)
ROWS = {row.name: row for row in EVERY_ROW}
CLOSED, TUNED = Cell(Kind.LOOK, 0, 0, 0), Cell(Kind.LOOK, 0, 1, 0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A bench on which all networks of one network number are made."""
    made = Bench.of(PLAN, toy.laboratory, built_in, tmp_path_factory.mktemp("room"))
    for cell in cells_of(PLAN):
        if cell.kind is not Kind.LOOK:
            assert "problem" not in made.carry_out(cell)
    return made


def modified(bench, cell, change, folder):
    """Weights before and after."""
    source = bench.room.subject(cell)
    before = toy.digest(source / MODEL)
    path = bench.modifier.modify(cell, change, source, folder)
    assert toy.digest(source / MODEL) == before
    return toy.read(source / MODEL), toy.read(path)


def moved(bench, cell, folder):
    folder.mkdir()
    before, after = modified(bench, cell, Change(ROWS["noise"], 0.3), folder)
    return {name: after[name] - before[name] for name in before}


def test_noise_is_in_units_of_each_layers_spread(bench, tmp_path):
    before = toy.read(bench.room.subject(CLOSED) / MODEL)
    for name, change in moved(bench, CLOSED, tmp_path / "a").items():
        assert change.std() == pytest.approx(0.3 * before[name].std(), rel=0.15)
        assert abs(change.mean()) < 5 * change.std() / np.sqrt(change.size)


def test_every_network_has_noise_of_its_own_and_always_the_same(bench, tmp_path):
    one, again = moved(bench, CLOSED, tmp_path / "a"), moved(bench, CLOSED, tmp_path / "b")
    other = moved(bench, replace(CLOSED, payload=1), tmp_path / "c")
    for name in one:
        assert np.array_equal(one[name], again[name])
        assert abs(np.corrcoef(one[name].ravel(), other[name].ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("name", ["pruning", "random-pruning"])
def test_pruning_takes_a_percentage_of_every_layer(bench, tmp_path, name):
    before, after = modified(bench, CLOSED, Change(ROWS[name], 30), tmp_path)
    for layer in before:
        gone = after[layer] == 0
        assert gone.sum() == round(0.3 * gone.size)
        assert np.array_equal(after[layer][~gone], before[layer][~gone])
        smallest = np.abs(before[layer][gone]).max() <= np.abs(before[layer][~gone]).min()
        assert smallest == (name == "pruning")


def test_quantizing_leaves_as_many_levels_as_bits_allow(bench, tmp_path):
    before, after = modified(bench, CLOSED, Change(ROWS["quantizing"], 4), tmp_path)
    for layer in before:
        assert len(np.unique(after[layer])) <= 16
        step = np.ptp(before[layer]) / 15
        assert np.abs(after[layer] - before[layer]).max() <= 0.5001 * step


@pytest.mark.parametrize(("cell", "marks"), [(CLOSED, 2), (CLOSED, 3), (TUNED, 2)])
def test_a_thief_writes_as_many_marks_as_he_is_told(bench, tmp_path, cell, marks):
    """Each of his keys, made for what he had before him then, is found in what he leaves."""
    path = bench.modifier.modify(cell, Change(ROWS["overwriting"], marks), bench.room.subject(cell), tmp_path)
    stages = [bench.room.subject(cell), *(tmp_path / str(mark) for mark in range(marks))]
    assert path == stages[-1] / MODEL
    last = bench.embedder.key(cell.scheme, stages[-2] / MODEL, ("thief", 0, 0, marks - 1), [])
    detector, decoder = roles_of(last, Policy(), built_in)
    assert detector.detect(path) is True
    assert decoder.decode(path).n_errors == 0
    assert detector.detect(stages[-2] / MODEL) is False
    seeds = {
        bench.embedder.key(cell.scheme, stage / MODEL, ("thief", 0, 0, mark), []).seed.reveal()
        for mark, stage in enumerate(stages[:-1])
    }
    assert len(seeds) == marks
    assert not (tmp_path / str(marks)).exists()


def test_a_thief_has_neither_the_owners_key_nor_another_thiefs(bench):
    model = bench.room.network(0) / MODEL
    keys = [
        bench.embedder.key(0, model, (0, 0), [], 0),
        bench.embedder.key(0, model, ("thief", 0, 0, 0), []),
        bench.embedder.key(0, model, ("thief", 0, 1, 0), []),
        bench.embedder.key(0, model, ("thief", 0, None, 0), []),
    ]
    assert len({key.seed.reveal() for key in keys}) == 4
    assert len({key.payload.tobytes() for key in keys}) == 4


def test_trained_modifications_take_their_epochs_and_rates(bench, tmp_path, monkeypatch):
    seen = []
    laboratory = bench.embedder.laboratory
    monkeypatch.setattr(laboratory, "fine_tune", lambda training, means, *_: seen.append((training, means)))
    monkeypatch.setattr(laboratory, "distil", lambda training, means, *_: seen.append((training, means)))
    source = bench.room.subject(TUNED)
    slow = replace(ROWS["fine-tuning"], settings=(("rate", 0.5),))
    away = replace(ROWS["transfer"], settings=(("elsewhere", "another"),))
    for row in (ROWS["fine-tuning"], slow, away, ROWS["distillation"]):
        bench.modifier.modify(TUNED, Change(row, 3), source, tmp_path)
    (tuned, _), (slowly, _), (moved, there), (taught, means) = seen
    assert (tuned.epochs, tuned.batch_size, tuned.rate) == (3, 20, PLAN.fine_tuning.rate)
    assert slowly.rate == 0.5
    assert (moved, there) == (tuned, (("elsewhere", "another"),))
    assert (taught.epochs, taught.rate, means) == (3, PLAN.training.rate, ())


@pytest.mark.parametrize(
    ("row", "value", "error", "message"),
    [
        (
            ROWS["pruning"],
            130,
            AttackError,
            r"modification 'pruning' at 130: the fraction to prune must be from 0 to 1",
        ),
        (ROWS["quantizing"], 0, AttackError, r"modification 'quantizing' at 0: bits must be a whole number"),
        (replace(ROWS["noise"], settings=(("x", 1),)), 1, AttackError, r"unexpected keyword argument 'x'"),
        (Modification(None, "rot", "rot", "", "", (1,), "rot"), 1, PluginError, r"no plugin 'rot' in onnxmark.attacks"),
    ],
)
def test_attacks_that_are_none_say_why(row, value, error, message):
    with pytest.raises(error, match=message):
        recipe_of(Change(row, value))


def test_a_look_reads_all_keys_and_keeps_no_network(bench):
    before = {path for path in bench.room.root.rglob("*") if path.is_file()}
    record = bench.carry_out(Cell(Kind.LOOK, 0, change=(0, 1)))
    assert [(each["scheme"], each["payload"]) for each in record["readings"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert not any(each["detected"] for each in record["readings"])
    assert {path for path in bench.room.root.rglob("*") if path.is_file()} == before


def test_keys_that_could_not_be_made_are_not_looked_for(bench):
    key = bench.room.key(0, 1, 0)
    kept = key.rename(key.with_suffix(".away"))
    record = bench.carry_out(Cell(Kind.LOOK, 0))
    kept.rename(key)
    assert [(each["scheme"], each["payload"]) for each in record["readings"]] == [(0, 0), (0, 1), (1, 1)]


def test_a_mark_embedded_again_is_the_same(bench):
    cell = Cell(Kind.EMBED, 0, 0, 1)
    before = toy.digest(bench.room.subject(cell) / MODEL)
    bench.carry_out(cell)
    assert toy.digest(bench.room.subject(cell) / MODEL) == before


@pytest.mark.parametrize("error", [LaboratoryError("no"), ModelError("no")])
def test_what_will_always_be_in_the_way_is_a_problem(error):
    assert attempted(lambda: raised(error)) == {"problem": "no"}


def test_what_nobody_expects_is_a_fault_with_its_name():
    assert attempted(lambda: raised(KeyError("x")))["problem"].startswith(
        "KeyError: 'x'; this is a fault of the scheme"
    )


@pytest.mark.parametrize("error", [MemoryError("no"), OSError(5, "no"), MissingExtra("torch", "torch", "this")])
def test_what_may_go_another_way_is_passed_on(error):
    with pytest.raises(type(error), match=r"no|torch"):
        attempted(lambda: raised(error))


def raised(error):
    raise error
