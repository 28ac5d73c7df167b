"""Attacks at growing strength, recognised by their recipes and named by their labels."""

import pytest

from onnxmark.attacks.pruning import MagnitudePruning, RandomPruning
from onnxmark.attacks.quantisation import UniformQuantisation
from onnxmark.report.pages.families import families_of, is_number
from tests.report.sweeps import trial


def entry(attack):
    """The entry of a real attack."""
    return trial(attack.label, repr(attack), attack.name, attack.parameter)


def described(*attacks):
    return [
        (family.title, family.variant, family.unit, [strength for _, strength, _ in family.trials])
        for family in families_of([entry(attack) for attack in attacks])
    ]


def test_real_attacks():
    assert described(
        MagnitudePruning(0.1),
        MagnitudePruning(0.65),
        RandomPruning(0.5),
        UniformQuantisation(8),
        UniformQuantisation(8, per_channel=True),
        UniformQuantisation(4),
        UniformQuantisation(4, per_channel=True),
    ) == [
        ("L1 pruning", "", "%", ["10", "65"]),
        ("random pruning", "", "%", ["50"]),
        ("quantisation", "", "bit", ["8", "4"]),
        ("quantisation", "per channel", "bit", ["8", "4"]),
    ]


def test_trials_keep_their_numbers():
    trials = [entry(MagnitudePruning(0.1)), entry(RandomPruning(0.5)), entry(MagnitudePruning(0.3))]
    assert [[number for number, _, _ in family.trials] for family in families_of(trials)] == [[1, 3], [2]]


@pytest.mark.parametrize(
    ("labels", "title", "strengths"),
    [
        (["low rank, 50 % dropped", "low rank, 75 % dropped"], "low rank", ["50", "75"]),
        (["rounding to half", "rounding to float8"], "rounding", ["half", "float8"]),
        (["channel permutation"], "channel permutation", [""]),
        (["soup thick", "soup thin"], "soup", ["thick", "thin"]),
        (["8 bit", "4 bit"], "the-attack", ["8", "4"]),
        (["same", "same"], "same", ["", ""]),
        (["long label 1 here", "long"], "long", ["label", ""]),
        ([""], "the-attack", [""]),
        (["", "x 1"], "the-attack", ["", "x"]),
    ],
)
def test_labels_of_any_form(labels, title, strengths):
    trials = [trial(label, f"Attack(x={number})", "the-attack") for number, label in enumerate(labels)]
    (family,) = families_of(trials)
    assert family.title == title
    assert [strength for _, strength, _ in family.trials] == strengths


def test_direction():
    bits = [entry(UniformQuantisation(bits)) for bits in (8, 4)]
    assert families_of(bits)[0].direction == "down"
    assert families_of(bits[::-1])[0].direction == "up"
    assert families_of([trial(parameter=None), trial(parameter="x")])[0].direction == "up"


@pytest.mark.parametrize(
    ("parameter", "expected"), [(1, True), (0.5, True), (True, False), ("1", False), (None, False)]
)
def test_is_number(parameter, expected):
    assert is_number(parameter) is expected


def test_no_trials():
    assert families_of([]) == ()
