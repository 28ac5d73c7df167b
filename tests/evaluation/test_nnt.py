"""The data that testers exchange: complete, consistent with the tables, and of the types' form."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest

from onnxmark.evaluation import parse_plan
from onnxmark.evaluation.cells import Cell, Kind
from onnxmark.evaluation.concluding import Book, robustness
from onnxmark.evaluation.drawing import payload_of
from onnxmark.evaluation.nnt import Payload, exchanged
from tests.evaluation import toy
from tests.evaluation.test_concluding import complete

PLAN = parse_plan(toy.TOML + toy.MODIFICATIONS)


def parts(records=None):
    book = Book(PLAN, complete(PLAN) if records is None else records)
    rows = {number: robustness(book, number) for number in range(len(PLAN.schemes))}
    return exchanged(book, toy.laboratory(PLAN).task, rows)


def test_payloads_are_texts_of_zeros_and_ones():
    found = parts()["payloads"]
    assert [each["id"] for each in found] == ["1 of 24 bits", "2 of 24 bits"]
    for number, each in enumerate(found):
        assert re.fullmatch("^[01]+$", each["payload"])
        assert each["payload"] == "".join(map(str, payload_of(PLAN, number, 24)))


@pytest.mark.parametrize("text", ["", "012", "0 1", "O1", "01\n"])
def test_nothing_else_is_a_payload(text):
    with pytest.raises(ValueError, match="a payload is a text of zeros and ones"):
        Payload("1", text)


def test_payloads_of_every_length_in_use_are_there():
    records = complete(PLAN)
    records[Cell(Kind.EMBED, 0, 1, 0).name]["bits"] = 8
    assert [each["id"] for each in parts(records)["payloads"]] == [
        "1 of 8 bits", "2 of 8 bits", "1 of 24 bits", "2 of 24 bits",
    ]  # fmt: skip


def test_parameters_are_the_grids():
    found = parts()["parameters"]
    assert [(each["modification_id"], each["value"]) for each in found] == [
        (None, None), (0, 0.1), (0, 0.2), (1, 50), (4, 1), (5, 2), (6, 1),
    ]  # fmt: skip
    assert len({each["id"] for each in found}) == len(found)


def test_everything_named_is_there():
    found = parts()
    names = {kind: {each["id"] for each in found[kind]} for kind in ("payloads", "parameters", "datasets")}
    for each in found["inferences"]:
        assert each["payload"] in names["payloads"]
        assert each["parameters"] in names["parameters"]
        assert each["dataset"] in names["datasets"]
        assert each["marked_with"] in (None, each["payload"])


def test_there_is_an_inference_for_every_network_and_key():
    """2 networks x (2 payloads marked + 2 keys in the unmarked one) x 7 points x 2 schemes."""
    found = parts()["inferences"]
    assert len(found) == 2 * (2 + 2) * 7 * 2
    assert len({tuple(each.values()) for each in found}) == len(found)


def test_count_errors_are_the_recount_of_inferences():
    records = complete(PLAN)
    for network, payload in ((0, 0), (1, 1)):
        records[Cell(Kind.LOOK, network, 0, payload, change=(0, 1)).name]["readings"][0]["detected"] = False
    for each in records[Cell(Kind.LOOK, 0, change=(0, 1)).name]["readings"]:
        each["detected"] = True
    found = parts(records)
    for error in found["count_errors"]:
        own = [
            each
            for each in found["inferences"]
            if (each["scheme"], each["parameters"]) == (error["scheme"], error["parameters"])
        ]
        marked = [each for each in own if each["marked_with"] is not None]
        unmarked = {each["network"] for each in own if each["marked_with"] is None}
        positive = {each["network"] for each in own if each["marked_with"] is None and each["detected"]}
        assert error["networks"] == len(marked) + len(unmarked)
        assert error["false_negatives"] == sum(not each["detected"] for each in marked)
        assert error["false_positives"] == len(positive)
    (changed,) = [each for each in found["count_errors"] if each["false_negatives"]]
    assert changed == {
        "scheme": "full", "parameters": "noise 0.2", "networks": 6, "false_positives": 1, "false_negatives": 2,
    }  # fmt: skip


def test_datasets_are_those_of_the_task():
    task = asdict(toy.laboratory(PLAN).task)
    training, test = parts()["datasets"]
    assert (training["n_examples"], test["n_examples"]) == (task["n_training"], task["n_test"])


def test_schemes_that_do_not_apply_have_no_errors_to_count():
    book = Book(PLAN, complete(PLAN))
    found = exchanged(book, toy.laboratory(PLAN).task, {1: robustness(book, 1)})
    assert {each["scheme"] for each in found["count_errors"]} == {"code"}
