"""The conformance page: what it names exists, what it prints is a plan, and it promises nothing."""

import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from onnxmark.evaluation import EXAMPLE, STANDARD, parse_plan
from onnxmark.evaluation.cells import Change
from onnxmark.evaluation.modifying import recipe_of
from onnxmark.evaluation.nnt import CountError, Dataset, Inference, Parameters, Payload
from onnxmark.plugins import names
from onnxmark.report.formats import Kind
from onnxmark.report.schema import schema_of

ROOT = Path(__file__).parents[2]


@cache
def page():
    return (ROOT / "docs" / "ieee3304.md").read_text()


def rows(heading):
    """Cells of the table under a heading, without its head."""
    body = page().split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    table = [line for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_every_file_it_names_exists():
    found = re.findall(r"`((?:onnxmark|adapters)/[\w/.]+)`", page())
    assert len(set(found)) >= 10
    assert [path for path in found if not (ROOT / path).exists()] == []


def test_every_name_beside_a_file_is_in_it():
    found = re.findall(r"`(\w+)`(?: and `(\w+)`)? (?:of|in) `(onnxmark/[\w/]+\.py)`", page())
    assert len(found) >= 3
    for first, second, path in found:
        source = (ROOT / path).read_text()
        for name in filter(None, (first, second)):
            assert re.search(rf"^(class|def) {name}\b", source, re.MULTILINE), (name, path)


def test_what_python_is_told_to_import_is_there():
    import onnxmark.evaluation as evaluation

    (line,) = re.findall(r"From Python: (.*?) of `onnxmark.evaluation`", page())
    for name in re.findall(r"`(\w+)`", line):
        assert name in evaluation.__all__


def test_the_table_of_modifications_is_the_one_in_the_code():
    found = rows("### The seven modifications")
    assert [(int(row[0]), row[2][0]) for row in found] == [(each.id, each.parameter) for each in STANDARD]
    for row, each in zip(found, STANDARD, strict=True):
        if not each.of_epochs:
            assert row[4] == ", ".join(f"{value:g}" for value in each.values)
        if each.attack is not None:
            assert f"`{each.attack}`" in row[5]
            assert each.attack in names("onnxmark.attacks")


def test_its_plan_is_one_and_every_attack_takes_its_values():
    (printed,) = re.findall(r"```toml\n(.*?)```", page(), re.DOTALL)
    start, schemes = EXAMPLE.index("[[modifications]]\nname"), EXAMPLE.index("[[schemes]]")
    plan = parse_plan(EXAMPLE[:start] + EXAMPLE[schemes:] + printed)
    assert [each.name for each in plan.modifications] == ["quantizing", "distillation", "transfer", "low rank"]
    recipes = [
        recipe_of(Change(each, value)) for each in plan.modifications if not each.trains for value in each.values
    ]
    assert len(recipes) == 10


@pytest.mark.parametrize("key", ["networks", "payloads", "bits", "alpha", "registered", "n_training", "n_test"])
def test_every_key_of_a_plan_it_names_is_in_the_example(key):
    assert f"`{key}`" in page()
    assert re.search(rf"^#? ?{key} = ", EXAMPLE, re.MULTILINE)


@pytest.mark.parametrize(
    ("kind", "definition"),
    [
        (Payload, "payload"),
        (Parameters, "parameters"),
        (Dataset, "dataset"),
        (Inference, "inference"),
        (CountError, "count_error"),
    ],
)
def test_the_parts_for_nnt_are_named_and_the_schema_has_their_fields(kind, definition):
    assert kind.__name__ in page()
    assert schema_of(Kind.EVALUATION)["$defs"][definition]["required"] == [field.name for field in fields(kind)]


def test_it_claims_nothing():
    assert "**This is no certificate and claims no conformance.**" in page()
    assert "reconstruction" in page()
    words = re.sub(r"no certificate and claims no conformance|its documents and its certification", "", page())
    assert not re.search(r"certif|conforms|compliant|compliance", words)
