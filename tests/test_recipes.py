"""Attacks as users write them."""

from __future__ import annotations

import itertools

import pytest

from onnxmark import plugins
from onnxmark.attacks import (
    QUICK,
    VARIANTS,
    CrossbarPruning,
    FloatRounding,
    GaussianNoise,
    MagnitudePruning,
    UniformQuantisation,
)
from onnxmark.errors import AttackError
from onnxmark.recipes import catalogue, optional_value, recipe, select


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("prune", ".65", MagnitudePruning(0.65)),
        ("prune", "65%", MagnitudePruning(0.65)),
        ("prune", "fraction=0.5", MagnitudePruning(0.5)),
        ("quantize", "8", UniformQuantisation(8)),
        ("quantize", "8,per_channel", UniformQuantisation(8, per_channel=True)),
        ("quantize", "4, per-channel , symmetric=yes", UniformQuantisation(4, per_channel=True, symmetric=True)),
        ("quantize", "symmetric=off,bits=4", UniformQuantisation(4)),
        ("float", "bfloat16", FloatRounding("bfloat16")),
        ("crossbar-prune", "0.5,rows=64,unit=row", CrossbarPruning(0.5, rows=64, unit="row")),
        ("noise", "1e-2", GaussianNoise(0.01)),
    ],
)
def test_text_becomes_a_recipe(name, text, expected):
    assert recipe(name, text) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("prune", None, r"--prune takes a value \(zero the weights.*for example --prune 0"),
        ("prune", "half", "--prune: fraction must be a number, found 'half'"),
        ("prune", "1.5", r"--prune 1\.5: the fraction to prune must be from 0 to 1"),
        ("prune", "nan", "must be from 0 to 1"),
        ("quantize", "8.5", "bits must be a whole number, found '8.5'"),
        ("quantize", "8,perchannel", "has no field 'perchannel'.*did you mean 'per_channel'"),
        ("quantize", "8,symmetric=perhaps", "symmetric must be true or false, found 'perhaps'"),
        ("quantize", "8,9", "has no field '9'"),
        ("float", "float17", "float17"),
        ("prun", "0.5", "no attack 'prun'; did you mean prune.*attack --list"),
        ("zzz", "0.5", r"no attack 'zzz' \('onnxmark attack --list' lists them\)"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(name, text, message):
    with pytest.raises(AttackError, match=message) as caught:
        recipe(name, text)
    assert "\n" not in str(caught.value)


def test_whether_the_value_may_be_left_out():
    assert not optional_value("prune")
    assert not optional_value("quantize")


def test_selections():
    assert select("none").recipes == ()
    assert select("quick").recipes == QUICK
    assert select("prune").recipes == tuple(map(MagnitudePruning, MagnitudePruning.strengths))
    both = select("quick,noise").recipes
    assert both[: len(QUICK)] == QUICK
    assert len(both) == len(set(both))
    assert GaussianNoise(3.0) in both
    with pytest.raises(AttackError, match="no attack 'quik'"):
        select("quik")


def test_full_is_everything_that_works_on_the_carrier_alone():
    chosen = select("full")
    assert chosen.skipped == ()
    names = {one.name for one in chosen.recipes}
    installed = {name: plugins.attack(name) for name in plugins.names(plugins.ATTACKS)}
    assert names == {name for name, found in installed.items() if hasattr(found, "change")}
    assert set(VARIANTS) <= set(chosen.recipes)
    labels = [one.label for one in chosen.recipes]
    assert len(set(labels)) == len(labels)
    # One curve an attack: its trials stand together.
    order = [one.name for one in chosen.recipes]
    assert len([a for a, b in itertools.pairwise(order) if a != b]) + 1 == len(names)


@pytest.mark.parametrize("facts", catalogue(), ids=lambda facts: facts.name)
def test_every_attack_is_listed_and_its_example_can_be_typed(facts):
    assert facts.problem is None
    assert facts.summary
    assert facts.kind in ("weights", "model", "both")
    for strength in facts.strengths:
        assert recipe(facts.name, str(strength)).name == facts.name
    if not facts.strengths and all(field.default is not None for field in facts.fields):
        assert recipe(facts.name).name == facts.name


def test_choices_are_listed_as_they_are_typed():
    (facts,) = (facts for facts in catalogue() if facts.name == "dummy-neurons")
    (kind,) = (field for field in facts.fields if field.name == "kind")
    assert kind.type.split("|")[:2] == ["zero", "dead"]
    for choice in kind.type.split("|"):
        assert recipe("dummy-neurons", f"0.1,kind={choice}").kind == choice


def test_attacks_on_weights_have_strengths_to_be_swept():
    without = [facts.name for facts in catalogue() if facts.kind != "model" and not facts.strengths]
    assert without == []


def test_a_plugin_that_does_not_import_is_listed_with_its_reason_and_skipped(monkeypatch):
    real_names, real_attack = plugins.names, plugins.attack

    def attack(name):
        if name == "broken":
            raise plugins.PluginError("plugin 'broken' cannot be imported; install what it needs")
        return real_attack(name)

    monkeypatch.setattr(plugins, "names", lambda group: (*real_names(group), "broken"))
    monkeypatch.setattr(plugins, "attack", attack)
    assert catalogue()[-1].problem == "plugin 'broken' cannot be imported; install what it needs"
    assert select("full").skipped == (("broken", "plugin 'broken' cannot be imported; install what it needs"),)
