"""The loss is the paper's, and its gradient is exact: against NumPy in float64, autograd and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnxmark_torch import Watermark
from onnxmark_torch.carrier_tensors import CarrierTensors
from onnxmark_torch.layers import HostLayer
from torch import nn

from onnxmark.schemes.projection.projection import foreign_projection, foreign_readings, own_projection
from tests.adapters.subjects import CARRIERS, CONV_SHAPE, GENERATORS, foreign_key, make_key, tiny_net

LAYERS = {
    "linear": (nn.Linear(40, 24), (24, 40)),
    "conv1d": (nn.Conv1d(6, 10, 5), (10, 6, 5)),
    "conv2d": (nn.Conv2d(8, 16, 3), CONV_SHAPE),
    "grouped conv2d": (nn.Conv2d(8, 16, 3, groups=2), (16, 4, 3, 3)),
    "conv3d": (nn.Conv3d(3, 4, 3), (4, 3, 3, 3, 3)),
    "transposed conv2d": (nn.ConvTranspose2d(8, 16, 3), (16, 8, 3, 3)),
    "grouped transposed conv2d": (nn.ConvTranspose2d(8, 16, 3, groups=2), (16, 4, 3, 3)),
    "channels-last conv2d": (nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last), CONV_SHAPE),
}


def canonical(module, weight):
    """An independent reference: one output channel at a time."""
    values = weight.detach().double().numpy()
    if not isinstance(module, nn.ConvTranspose2d):
        return values
    per_group, block = module.out_channels // module.groups, module.in_channels // module.groups
    channels = []
    for out in range(module.out_channels):
        group = out // per_group
        channels.append(values[group * block : (group + 1) * block, out % per_group])
    return np.stack(channels)


def reference_loss(key, values, strength):
    """Uchida's sum of cross-entropies, in float64."""
    projection = own_projection(key, values.shape)
    vector = projection.carrier.fold(values)
    scores = projection.rows(0, key.n_bits) @ vector
    signed = np.where(key.message == 1, scores, -scores)
    return strength * np.sum(np.logaddexp(0, -signed))


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("generator", GENERATORS)
def test_loss_is_the_sum_of_cross_entropies(carrier, generator):
    key = make_key(carrier=carrier, generator=generator)
    model = tiny_net()
    loss = Watermark(key, "body", strength=0.3).loss(model)
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    expected = reference_loss(key, canonical(model.body, model.body.weight), 0.3)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("generator", GENERATORS)
def test_add_grad_equals_backward(carrier, generator):
    mark = Watermark(make_key(carrier=carrier, generator=generator), "body")
    model, twin = tiny_net(), tiny_net()
    mark.add_grad_(model)
    mark.loss(twin).backward()
    torch.testing.assert_close(model.body.weight.grad, twin.body.weight.grad, rtol=0, atol=0)
    assert all(p.grad is None for name, p in model.named_parameters() if name != "body.weight")


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_layer_is_read_in_canonical_order(layer, carrier):
    module, shape = LAYERS[layer]
    key = make_key(shape, carrier=carrier)
    expected = reference_loss(key, canonical(module, module.weight), 0.01)
    assert Watermark(key).loss(nn.Sequential(module)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_gradient_equals_finite_differences_in_float64(layer, carrier):
    module, shape = LAYERS[layer]
    model, key = nn.Sequential(module), make_key(shape, carrier=carrier)
    model.zero_grad(set_to_none=True)
    Watermark(key, strength=1.0).add_grad_(model)
    weight, gradient = module.weight.detach().double(), module.weight.grad.double()
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = torch.from_numpy(rng.standard_normal(tuple(weight.shape)))
        ahead, behind = (
            reference_loss(key, canonical(module, weight + step * direction), 1.0) for step in (1e-5, -1e-5)
        )
        assert (gradient * direction).sum().item() == pytest.approx((ahead - behind) / 2e-5, rel=1e-4, abs=1e-4)


def test_gradients_are_added_to_those_of_the_task():
    mark, model, twin = Watermark(make_key(), "body"), tiny_net(), tiny_net()
    for net in (model, twin):
        net(torch.ones(2, 1, 8, 8)).sum().backward()
    task = twin.body.weight.grad.clone()
    mark.add_grad_(model)
    mark.loss(twin).backward()
    assert not torch.equal(model.body.weight.grad, task)
    torch.testing.assert_close(model.body.weight.grad, twin.body.weight.grad)


def test_gradients_are_added_under_no_grad():
    model = tiny_net()
    with torch.no_grad():
        Watermark(make_key(), "body").add_grad_(model)
    assert not model.body.weight.grad.requires_grad


def test_autocast_does_not_touch_the_loss():
    mark, model = Watermark(make_key(), "body"), tiny_net()
    plain = mark.loss(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mark.loss(model)
        mark.add_grad_(model)
    assert inside.dtype == torch.float32
    assert inside.item() == plain.item()
    assert model.body.weight.grad.dtype == torch.float32


def test_half_precision_weights_are_read_in_float32():
    model = tiny_net()
    model.body.to(torch.bfloat16)
    mark, key = Watermark(make_key(), "body"), make_key()
    expected = reference_loss(key, canonical(model.body, model.body.weight), 0.01)
    assert mark.loss(model).item() == pytest.approx(expected, rel=1e-5)
    mark.add_grad_(model)
    assert model.body.weight.grad.dtype == torch.bfloat16


def test_several_layers_sum():
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(8, 16, 3))
    key = make_key()
    both = Watermark(key, ["0", "1"]).loss(model)
    each = [Watermark(key, name).loss(model) for name in ("0", "1")]
    assert both.item() == pytest.approx(sum(loss.item() for loss in each))


def test_foreign_matrix_goes_into_the_mean():
    key = foreign_key(20, 72)
    model = tiny_net()
    kernel = model.body.weight.detach().double().numpy().mean(axis=0)
    scores = key.matrix.T @ np.moveaxis(kernel, 0, -1).reshape(-1)
    signed = np.where(key.bits == 1, scores, -scores)
    loss = Watermark(key, "body", strength=1.0).loss(model)
    assert loss.item() == pytest.approx(np.sum(np.logaddexp(0, -signed)), rel=1e-5)


def test_strength_must_not_be_negative():
    with pytest.raises(ValueError, match="strength must be at least 0 and finite, not -1"):
        Watermark(make_key(), strength=-1)


def test_no_target_is_not_all_targets():
    with pytest.raises(ValueError, match="target_modules names no layer"):
        Watermark(make_key(), [])


def tensors_for(shape, carrier, generator="rademacher", n_bits=16):
    projection = own_projection(make_key(shape, carrier=carrier, generator=generator, n_bits=n_bits), shape)
    return CarrierTensors.on(torch.device("cpu"), projection)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_fold_and_spread_are_the_carriers_and_each_others_adjoint(carrier):
    tensors = tensors_for(CONV_SHAPE, carrier)
    rng = np.random.default_rng(1)
    values = rng.standard_normal(CONV_SHAPE).astype(np.float32)
    vector = rng.standard_normal(tensors.projection.carrier.size).astype(np.float32)
    folded, spread = tensors.fold(torch.from_numpy(values)), tensors.spread(torch.from_numpy(vector))
    numpy_side = tensors.projection.carrier
    np.testing.assert_allclose(folded, numpy_side.fold(values), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(spread, numpy_side.spread(vector.astype(np.float64)), rtol=1e-4, atol=1e-5)
    assert float(folded @ torch.from_numpy(vector)) == pytest.approx(
        float((spread * torch.from_numpy(values)).sum()), rel=1e-4
    )


@pytest.mark.parametrize("generator", GENERATORS)
def test_rows_of_signs_are_kept_as_bytes(generator):
    tensors = tensors_for(CONV_SHAPE, "full", generator)
    assert tensors.rows.dtype == (torch.float32 if generator == "gaussian" else torch.int8)
    np.testing.assert_allclose(tensors.rows.double(), tensors.projection.rows(0, 16), rtol=1e-7)


def test_rows_of_a_foreign_matrix_are_kept_as_they_are():
    key = foreign_key(20, 72)
    reading = foreign_readings(key, CONV_SHAPE)[0]
    tensors = CarrierTensors.on(torch.device("cpu"), foreign_projection(key, reading))
    np.testing.assert_allclose(tensors.rows, key.matrix.T, rtol=1e-6)


@pytest.mark.parametrize("entries", [1, 1152, 5000, 2**20])
def test_the_size_of_a_block_changes_nothing(entries, monkeypatch):
    values = torch.randn(CONV_SHAPE, generator=torch.Generator().manual_seed(2))
    tensors = tensors_for(CONV_SHAPE, "full", n_bits=13)
    expected = tensors.loss_and_gradient(values)
    margin = tensors.min_margin(values)
    monkeypatch.setattr("onnxmark_torch.carrier_tensors._CACHE_ENTRIES", entries)
    for found, wanted in zip(tensors.loss_and_gradient(values), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert tensors.min_margin(values) == pytest.approx(margin, rel=1e-6)


def test_bits_embedded_very_well_still_have_an_exact_gradient():
    tensors = tensors_for(CONV_SHAPE, "full", n_bits=1)
    row = torch.from_numpy(tensors.projection.rows(0, 1)).float().reshape(CONV_SHAPE)
    values = 30 / 1152 * row * (2 * int(tensors.projection.message[0]) - 1)
    _, gradient = tensors.loss_and_gradient(values)
    score = float(tensors.projection.scores(values.numpy())[0])
    assert abs(score) > 20
    # In float32 sigmoid(score) - 1 is 0 from a score of 17 on.
    assert float(gradient.abs().max()) == pytest.approx(1 / (1 + np.exp(abs(score))), rel=0.1, abs=0)


def test_weights_that_fold_to_nothing_have_no_margin():
    assert tensors_for(CONV_SHAPE, "full").min_margin(torch.ones(CONV_SHAPE)) == 0


@pytest.mark.parametrize("layer", LAYERS)
def test_stored_is_the_inverse_of_canonical(layer):
    module, shape = LAYERS[layer]
    host = HostLayer(("layer",), module)
    values = host.canonical(module.weight.detach())
    assert tuple(values.shape) == shape
    torch.testing.assert_close(host.stored(values), module.weight.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_first_gradient_lies_in_memory_like_the_weight(layer):
    module, shape = LAYERS[layer]
    model = nn.Sequential(module)
    model.zero_grad(set_to_none=True)
    Watermark(make_key(shape)).add_grad_(model)
    assert module.weight.grad.stride() == module.weight.stride()


def test_a_mark_is_differentiated_once():
    model = tiny_net()
    (gradient,) = torch.autograd.grad(Watermark(make_key(), "body").loss(model), model.body.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()
