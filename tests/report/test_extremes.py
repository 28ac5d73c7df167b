"""Whatever numbers and gaps a valid document has, every format draws it: a saved report is anybody's file."""

import copy
import io
import re

import pytest
from rich.console import Console

from onnxmark.errors import ReportError
from onnxmark.report.html import to_html
from onnxmark.report.markdown import to_markdown
from onnxmark.report.pages import page_of
from onnxmark.report.schema import validate
from onnxmark.report.terminal import print_page
from tests.report.documents import real_documents
from tests.report.open_strings import put, taken
from tests.report.sweeps import large_sweep

EXTREMES = (0, -1, 1, 2**63 - 1, -(2**63), 0.0, -0.0, 0.5, 5e-324, 1e308, -1e308, None, [], {}, False)


ONE_OF_EACH = (
    "match, answers measured",
    "no match",
    "large sweep",
    "inspect, detail",
    "marking, measured",
    "attack, measured",
    "key of a model",
    "scan",
    "attacks",
    "evaluation, partial",
)


def numbers(value, path=()):
    """Paths of everything that is no string, gaps and whole lists included."""
    if isinstance(value, dict | list):
        for name, child in value.items() if isinstance(value, dict) else enumerate(value[:3]):
            yield from numbers(child, (*path, name))
    if path and not isinstance(value, str):
        yield path


def draw(document):
    page = page_of(document)
    file = io.StringIO()
    print_page(page, Console(file=file, width=90, highlight=False))
    return to_html(page), to_markdown(page), file.getvalue()


def small(situation):
    """One document of a kind, with few trials and bits: every place once is enough."""
    document = copy.deepcopy(large_sweep(2, 2) if situation == "large sweep" else real_documents()[situation])
    for finding in document.get("findings", ()):
        finding["margins"]["values"] = finding["margins"]["values"][:2]
        finding["robustness"] = finding["robustness"][:4]
    return document


def all_set(document, value):
    """A copy with the value in every place where its schema allows it."""
    changed = copy.deepcopy(document)
    for path in list(numbers(document)):
        try:
            before = taken(changed, path)
        except (KeyError, IndexError, TypeError):
            continue
        put(changed, path, value)
        try:
            validate(changed)
        except ReportError:
            put(changed, path, before)
    return changed


@pytest.mark.parametrize("situation", ONE_OF_EACH)
@pytest.mark.parametrize("value", EXTREMES, ids=repr)
def test_an_extreme_in_every_place_that_allows_it(situation, value):
    document = small(situation)
    html, *_ = draw(all_set(document, value))
    assert not re.search(r'[ "](nan|-?inf)[ "]', html)


@pytest.mark.parametrize("value", EXTREMES, ids=repr)
def test_an_extreme_in_one_place_of_a_trial(value):
    document = small("large sweep")
    for path in numbers(document["findings"][0]["robustness"][0]):
        changed = copy.deepcopy(document)
        put(changed["findings"][0]["robustness"][0], path, value)
        try:
            validate(changed)
        except ReportError:
            continue
        draw(changed)
