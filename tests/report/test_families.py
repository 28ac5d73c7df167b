"""Attacks at growing strength, recognised by their recipes and named by their labels."""

import pytest

from onnxmark import plugins
from onnxmark.attacks.blocks import BlockQuantisation
from onnxmark.attacks.low_rank import LowRank
from onnxmark.attacks.overwriting import Overwriting
from onnxmark.attacks.pruning import MagnitudePruning, RandomPruning
from onnxmark.attacks.quantisation import UniformQuantisation
from onnxmark.attacks.soup import Soup
from onnxmark.report.pages.families import families_of, is_number
from onnxmark.symmetries.kernels import KernelExpansion
from onnxmark.symmetries.rescaling import Rescaling
from onnxmark.tools.graphs import RuntimeOptimisation
from onnxmark.tools.precision import DynamicQuantisation, Int4Quantisation, StaticQuantisation
from tests.report.sweeps import entry, trial


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


TITLES = {
    BlockQuantisation: ("quantisation, blocks of 32", "2 bit"),
    DynamicQuantisation: ("dynamic quantisation", "int7"),
    Int4Quantisation: ("int4 quantisation in blocks", "256"),
    KernelExpansion: ("kernel expansion", "6 taps"),
    LowRank: ("low rank, singular values dropped", "95 %"),
    Overwriting: ("overwriting in mean-ihw, margin", "5"),
    Rescaling: ("rescaling of channels", "1.5 log-σ"),
    RuntimeOptimisation: ("ONNX Runtime", "all optimisations"),
    Soup: ("soup with the reference", "90 %"),
    StaticQuantisation: ("static quantisation", "int4"),
}


@pytest.mark.parametrize(("attack", "said"), TITLES.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_labels_of_real_attacks_make_titles(attack, said):
    (family,) = families_of([entry(attack(strength)) for strength in attack.strengths])
    assert (family.name, family.strength(len(family.trials) - 1)) == said


def test_no_title_of_a_real_attack_breaks_off():
    for name in plugins.names(plugins.ATTACKS):
        attack = plugins.attack(name)
        recipes = [attack(strength) for strength in attack.strengths] or [attack()]
        for family in families_of([entry(recipe) for recipe in recipes]):
            assert family.name.split()[-1].rstrip(",") not in {"to", "by", "of", "with"}, family.name
            assert not family.name.endswith(","), family.name


def test_no_two_real_attacks_share_a_title():
    attacks = [plugins.attack(name) for name in plugins.names(plugins.ATTACKS)]
    entries = [entry(attack(strength)) for attack in attacks for strength in attack.strengths]
    titles = [family.name for family in families_of(entries)]
    assert len(set(titles)) == len(titles)


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
