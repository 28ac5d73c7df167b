"""Cells: all that a plan asks for, each once, none before what it needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.evaluation import Embedding, parse_plan
from onnxmark.evaluation.cells import Cell, Kind, cells_of, looked_for, needs, twin_of, unmarked_look
from tests.evaluation import toy

PLAN = parse_plan(toy.TOML + toy.MODIFICATIONS)
OVERWRITING = next(number for number, row in enumerate(PLAN.modifications) if row.name == "overwriting")

plans = st.builds(
    lambda networks, payloads, rows: replace(PLAN, networks=networks, payloads=payloads, modifications=rows),
    st.integers(1, 4),
    st.integers(1, 4),
    st.lists(st.sampled_from(PLAN.modifications), unique=True).map(tuple),
)


@given(plans)
def test_every_cell_comes_once_and_after_what_it_needs(plan):
    cells = cells_of(plan)
    places = {cell: place for place, cell in enumerate(cells)}
    assert len(places) == len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        assert all(places[need] < places[cell] for need in needs(plan, cell))


@given(plans)
def test_the_counts_are_those_of_the_standard(plan):
    """M networks trained; M x D marks a scheme; M x (D + 1) networks looked at for each modification and value."""
    counts = Counter(cell.kind for cell in cells_of(plan))
    n_marked = plan.networks * plan.payloads * len(plan.schemes)
    assert counts[Kind.TRAIN] == plan.networks
    assert counts[Kind.EMBED] == n_marked
    assert counts[Kind.TWIN] == plan.networks
    own = [len(row.values) for row in plan.modifications if row.name == "overwriting"]
    shared = 1 + sum(len(row.values) for row in plan.modifications) - sum(own)
    looks = shared * (n_marked + plan.networks) + sum(own) * (n_marked + plan.networks * len(plan.schemes))
    assert counts[Kind.LOOK] == looks


def test_all_keys_of_a_network_are_looked_for_in_its_unmarked_self():
    cell = Cell(Kind.LOOK, 1)
    assert looked_for(PLAN, cell) == ((0, 0), (0, 1), (1, 0), (1, 1))
    assert needs(PLAN, cell) == (
        Cell(Kind.TRAIN, 1),
        *(Cell(Kind.EMBED, 1, scheme, payload) for scheme in (0, 1) for payload in (0, 1)),
    )


def test_its_own_key_is_looked_for_in_a_marked_network():
    cell = Cell(Kind.LOOK, 1, 0, 1)
    assert looked_for(PLAN, cell) == ((0, 1),)
    assert needs(PLAN, cell) == (Cell(Kind.EMBED, 1, 0, 1),)


def test_a_thief_overwrites_with_the_owners_scheme_so_that_schemes_do_not_share_what_he_leaves():
    assert unmarked_look(PLAN, 0, 1, (OVERWRITING, 0)).scheme == 1
    assert unmarked_look(PLAN, 0, 1, (0, 0)).scheme is None
    assert looked_for(PLAN, unmarked_look(PLAN, 0, 1, (OVERWRITING, 0))) == ((1, 0), (1, 1))


def test_marks_are_compared_with_what_the_same_making_gives_without_them():
    closed, tuned = PLAN.schemes
    assert twin_of(closed, 1) == Cell(Kind.TRAIN, 1)
    assert twin_of(tuned, 1) == Cell(Kind.TWIN, 1, embedding=Embedding.FINE_TUNING)
    assert twin_of(replace(tuned, embedding=Embedding.TRAINING), 1) == Cell(Kind.TRAIN, 1)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (Cell(Kind.TRAIN, 0), "training network 1"),
        (Cell(Kind.TWIN, 1, embedding=Embedding.DISTILLING), "unmarked distilling of network 2"),
        (Cell(Kind.EMBED, 0, 1, 1), "marking network 1, code, payload 2"),
        (Cell(Kind.LOOK, 1), "reading network 2"),
        (Cell(Kind.LOOK, 1, 0, 0, change=(0, 1)), "Gaussian noise 0.2: network 2, full, payload 1"),
    ],
)
def test_cells_have_words(cell, words):
    assert cell.words(PLAN) == words


def test_names_are_stable_since_journals_and_seeds_hang_on_them():
    assert Cell(Kind.LOOK, 1, 0, 2, change=(4, 1)).name == "look/1/0/2/-/4/1"
    assert Cell(Kind.TWIN, 0, embedding=Embedding.FINE_TUNING).name == "twin/0/-/-/fine-tuning"
