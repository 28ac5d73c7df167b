"""An evaluation that checks itself: decoders that know too much or nothing are told, sound ones are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxmark.evaluation import evaluate, parse_plan
from onnxmark.evaluation.cells import Cell, Kind
from onnxmark.evaluation.checking import broken, limits
from onnxmark.evaluation.concluding import Book
from tests.evaluation import broken as schemes
from tests.evaluation import toy
from tests.evaluation.test_concluding import complete, reading

PLAN = parse_plan(toy.TOML)
PLAN_WITH_NOISE = parse_plan(toy.TOML + toy.NOISE)
SMALL = parse_plan(toy.HEAD + toy.SCHEMES.replace("closed-form", "") + toy.NOISE)


def doubts(records, scheme=0):
    return list(broken(Book(PLAN, records), scheme))


def with_readings(readings):
    """Records in which unmarked networks were read so."""
    records = complete(PLAN)
    half = len(readings) // 2
    for network, part in enumerate((readings[:half], readings[half:])):
        records[Cell(Kind.LOOK, network).name]["readings"] = part
    return records


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        (schemes.leaking, ["reads 0 of 96 symbols wrong", "found a mark 4 times in 2 networks that have none"]),
        (schemes.stuck, ["reads one payload with all keys in all unmarked networks"]),
    ],
    ids=["leaking", "stuck"],
)
def test_a_broken_decoder_is_caught(scheme, told):
    document = evaluate(SMALL, toy.laboratory, schemes=scheme)
    full, code = document["schemes"]
    assert len(full["doubts"]) == len(told)
    for sentence, words in zip(full["doubts"], told, strict=True):
        assert words in sentence
        assert sentence.startswith("full: ")
        assert sentence in document["limits"]
    assert code["doubts"] == []


def test_a_scheme_that_crashes_harms_no_other():
    document = evaluate(SMALL, toy.laboratory, schemes=schemes.crashing)
    full, code = document["schemes"]
    assert full["problem"] == (
        "IndexError: list index out of range; this is a fault of the scheme, attack or laboratory"
    )
    assert (code["problem"], code["robustness"][0]["points"][0]["false_negatives"]) == (None, 0)


def test_sound_decoders_raise_no_doubts():
    """Some hundred of them, drawn: five deviations are reached by one in two million."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = rng.binomial(24, 0.5, 4)
        found = [reading(0, place, n_errors=int(count)) for place, count in enumerate(counts)]
        assert doubts(with_readings(found)) == []


@pytest.mark.parametrize("n_errors", [23, 73])
def test_five_deviations_are_the_bound(n_errors):
    """Of 96 symbols 48 are wrong by chance, with a deviation of 4.9."""
    parts = [n_errors // 4 + (place < n_errors % 4) for place in range(4)]
    told = doubts(with_readings([reading(0, place, n_errors=part) for place, part in enumerate(parts)]))
    assert len(told) == 1
    closer = 24 if n_errors < 48 else 72
    parts = [closer // 4] * 4
    assert doubts(with_readings([reading(0, place, n_errors=part) for place, part in enumerate(parts)])) == []


def test_what_is_not_read_says_nothing_against_a_decoder():
    assert doubts(with_readings([reading(0, place, n_errors=None) for place in range(4)])) == []


def test_one_payload_from_few_short_keys_may_be_chance():
    def same(n_bits, count):
        found = [
            replaced(reading(0, place, n_errors=n_bits // 2, n_symbols=n_bits), "01" * (n_bits // 2))
            for place in range(count)
        ]
        return doubts(with_readings(found))

    assert same(10, 4) == []
    assert len(same(24, 4)) == 1
    assert same(24, 2) == []


def replaced(record, decoded):
    return {**record, "decoded": decoded}


def test_false_positives_are_told():
    found = [reading(0, place, detected=place == 1) for place in range(4)]
    assert doubts(with_readings(found)) == [
        "full: the detector found a mark 1 times in 2 networks that have none, which happens by chance less often than "
        "1e-06 each time."
    ]


def said(plan, records=None, n_training=600):
    plan = replace(plan, task=replace(plan.task, n_training=n_training))
    return list(limits(Book(plan, complete(plan) if records is None else records), toy.laboratory(plan)))


def test_the_ten_times_rule_is_told_where_it_is_violated_only():
    rule = [each for each in said(PLAN) if "ten times" in each]
    assert rule == [
        f"The standard asks for ten times as many data as parameters: {name} has 6,080 parameters and would take "
        "60,800 images; there are 600."
        for name in ("one", "other")
    ]
    assert [each for each in said(PLAN, n_training=60_800) if "ten times" in each] == []
    assert len([each for each in said(PLAN, n_training=60_799) if "ten times" in each]) == 2


def test_more_epochs_than_the_standard_has_are_told():
    plan = parse_plan(toy.TOML + '\n[[modifications]]\nname = "fine-tuning"\nvalues = [2, 3, 5]\n')
    assert "Fine tuning of 3, 5 epochs is more than the standard has for networks trained for 4." in said(plan)


def test_marks_that_could_not_all_be_embedded_are_told():
    records = complete(PLAN)
    records[Cell(Kind.EMBED, 0, 0, 1).name] = {"problem": "no room"}
    told = [each for each in said(PLAN, records) if "could not be embedded" in each]
    assert told == ["full: 1 of 4 marks could not be embedded, and those networks are in no figure: no room."]


def test_a_plan_without_modifications_says_nothing_of_robustness():
    assert "No modification was carried out: nothing is said of robustness." in said(replace(PLAN, modifications=()))
    assert not any("nothing is said of robustness" in each for each in said(PLAN))


@pytest.mark.parametrize(("settings", "told"), [("", True), ('\nsettings = { student = "other" }', False)])
def test_students_of_their_teachers_shape_are_told(settings, told):
    plan = parse_plan(f'{toy.TOML}\n[[modifications]]\nname = "distillation"\nvalues = [1]{settings}\n')
    assert any("teacher's architecture, channel by channel" in each for each in said(plan)) is told
    assert not any("teacher's architecture" in each for each in said(PLAN_WITH_NOISE))


def test_thieves_that_train_are_told_of_where_there_are_any():
    assert any("owner's own images" in each for each in said(PLAN))
    assert not any("owner's own images" in each for each in said(PLAN_WITH_NOISE))


def test_the_way_of_transfer_learning_is_told():
    row = '\n[[modifications]]\nname = "transfer"\nvalues = [1]\nsettings = { elsewhere = "another" }\n'
    assert any("to another task and back" in each for each in said(parse_plan(toy.TOML + row)))
    assert not any("to another task and back" in each for each in said(PLAN_WITH_NOISE))


def test_a_decoder_of_many_symbols_guesses_more_of_them_wrong():
    """Of ten classes nine are wrong: 86 of 96 symbols are what chance gives, and half of them are too few."""
    parts = {86: (22, 22, 21, 21), 48: (12, 12, 12, 12), 68: (17, 17, 17, 17)}
    told = {
        total: doubts(with_readings([{**reading(0, k, n_errors=part), "chance": 0.9} for k, part in enumerate(counts)]))
        for total, counts in parts.items()
    }
    assert told[86] == []
    assert "reads 48 of 96 symbols wrong, and 90% of them would be by chance" in told[48][0]
    assert len(told[68]) == 1
