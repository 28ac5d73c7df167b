"""Entry points: ours load, and one that cannot says why."""

from importlib.metadata import EntryPoint

import pytest

from onnxmark import plugins
from onnxmark.attacks import apply_attack
from onnxmark.conversion import Container
from onnxmark.errors import PluginError
from onnxmark.schemes.projection.scheme import ProjectionScheme


def test_ours_are_found_and_load():
    assert plugins.names(plugins.SCHEMES) == ("constant-weight", "ingrain", "projection", "structural", "trigger")
    for name in plugins.names(plugins.SCHEMES):
        assert plugins.scheme(name).name == name
    assert isinstance(plugins.scheme("projection"), ProjectionScheme)
    assert set(plugins.names(plugins.ATTACKS)) >= {"prune", "quantize", "cluster", "noise"}
    for name in plugins.names(plugins.ATTACKS):
        assert plugins.attack(name).name == name
    assert callable(apply_attack)
    assert set(plugins.names(plugins.ADAPTERS)) == set(Container)


def test_an_unknown_plugin_lists_the_known_ones():
    words = r"no plugin 'nothing' in onnxmark\.schemes \(there are: constant-weight, ingrain, "
    with pytest.raises(PluginError, match=words):
        plugins.scheme("nothing")


@pytest.mark.parametrize(
    ("target", "words"), [("no_such_package:thing", "cannot be imported"), ("onnxmark.errors:NoSuch", "does not exist")]
)
def test_a_broken_plugin_says_what_is_broken(monkeypatch, target, words):
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint("broken", target, group)])
    with pytest.raises(PluginError, match=words):
        plugins.attack("broken")


def test_a_plugin_names_the_distribution_that_it_comes_with():
    assert plugins.distribution(plugins.SCHEMES, "projection") == "onnxmark"
    assert plugins.distribution(plugins.SCHEMES, "nothing") is None


def test_a_plugin_that_no_distribution_tells_of_has_none(monkeypatch):
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint("lone", "lone:thing", group)])
    assert plugins.distribution(plugins.ATTACKS, "lone") is None
