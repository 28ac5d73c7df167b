"""From records to tables: against counts by hand, and intervals by SciPy."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from onnxmark.evaluation import parse_plan
from onnxmark.evaluation.cells import Cell, Kind, cells_of, looked_for
from onnxmark.evaluation.concluding import Book, amount, cost, guessed_rate, imperceptibility, mean, rate, robustness
from tests.evaluation import toy

PLAN = parse_plan(toy.TOML + toy.NOISE)
SPENT = {"epochs": 2, "batches": 20, "seconds": 8.0, "memory_bytes": 1000}


def reading(scheme, payload, *, detected=False, n_errors=12, n_symbols=24):
    costs = {role: {"seconds": 0.5, "memory_bytes": 2000} for role in ("detection", "decoding")}
    about = {
        "scheme": scheme,
        "payload": payload,
        "n_symbols": n_symbols,
        "n_errors": n_errors,
        "decoded": None,
        "chance": 0.5,
    }
    return {**about, "detected": detected, **costs}


def complete(plan=PLAN):
    """Records of an evaluation in which marks are found where they are."""
    records = {}
    for cell in cells_of(plan):
        record = {"score": 0.9 - 0.1 * cell.network, "inference_seconds": 0.2}
        if cell.kind is Kind.LOOK:
            marked = cell.payload is not None
            record["readings"] = [
                reading(*pair, detected=marked, n_errors=0 if marked else 12) for pair in looked_for(plan, cell)
            ]
        else:
            record |= {"injection": dict(SPENT), "bits": 24}
        records[cell.name] = record
    return records


def point(records, scheme=0, row=0, place=0, plan=PLAN):
    return robustness(Book(plan, records), scheme)[row]["points"][place]


def test_nothing_wrong_is_nothing_counted():
    found = point(complete())
    assert found == {
        "value": None,
        "n_unmarked": 2,
        "n_marked": 4,
        "n_networks": 6,
        "false_positives": 0,
        "false_negatives": 0,
        "false_positive_rate": 0.0,
        "false_negative_rate": 0.0,
        "symbol_error_rate": {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 4},
        "unmarked_symbol_error_rate": {"mean": 0.5, "low": 0.5, "high": 0.5, "n": 2},
        "score": mean([0.9, 0.9, 0.8, 0.8]),
        "unmarked_score": mean([0.9, 0.8]),
        "n_failed": 0,
        "problems": [],
    }


def test_a_mark_that_is_not_detected_is_a_false_negative():
    records = complete()
    records[Cell(Kind.LOOK, 1, 0, 0).name]["readings"][0]["detected"] = False
    assert point(records)["false_negatives"] == 1
    assert point(records)["false_negative_rate"] == 1 / 6
    assert point(records, scheme=1)["false_negatives"] == 0


def test_an_unmarked_network_is_one_false_positive_however_many_keys_are_found_in_it():
    records = complete()
    for each in records[Cell(Kind.LOOK, 1).name]["readings"]:
        each["detected"] = each["scheme"] == 0
    assert point(records)["false_positives"] == 1
    assert point(records)["false_positive_rate"] == 1 / 6
    assert point(records, scheme=1)["false_positives"] == 0


def test_the_error_rate_of_an_unmarked_network_is_the_mean_over_its_keys():
    records = complete()
    first, second = records[Cell(Kind.LOOK, 0).name]["readings"][:2]
    first["n_errors"], second["n_errors"] = 6, 24
    assert point(records)["unmarked_symbol_error_rate"] == rate([(6 / 24 + 24 / 24) / 2, 0.5])


def test_what_is_not_read_counts_as_guessed():
    records = complete()
    records[Cell(Kind.LOOK, 0, 0, 0).name]["readings"][0]["n_errors"] = None
    assert point(records)["symbol_error_rate"] == rate([0.5, 0, 0, 0])


def test_networks_that_could_not_be_looked_at_are_in_no_rate():
    records = complete()
    records[Cell(Kind.LOOK, 0, 0, 0, change=(0, 0)).name] = {"problem": "no such layer"}
    records[Cell(Kind.LOOK, 1, 0, 1, change=(0, 0)).name]["readings"][0] = {
        "scheme": 0, "payload": 1, "problem": "cannot be read",
    }  # fmt: skip
    records[Cell(Kind.LOOK, 1, 0, 0, change=(0, 0)).name]["readings"][0]["detected"] = False
    found = point(records, row=1)
    assert (found["n_networks"], found["n_failed"], found["false_negatives"]) == (6, 2, 1)
    assert found["false_negative_rate"] == 1 / 4
    assert found["problems"] == ["cannot be read", "no such layer"]
    assert found["score"]["n"] == 3
    assert point(records)["n_failed"] == 0


def test_the_most_frequent_problems_are_told_first():
    records = complete()
    looks = [name for name in records if name.startswith("look") and name.endswith("/0/0")]
    for place, name in enumerate(looks):
        records[name] = {"problem": "often" if place % 2 else f"once {place}"}
    told = point(records, row=1)["problems"]
    assert told[0] == "often"
    assert len(told) == 3


def test_the_order_in_which_cells_came_does_not_matter():
    records = complete()
    shuffled = list(records.items())
    random.Random(0).shuffle(shuffled)
    one, other = Book(PLAN, records), Book(PLAN, dict(shuffled))
    assert [robustness(one, 0), imperceptibility(one, 1), cost(one, 0)] == [
        robustness(other, 0), imperceptibility(other, 1), cost(other, 0),
    ]  # fmt: skip


def test_marks_are_compared_in_pairs():
    """A network that is worse for its seed is worse with and without a mark: pairs take that out."""
    records = complete()
    for network, payload, score in ((0, 0, 0.88), (0, 1, 0.89), (1, 0, 0.79), (1, 1, 0.78)):
        records[Cell(Kind.EMBED, network, 0, payload).name]["score"] = score
    found = imperceptibility(Book(PLAN, records), 0)
    assert [cell["marked"] for cell in found["cells"]] == [0.88, 0.89, 0.79, 0.78]
    expected = stats.t.interval(0.95, 3, loc=-0.015, scale=stats.sem([-0.02, -0.01, -0.01, -0.02]))
    assert found["difference"]["mean"] == pytest.approx(-0.015)
    assert (found["difference"]["low"], found["difference"]["high"]) == pytest.approx(expected)


def test_a_tuned_mark_is_compared_with_the_tuned_twin():
    records = complete()
    for network in range(2):
        name = next(cell.name for cell in cells_of(PLAN) if cell.kind is Kind.TWIN and cell.network == network)
        records[name]["score"] = 0.95
    cells = imperceptibility(Book(PLAN, records), 1)["cells"]
    assert {cell["unmarked"] for cell in cells} == {0.95}
    assert {cell["unmarked"] for cell in imperceptibility(Book(PLAN, records), 0)["cells"]} == {0.9, 0.8}


def test_costs_are_normalised_by_epochs_and_batches():
    found = cost(Book(PLAN, complete()), 1)["injection"]
    means = {name: each if not isinstance(each, dict) else each["mean"] for name, each in found.items()}
    assert means == {
        "memory_bytes": 1000,
        "seconds_per_batch": pytest.approx(0.4),
        "seconds_per_epoch": 4.0,
        "batches_per_epoch": 10,
        "epochs": 2,
        "seconds": 8.0,
        "inference_seconds": pytest.approx(0.2),
        "unmarked_seconds_per_batch": pytest.approx(0.4),
        "unmarked_inference_seconds": pytest.approx(0.2),
    }


def test_reading_costs_are_those_of_marked_networks_as_they_are():
    records = complete()
    for cell in cells_of(PLAN):
        if cell.kind is Kind.LOOK and (cell.change is not None or cell.payload is None):
            for each in records[cell.name]["readings"]:
                each["detection"] = {"seconds": 99.0, "memory_bytes": 99}
    found = cost(Book(PLAN, records), 0)["detection"]
    assert found == {name: mean([value] * 4) for name, value in (("memory_bytes", 2000), ("seconds", 0.5))}


def test_what_is_not_there_yet_is_in_no_mean():
    records = {name: each for name, each in complete().items() if not name.startswith("look")}
    found = point(records)
    assert (found["n_failed"], found["symbol_error_rate"], found["false_positive_rate"]) == (6, None, None)
    assert imperceptibility(Book(PLAN, {}), 0) == {"cells": [], "unmarked": None, "marked": None, "difference": None}
    assert cost(Book(PLAN, {}), 0)["injection"]["seconds"] is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_means_and_limits_are_students(values):
    found = mean(values)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    scale = max(map(abs, values)) + 1e-300
    assert found["mean"] == pytest.approx(np.mean(values), abs=1e-9 * scale)
    assert found["low"] == pytest.approx(np.mean(values) - half, abs=1e-6 * scale)
    assert found["high"] == pytest.approx(np.mean(values) + half, abs=1e-6 * scale)
    assert found["n"] == len(values)


def test_a_single_value_has_no_limits_and_none_no_mean():
    assert mean([0.5]) == {"mean": 0.5, "low": None, "high": None, "n": 1}
    assert mean([None, 0.5, None]) == {"mean": 0.5, "low": None, "high": None, "n": 1}
    assert mean([]) is None
    assert mean([None]) is None


@given(st.data())
def test_counts_agree_with_a_recount(data):
    """Brute force over the definition: M(D + 1) networks, one verdict each."""
    plan = replace(PLAN, networks=data.draw(st.integers(1, 3)), payloads=data.draw(st.integers(1, 3)))
    records = complete(plan)
    for record in records.values():
        for each in record.get("readings", ()):
            each["detected"] = data.draw(st.booleans())
            each["n_errors"] = data.draw(st.integers(0, 24))
    positives = negatives = 0
    rates = []
    for network in range(plan.networks):
        own = [each for each in records[f"look/{network}/-/-/-"]["readings"] if each["scheme"] == 0]
        positives += max(each["detected"] for each in own)
        for payload in range(plan.payloads):
            (each,) = records[f"look/{network}/0/{payload}/-"]["readings"]
            negatives += not each["detected"]
            rates.append(each["n_errors"] / 24)
    found = point(records, plan=plan)
    total = plan.networks * (plan.payloads + 1)
    assert found["n_networks"] == total
    assert (found["false_positive_rate"], found["false_negative_rate"]) == (positives / total, negatives / total)
    assert found["symbol_error_rate"]["mean"] == pytest.approx(sum(rates) / len(rates))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_limits_of_rates_and_amounts_end_where_no_mean_can_be(values):
    free, held, held_below = mean(values), rate(values), amount(values)
    assert held == {**free, "low": max(free["low"], 0), "high": min(free["high"], 1)}
    assert held_below == {**free, "low": max(free["low"], 0)}


def test_limits_that_would_pass_what_is_possible_end_there():
    assert mean([0, 0, 0, 1])["low"] < 0
    assert mean([1, 1, 1, 0])["high"] > 1
    assert (rate([0, 0, 0, 1])["low"], rate([1, 1, 1, 0])["high"], amount([0, 0, 9])["low"]) == (0, 1, 0)


def test_limits_of_a_metric_that_is_a_share_end_at_one():
    records = complete()
    records[Cell(Kind.LOOK, 0, 0, 0).name]["score"] = 0.1
    free, share = (
        robustness(Book(PLAN, records, is_share=is_share), 0)[0]["points"][0]["score"] for is_share in (False, True)
    )
    assert free["high"] > 1
    assert share == {**free, "low": max(free["low"], 0), "high": 1}


def test_what_is_not_read_counts_as_what_guessing_gives():
    records = complete()
    for cell in cells_of(PLAN):
        for each in records[cell.name].get("readings", ()):
            each["chance"] = 0.9
    records[Cell(Kind.LOOK, 0, 0, 0).name]["readings"][0]["n_errors"] = None
    assert point(records)["symbol_error_rate"] == rate([0.9, 0, 0, 0])
    assert guessed_rate(Book(PLAN, records), 0) == pytest.approx(0.9)
    assert guessed_rate(Book(PLAN, complete()), 0) == 0.5
    assert guessed_rate(Book(PLAN, {}), 0) == 0.5
