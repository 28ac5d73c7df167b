"""The network that weights belong to: made by the user's code, and filled without a gap or not at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from onnxmark_torch.conversion.factories import built, fill
from torch import nn

from onnxmark.errors import ConversionError
from tests.adapters.conversion.subjects import HERE, mixed_net, two_inputs

SOURCE = Path("weights.safetensors")


def test_a_factory_in_a_package():
    net = built(f"{HERE}:mixed_net")
    torch.testing.assert_close(net.state_dict(), mixed_net().state_dict())


def test_a_network_is_in_evaluation_mode_whatever_its_factory_left_it_in():
    assert two_inputs().training
    assert not built(f"{HERE}:two_inputs").training


def test_a_factory_in_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "my_network_here.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(2, 3)\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert built("my_network_here:make").out_features == 3
    assert sys.path == before
    del sys.modules["my_network_here"]


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("mixed_net", "given as module:function, not 'mixed_net'"),
        (":make", "given as module:function"),
        ("no_such_module:make", "ModuleNotFoundError: No module named 'no_such_module'"),
        (f"{HERE}:nothing", "AttributeError: .* no attribute 'nothing'"),
        (f"{HERE}:failing", "FileNotFoundError: settings.yaml"),
        (f"{HERE}:no_module", "returned str, no torch.nn.Module"),
    ],
)
def test_a_factory_that_makes_no_network(factory, words):
    with pytest.raises(ConversionError, match=words):
        built(factory)


def test_a_state_that_fits():
    net, other = mixed_net(), mixed_net()
    with torch.no_grad():
        other.head.weight.add_(1)
    fill(net, other.state_dict(), SOURCE, "make")
    torch.testing.assert_close(net.state_dict(), other.state_dict())


def without(name):
    return {key: value for key, value in mixed_net().state_dict().items() if key != name}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (without("head.bias"), r"does not fit the network: it lacks 'head\.bias'; does 'make' make the network"),
        (mixed_net().state_dict() | {"tail.weight": torch.ones(2)}, r"it has besides 'tail\.weight'"),
        (mixed_net().state_dict() | {"head.weight": torch.ones(5, 7)}, r"it has in another shape 'head\.weight'"),
        (without("head.bias") | {"x": torch.ones(2)}, r"it lacks 'head\.bias'; it has besides 'x'"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(state, words):
    net = mixed_net()
    with pytest.raises(ConversionError, match=words):
        fill(net, state, SOURCE, "make")
    torch.testing.assert_close(net.state_dict(), mixed_net().state_dict())


class Tied(nn.Module):
    """Two names for one parameter, of which safetensors keeps one."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3, bias=False)
        self.two = nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight


def test_of_shared_tensors_one_name_is_enough():
    net = Tied()
    fill(net, {"two.weight": torch.eye(3)}, SOURCE, "make")
    torch.testing.assert_close(net.one.weight.detach(), torch.eye(3))


def test_a_state_of_another_precision_takes_the_network_s():
    net = nn.Linear(2, 2, bias=False)
    fill(net, {"weight": torch.eye(2).to(torch.float8_e4m3fn)}, SOURCE, "make")
    assert net.weight.dtype == torch.float32
    torch.testing.assert_close(net.weight.detach(), torch.eye(2))


class Stubborn(nn.Linear):
    """A module whose own code fails when it is loaded."""

    def _load_from_state_dict(self, *args, **kwargs):
        raise RuntimeError("no loading\non Sundays")


def test_a_failure_in_the_network_s_own_code_is_one_line():
    net = Stubborn(2, 2)
    with pytest.raises(ConversionError, match=r"cannot be loaded: RuntimeError: no loading; ") as caught:
        fill(net, net.state_dict(), SOURCE, "make")
    assert "\n" not in str(caught.value)
