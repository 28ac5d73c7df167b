"""Bare checkpoints: which tensors are weights of layers, and that what cannot be told is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnxmark_torch.conversion.state_dicts import bare_weights, content_of, merged, without_wrappers
from torch import nn

from tests.adapters.conversion.subjects import mixed_net

STATE = {"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.ones(4)}


@pytest.mark.parametrize("nest", ["state_dict", "model_state_dict", "model"])
def test_below_the_usual_names(nest):
    assert content_of({nest: STATE, "epoch": 3}).keys() == STATE.keys()


def test_a_module_is_found_below_a_name_too():
    module = nn.Linear(2, 2)
    assert content_of(module) is module
    assert content_of({"model": module, "optimizer": {}}) is module


@pytest.mark.parametrize(
    "loaded", [torch.ones(3), [torch.ones(3)], {"a": 1}, {}, {"state_dict": {}}, {3: torch.ones(2)}]
)
def test_where_there_is_no_state(loaded):
    assert content_of(loaded) is None


def test_a_network_called_model_is_not_mistaken_for_a_nest():
    state = {"model": torch.ones(3, 3), "other": torch.ones(2)}
    assert content_of(state).keys() == {"model", "other"}


@given(st.lists(st.sampled_from(["module.", "_orig_mod."]), max_size=4))
def test_wrappers_are_taken_off(wrappers):
    prefix = "".join(wrappers)
    assert without_wrappers({prefix + name: tensor for name, tensor in STATE.items()}).keys() == STATE.keys()


def test_a_prefix_of_some_names_only_is_a_module():
    state = {"module.weight": torch.ones(2, 2), "head.weight": torch.ones(2, 2)}
    assert without_wrappers(state).keys() == state.keys()


def old_weight_norm(layer, dim):
    with pytest.warns(FutureWarning, match="deprecated"):
        return nn.utils.weight_norm(layer, dim=dim)


LAYERS = [lambda: nn.Conv2d(3, 5, 3), lambda: nn.Linear(4, 6), lambda: nn.ConvTranspose1d(4, 2, 3)]


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("normalise", [old_weight_norm, nn.utils.parametrizations.weight_norm])
def test_weight_normalisation_as_torch_computes_it(make, dim, normalise):
    layer = normalise(make(), dim=dim)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn(parameter.shape))
    layer(torch.randn(1, *{2: (4,), 3: (4, 9), 4: (3, 9, 9)}[layer.weight.ndim]))
    whole = merged(layer.state_dict())
    assert whole.keys() == {"weight", "bias"}
    torch.testing.assert_close(whole["weight"], layer.weight.detach())


def test_weight_normalisation_of_a_nested_layer_keeps_its_path():
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)))
    assert merged(net.state_dict()).keys() == {"0.weight", "0.bias"}


@pytest.mark.parametrize(
    "state",
    [
        {"weight_g": torch.ones(4, 1), "weight": torch.ones(4, 3)},
        {"weight_g": torch.ones(4, 3), "weight_v": torch.ones(4, 3)},
        {"weight_g": torch.ones(5, 1), "weight_v": torch.ones(4, 3)},
        {"weight_g": torch.ones(4, 1), "weight_v": torch.ones(4, 3), "weight": torch.ones(4, 3)},
        {"parametrizations.weight.original": torch.ones(4, 3)},
    ],
)
def test_what_is_not_weight_normalisation_stays(state):
    assert merged(state).keys() == state.keys()


def test_weights_and_their_orders():
    state = {
        **STATE,
        "head.weight": torch.ones(7, 4),
        "audio.weight": torch.ones(4, 2, 5),
        "norm.weight": torch.ones(4),
    }
    weights, _ = bare_weights(state)
    assert {each.name: (each.values.shape, each.order) for each in weights} == {
        "conv.weight": ((4, 3, 3, 3), "OIHW"),
        "head.weight": ((7, 4), "OI"),
        "audio.weight": ((4, 2, 5), "OIHW"),
    }


def test_a_real_network_gives_all_its_layers():
    weights, notes = bare_weights(mixed_net().state_dict())
    assert [each.name for each in weights] == ["plain.weight", "grouped.weight", "raised.weight", "head.weight"]
    assert len(notes) == 1
    assert "'plain.weight', 'grouped.weight', 'raised.weight': taken as convolutions" in notes[0]


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("wte.embedding.weight", torch.ones(9, 4), "'wte.embedding.weight': may be embeddings"),
        ("pos_embed", torch.ones(1, 9, 4), "'pos_embed': left out, because no layer's weights are called so"),
        ("parametrizations.weight.original", torch.ones(4, 3), "left out, because no layer's weights are called so"),
        ("head.weight", torch.ones(4, 3).to(torch.float8_e5m2), "stored as 8-bit floats, and taken without the scales"),
        ("head.weight", torch.ones(4, 3, dtype=torch.int8), "left out, because they are not floating point"),
    ],
)
def test_what_cannot_be_told_is_said(name, tensor, words):
    _, notes = bare_weights({name: tensor})
    assert any(words in note for note in notes)


def test_a_long_list_of_names_is_cut():
    _, notes = bare_weights({f"layer{index}.weight": torch.ones(4, 3, 3, 3) for index in range(9)})
    assert notes[0].startswith("'layer0.weight', 'layer1.weight', 'layer2.weight' and 6 more: taken as convolutions")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_every_floating_type_becomes_float32(dtype):
    values = torch.tensor([[1.0, -0.5], [0.25, 2.0]])
    (weights,), _ = bare_weights({"weight": values.to(dtype)})
    np.testing.assert_array_equal(weights.values, values.numpy())
