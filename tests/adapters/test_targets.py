"""Which layer is marked, and every problem that validate finds before the training does."""

from __future__ import annotations

import pytest
import torch
from onnxmark_torch import Problem, TargetError, Watermark
from torch import nn

from onnxmark.errors import CarrierError
from tests.adapters.subjects import CONV_SHAPE, foreign_key, make_key, tiny_net


def marked_layers(mark, model):
    model.zero_grad(set_to_none=True)
    mark.add_grad_(model)
    return [name for name, parameter in model.named_parameters() if parameter.grad is not None]


def two_convolutions():
    return nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(8, 16, 3))


class Wrapped(nn.Module):
    """Named like DistributedDataParallel's wrapper."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def test_the_key_remembers_its_layer():
    assert marked_layers(Watermark(make_key(name="1.weight")), two_convolutions()) == ["1.weight"]


def test_a_remembered_name_of_another_shape_does_not_count():
    assert marked_layers(Watermark(make_key(name="stem.weight")), tiny_net()) == ["body.weight"]


def test_the_only_fitting_layer_is_taken():
    assert marked_layers(Watermark(make_key()), tiny_net()) == ["body.weight"]
    assert marked_layers(Watermark(foreign_key(20, 72)), tiny_net()) == ["body.weight"]


def test_a_mean_key_fits_any_number_of_filters():
    assert marked_layers(Watermark(make_key(carrier="mean-ihw")), tiny_net(width=32)) == ["body.weight"]


@pytest.mark.parametrize("name", ["body", "body.weight", "module.body", "_orig_mod.body.weight"])
def test_names_match_with_and_without_wrappers(name):
    assert marked_layers(Watermark(make_key(), name), tiny_net()) == ["body.weight"]
    assert marked_layers(Watermark(make_key(), name), Wrapped(tiny_net())) == ["module.body.weight"]


# torch warns about its own use of torch.jit while it loads the compiler.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_names_match_in_a_compiled_model():
    compiled = torch.compile(tiny_net())
    assert marked_layers(Watermark(make_key(name="body.weight")), compiled) == ["_orig_mod.body.weight"]
    assert marked_layers(Watermark(make_key(), "body"), compiled) == ["_orig_mod.body.weight"]


@pytest.mark.parametrize(
    ("key", "names", "message"),
    [
        (make_key(), None, "2 layers fit the key: '0', '1'; name the one you mean in target_modules"),
        (make_key((5, 5, 3, 3)), None, "no layer fits the key, made for a layer of shape 5x5x3x3.*16x8x3x3"),
        (foreign_key(3, 17), None, "no layer fits the key, made for a matrix of 17 by 3"),
        (make_key(), "01", "no linear or convolution layer '01'"),
        (make_key((5, 5, 3, 3)), "0", "layer '0' has shape 16x8x3x3 and the key is made for a layer of shape 5x5x3x3"),
    ],
)
def test_doubt_is_an_error_and_a_problem(key, names, message):
    mark, model = Watermark(key, names), two_convolutions()
    with pytest.raises(CarrierError, match=message):
        mark.loss(model)
    (problem,) = mark.validate(model)
    with pytest.raises(TargetError) as raised:
        mark.add_grad_(model)
    assert raised.value.problem == problem
    assert problem.cure


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(TargetError, match="did you mean 'body'"):
        Watermark(make_key(), "boddy").loss(tiny_net())


def test_a_sound_model_has_no_problems():
    assert Watermark(make_key(), "body").validate(tiny_net()) == []


def frozen():
    model = tiny_net()
    model.body.weight.requires_grad_(False)
    return model


def shared_weights():
    model = two_convolutions()
    model[1].weight = model[0].weight
    return model


def shared_module():
    layer = nn.Conv2d(8, 16, 3)
    return nn.Sequential(layer, nn.ReLU(), layer)


def parametrised():
    model = tiny_net()
    torch.nn.utils.parametrizations.weight_norm(model.body)
    return model


def depthwise():
    return nn.Sequential(nn.Conv2d(32, 32, 3, groups=32))


def on_meta():
    with torch.device("meta"):
        return nn.Sequential(nn.Conv2d(8, 16, 3))


def stored_as(dtype):
    model = nn.Sequential(nn.Conv2d(8, 16, 3))
    model[0].weight = nn.Parameter(model[0].weight.detach().to(dtype), requires_grad=False)
    return model


def int8_weights():
    return stored_as(torch.int8)


def float8_weights():
    return stored_as(torch.float8_e4m3fn)


class Packed(nn.Module):
    """Like the modules of torch.ao.nn.quantized, whose weight is a method."""

    def weight(self):
        return torch.zeros(CONV_SHAPE)


def packed():
    return nn.Sequential(Packed())


def lazy():
    return nn.Sequential(nn.LazyConv2d(16, 3))


class FullyShardedDataParallel(nn.Module):
    """Named like the wrapper, which needs an accelerator."""

    def __init__(self):
        super().__init__()
        self.module = tiny_net()


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(
    ("model", "mark", "what", "cure"),
    [
        (on_meta, Watermark(make_key()), "'0' is on the meta device", "to_empty"),
        (int8_weights, Watermark(make_key()), "weights of layer '0' are stored as int8", "quantise that"),
        (float8_weights, Watermark(make_key()), "'0' are stored as float8_e4m3fn", "quantise that"),
        (packed, Watermark(make_key(), "0"), "'0' is quantised: its weights are packed", "quantise that"),
        (lazy, Watermark(make_key(), "0"), "'0' is lazy and has no weights yet", "send one batch"),
        (FullyShardedDataParallel, Watermark(make_key()), "flattened by FullyShardedDataParallel", "fully_shard"),
        (frozen, Watermark(make_key(), "body"), "layer 'body' is frozen", "unfreeze it"),
        (shared_weights, Watermark(make_key(), "0"), "shared: '0.weight', '1.weight'", "weights of its own"),
        (shared_module, Watermark(make_key(), "0"), "shared: '0.weight', '2.weight'", "weights of its own"),
        (parametrised, Watermark(make_key(), "body"), "'body' are parametrised", "a plain layer"),
        (depthwise, Watermark(make_key((32, 1, 3, 3))), "'0' is a depthwise", "ordinary convolution"),
        (
            tiny_net,
            Watermark(make_key(n_bits=80, carrier="mean-ihw"), "body"),
            "80 bits need 80 entries and carrier mean-ihw of layer 'body' has 72 .T/M = 1.11.",
            "fewer bits",
        ),
        (tiny_net, Watermark(foreign_key(80, 72), "body"), "80 bits need 80 entries", "fewer bits"),
        (
            tiny_net,
            Watermark(make_key(n_bits=40, carrier="mean-ihw", generator="diff"), "body"),
            "a diff key of 40 bits needs 80 entries",
            "another key",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_validate_finds(model, mark, what, cure):
    (problem,) = mark.validate(model())
    assert isinstance(problem, Problem)
    assert_matches(what, problem.what)
    assert_matches(cure, problem.cure)


def assert_matches(pattern, text):
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(text)


@pytest.mark.parametrize("model", [frozen, parametrised])
def test_a_layer_that_cannot_be_marked_is_refused(model):
    with pytest.raises(TargetError, match="layer 'body'"):
        Watermark(make_key(), "body").add_grad_(model())


def test_the_loss_differentiates_through_a_parametrisation():
    model = parametrised()
    Watermark(make_key(), "body").loss(model).backward()
    assert any(parameter.grad is not None for parameter in model.body.parameters())


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_layer_fits_once_it_has_met_a_batch():
    model = nn.Sequential(nn.LazyConv2d(16, 3))
    mark = Watermark(make_key())
    with pytest.raises(TargetError, match="layers are none"):
        mark.loss(model)
    model(torch.ones(1, 8, 4, 4))
    assert mark.validate(model) == []


@pytest.mark.parametrize("model", [int8_weights, float8_weights])
def test_integers_are_refused_before_they_are_marked(model):
    with pytest.raises(TargetError, match="weights of layer '0' are stored as"):
        Watermark(make_key()).add_grad_(model())


def test_validate_asks_the_optimizer_too():
    model, mark = tiny_net(), Watermark(make_key(), "body")
    assert mark.validate(model, torch.optim.SGD(model.parameters(), lr=0.1)) == []
    (problem,) = mark.validate(model, torch.optim.SGD(model.head.parameters(), lr=0.1))
    assert problem.what == "the optimizer does not train layer 'body'"
    assert "after the model is moved, sharded or wrapped" in problem.cure


def test_wrapping_is_no_problem():
    mark = Watermark(make_key(), "body")
    assert mark.validate(nn.DataParallel(tiny_net())) == []
    assert mark.validate(Wrapped(tiny_net())) == []


def test_a_parameter_replaced_after_attaching_is_noticed():
    model = tiny_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Watermark(make_key(), "body").attach(optimizer, model)
    optimizer.step()
    model.body.weight = nn.Parameter(model.body.weight.detach().clone())
    with pytest.raises(TargetError, match="the optimizer does not train layer 'body'"):
        optimizer.step()


def test_a_kernel_of_another_size_is_read_but_not_trained():
    model = nn.Sequential(nn.Conv2d(8, 16, 5))
    with pytest.raises(TargetError, match="layer '0' has shape 16x8x5x5 and the key is made for"):
        Watermark(make_key(), "0").loss(model)
