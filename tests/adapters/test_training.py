"""The mark in a training loop: once a step, whatever the loop looks like, and nothing of the model but its weights."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from onnxmark_torch import TargetError, Watermark
from torch import nn

from onnxmark.schemes.projection.extraction import read_message
from onnxmark.schemes.projection.projection import own_projection
from onnxmark.weights import Origin, WeightTensor
from tests.adapters.subjects import CARRIERS, CONV_SHAPE, foreign_key, make_key, tiny_net


def sgd(model, rate=0.1):
    return torch.optim.SGD(model.parameters(), lr=rate)


def batch(seed=0, size=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, 1, 8, 8, generator=generator), torch.randint(10, (size,), generator=generator)


def test_accumulate_then_add_equals_the_full_batch():
    images, labels = batch()
    mark = Watermark(make_key(), "body", strength=1.0)
    whole, parts = tiny_net().eval(), tiny_net().eval()
    (nn.functional.cross_entropy(whole(images), labels) + mark.loss(whole)).backward()
    sgd(whole).step()
    for start in range(0, 12, 4):
        piece = slice(start, start + 4)
        (nn.functional.cross_entropy(parts(images[piece]), labels[piece]) / 3).backward()
    mark.add_grad_(parts)
    sgd(parts).step()
    for expected, actual in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_attached_equals_the_loss_in_the_loop_and_remove_ends_it():
    images, labels = batch()
    mark = Watermark(make_key(), "body", strength=1.0)
    attached, looped = tiny_net(), tiny_net()
    optimizers = [sgd(attached), sgd(looped)]
    handle = mark.attach(optimizers[0], attached)
    for step in range(3):
        if step == 2:
            handle.remove()
        for net, optimizer in zip((attached, looped), optimizers, strict=True):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(images), labels)
            if net is looped and step < 2:
                loss = loss + mark.loss(net)
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(attached.body.weight, looped.body.weight, rtol=1e-5, atol=1e-6)


def test_attach_refuses_a_closure():
    model = tiny_net()
    optimizer = sgd(model)
    Watermark(make_key(), "body").attach(optimizer, model)
    with pytest.raises(ValueError, match=r"remove the handle and call add_grad_\(model\) at the end of the closure"):
        optimizer.step(lambda: 0.0)


def test_attach_refuses_gradients_that_are_still_scaled():
    model = tiny_net()
    optimizer = sgd(model)
    Watermark(make_key(), "body").attach(optimizer, model)
    optimizer.grad_scale = torch.tensor(1024.0)  # what GradScaler sets while a fused optimizer steps
    with pytest.raises(ValueError, match=r"call scaler.unscale_\(optimizer\) before"):
        optimizer.step()


def test_attach_refuses_an_optimizer_that_does_not_train_the_layer():
    model = tiny_net()
    with pytest.raises(TargetError, match="the optimizer does not train layer 'body'"):
        Watermark(make_key(), "body").attach(sgd(model.head), model)


def test_grad_scaler_unscales_before_the_mark():
    mark = Watermark(make_key(), "body", strength=1.0)
    images, labels = batch()
    scaled, plain = tiny_net(), tiny_net()
    for net, scaler in ((scaled, torch.amp.GradScaler("cpu", init_scale=1024.0)), (plain, None)):
        optimizer = sgd(net)
        mark.attach(optimizer, net)
        loss = nn.functional.cross_entropy(net(images), labels)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
    torch.testing.assert_close(scaled.body.weight, plain.body.weight, rtol=1e-5, atol=1e-6)


def test_nothing_of_the_model_but_its_weights_changes():
    model = tiny_net()
    before = copy.deepcopy(model.state_dict())
    modules = [(name, type(module)) for name, module in model.named_modules()]
    mark, optimizer = Watermark(make_key(), "body"), sgd(model)
    handle = mark.attach(optimizer, model)
    optimizer.step()
    handle.remove()
    mark.report(model)
    assert list(model.state_dict()) == list(before)
    assert [(name, type(module)) for name, module in model.named_modules()] == modules
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["body.weight"]
    pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_small_convolution_learns_its_mark(carrier):
    model = nn.Sequential(nn.Conv2d(8, 16, 3))
    mark, optimizer = Watermark(make_key(carrier=carrier), strength=0.1), sgd(model)
    before = mark.report(model)
    assert 0.1 < before.bit_error_rate < 0.9
    mark.attach(optimizer, model)
    for _ in range(200):
        optimizer.zero_grad()
        optimizer.step()
    after = mark.report(model)
    assert after.bit_error_rate == 0
    assert after.min_margin > 0.3
    assert after.embedding_loss < before.embedding_loss
    assert after.log10_p == pytest.approx(-16 * np.log10(2))


@pytest.mark.parametrize("carrier", CARRIERS)
def test_report_is_the_audits_reading(carrier):
    key, model = make_key(carrier=carrier), tiny_net()
    values = model.body.weight.detach().numpy().copy()
    expected = read_message(
        own_projection(key, CONV_SHAPE), WeightTensor("w", values, Origin("", "Conv", 0, "")), fair=True
    )
    report = Watermark(key, "body").report(model)
    assert report.n_bits == expected.n_bits
    assert report.bit_error_rate == expected.bit_error_rate
    assert report.min_margin == expected.margins.min()
    assert report.mean_margin == pytest.approx(expected.margins.mean())
    assert report.embedding_loss == expected.embedding_loss
    assert report.log10_p == expected.log10_p


def test_report_leaves_the_weights_writable():
    model = tiny_net()
    Watermark(make_key(), "body").report(model)
    with torch.no_grad():
        model.body.weight.mul_(2)


def test_report_shows_the_worst_layer():
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(8, 16, 3))
    key = make_key()
    both = Watermark(key, ["0", "1"]).report(model)
    each = [Watermark(key, name).report(model) for name in ("0", "1")]
    assert [reading.layer for reading in both.layers] == ["0", "1"]
    assert both.bit_error_rate == max(report.bit_error_rate for report in each)
    assert both.min_margin == min(report.min_margin for report in each)


def test_foreign_matrix_can_be_trained_and_read():
    model = nn.Sequential(nn.Conv2d(8, 16, 3))
    mark, optimizer = Watermark(foreign_key(20, 72), strength=0.1), sgd(model)
    mark.attach(optimizer, model)
    for _ in range(300):
        optimizer.zero_grad()
        optimizer.step()
    assert mark.report(model).bit_error_rate == 0


def test_a_replaced_layer_is_noticed():
    model, mark = tiny_net(), Watermark(make_key(), "body")
    mark.add_grad_(model)
    model.body = nn.Conv2d(8, 16, 3)
    mark.add_grad_(model)
    assert model.body.weight.grad is not None


def test_repr_shows_no_secret():
    key = make_key()
    assert repr(Watermark(key, "body")) == "Watermark(target_modules=('body',), strength=0.01)"
    assert "seed" not in str(Watermark(key, "body").report(tiny_net()))
