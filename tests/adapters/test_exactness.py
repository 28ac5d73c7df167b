"""One optimizer step equals the full-batch reference in every training set-up, and the usual mistake does not.

The bound: an update deviates from the float64 reference by at most 1e-5 of its norm, which is float32's rounding of the
weights and through this network; each mistake is off by a hundred times that at the least.
"""

from __future__ import annotations

import functools

import pytest
import torch
from onnxmark_torch import Watermark
from torch import nn

from onnxmark.schemes.projection.projection import own_projection
from tests.adapters.reference import LAYER, batch, error, parameters, sgd, stepped, subject, task_loss
from tests.adapters.subjects import CARRIERS, make_key

EXACT = 1e-5
WRONG = 100 * EXACT
STRENGTH = 0.5
SCALE = 1024.0
CLIP = 0.25
KEY = make_key()
MARKS = ((LAYER, KEY, STRENGTH),)


def marked(strength=STRENGTH, key=KEY, layer=LAYER, **options):
    return Watermark(key, layer, strength, **options)


def micro_batches():
    images, labels = batch()
    return [(images[start : start + 4], labels[start : start + 4]) for start in range(0, 12, 4)]


def accumulate_then_add(model, optimizer):
    for images, labels in micro_batches():
        (task_loss(model, images, labels) / 3).backward()
    marked().add_grad_(model)
    optimizer.step()


def accumulate_a_share_of_the_loss(model, optimizer):
    for images, labels in micro_batches():
        ((task_loss(model, images, labels) + marked().loss(model)) / 3).backward()
    optimizer.step()


def accumulate_the_whole_loss(model, optimizer):
    for images, labels in micro_batches():
        (task_loss(model, images, labels) / 3 + marked().loss(model)).backward()
    optimizer.step()


def add_between_micro_batches(model, optimizer):
    for images, labels in micro_batches():
        (task_loss(model, images, labels) / 3).backward()
        marked().add_grad_(model)
    optimizer.step()


def scaled_backward(model):
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    scaler.scale(task_loss(model, *batch())).backward()
    return scaler


def unscale_then_add(model, optimizer):
    scaler = scaled_backward(model)
    scaler.unscale_(optimizer)
    marked().add_grad_(model)
    scaler.step(optimizer)


def attached_under_a_scaler(model, optimizer):
    marked().attach(optimizer, model)
    scaled_backward(model).step(optimizer)


def unscale_then_attached(model, optimizer):
    marked().attach(optimizer, model)
    scaler = scaled_backward(model)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)


def add_before_unscaling(model, optimizer):
    scaler = scaled_backward(model)
    marked().add_grad_(model)
    scaler.step(optimizer)


def clip_then_attached(model, optimizer):
    marked().attach(optimizer, model)
    task_loss(model, *batch()).backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()


def add_then_clip(model, optimizer):
    task_loss(model, *batch()).backward()
    marked().add_grad_(model)
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()


def loss_then_clip(model, optimizer):
    (task_loss(model, *batch()) + marked().loss(model)).backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()


def attached(model, optimizer):
    marked().attach(optimizer, model)
    task_loss(model, *batch()).backward()
    optimizer.step()


def loss_in_the_loop(model, optimizer):
    (task_loss(model, *batch()) + marked().loss(model)).backward()
    optimizer.step()


def step_then_add(model, optimizer):
    task_loss(model, *batch()).backward()
    optimizer.step()
    marked().add_grad_(model)


def add_then_zero(model, optimizer):
    marked().add_grad_(model)
    optimizer.zero_grad()
    task_loss(model, *batch()).backward()
    optimizer.step()


def closure(model, optimizer):
    def compute():
        optimizer.zero_grad()
        loss = task_loss(model, *batch())
        loss.backward()
        marked().add_grad_(model)
        return loss

    optimizer.step(compute)


def add_before_a_closure(model, optimizer):
    def compute():
        optimizer.zero_grad()
        loss = task_loss(model, *batch())
        loss.backward()
        return loss

    marked().add_grad_(model)
    optimizer.step(compute)


def deviation(step, make_optimizer=sgd, **reference):
    model = subject()
    step(model, make_optimizer(model))
    return error(parameters(model), stepped(MARKS, make_optimizer, **reference))


@pytest.mark.parametrize(
    "step",
    [
        attached,
        loss_in_the_loop,
        accumulate_then_add,
        accumulate_a_share_of_the_loss,
        unscale_then_add,
        attached_under_a_scaler,
        unscale_then_attached,
        closure,
    ],
    ids=lambda step: step.__name__,
)
def test_right(step):
    assert deviation(step) <= EXACT


@pytest.mark.parametrize(
    "step",
    [
        accumulate_the_whole_loss,
        add_between_micro_batches,
        add_before_unscaling,
        step_then_add,
        add_then_zero,
        add_before_a_closure,
    ],
    ids=lambda step: step.__name__,
)
def test_wrong(step):
    assert deviation(step) > WRONG


def test_clipping_leaves_the_mark_alone():
    assert deviation(clip_then_attached, clip=CLIP) <= EXACT


@pytest.mark.parametrize("step", [add_then_clip, loss_then_clip], ids=lambda step: step.__name__)
def test_a_clipped_mark_is_another_mark(step):
    assert deviation(step, clip=CLIP) > WRONG


OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    # The first step of Adam is close to a sign: with a small eps, roundings of gradients near 0 become whole steps.
    "adam": functools.partial(torch.optim.Adam, lr=0.01, eps=1e-2),
    "adamw": functools.partial(torch.optim.AdamW, lr=0.01, eps=1e-2),
}


@pytest.mark.parametrize("kind", ["fused", "foreach"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fused_and_foreach_optimizers(name, kind):
    model = subject()
    attached(model, OPTIMIZERS[name](model.parameters(), **{kind: True}))
    expected = stepped(MARKS, lambda net: OPTIMIZERS[name](net.parameters(), foreach=False, fused=False))
    assert error(parameters(model), expected) <= EXACT
    late = subject()
    step_then_add(late, OPTIMIZERS[name](late.parameters(), **{kind: True}))
    assert error(parameters(late), expected) > WRONG


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fused_optimizer_under_a_scaler_is_refused_until_unscaled(name):
    model = subject()
    optimizer = OPTIMIZERS[name](model.parameters(), fused=True)
    with pytest.raises(ValueError, match=r"call scaler.unscale_\(optimizer\) before"):
        attached_under_a_scaler(model, optimizer)
    sound = subject()
    unscale_then_attached(sound, OPTIMIZERS[name](sound.parameters(), fused=True))
    expected = stepped(MARKS, lambda net: OPTIMIZERS[name](net.parameters(), foreach=False, fused=False))
    assert error(parameters(sound), expected) <= EXACT


def test_autocast_rounds_the_task_and_not_the_mark():
    def backward(model):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            task_loss(model, *batch()).backward()

    unmarked, model = subject(), subject()
    backward(unmarked)
    expected = stepped(MARKS, gradients=[parameter.grad for parameter in unmarked.parameters()])
    optimizer = sgd(model)
    marked().attach(optimizer, model)
    backward(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        optimizer.step()
    assert error(parameters(model), expected) <= EXACT


def test_scores_in_bfloat16_are_another_mark():
    model = subject()
    projection = own_projection(KEY, tuple(model.body.weight.shape))
    rows = torch.from_numpy(projection.rows(0, KEY.n_bits)).float()
    message = torch.tensor(KEY.message, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flat = model.body.weight.reshape(-1)
        scores = rows @ (flat - flat.mean())
        mark = nn.functional.binary_cross_entropy_with_logits(scores, message, reduction="sum")
    (STRENGTH * mark + task_loss(model, *batch())).backward()
    sgd(model).step()
    assert scores.dtype == torch.bfloat16
    assert error(parameters(model), stepped(MARKS)) > WRONG


# torch warns about its own use of torch.jit while it loads the compiler.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("step", [attached, loss_in_the_loop], ids=lambda step: step.__name__)
def test_a_compiled_model(step):
    model = subject()
    compiled = torch.compile(model, backend="aot_eager")
    step(compiled, sgd(compiled))
    assert error(parameters(model), stepped(MARKS)) <= EXACT


@pytest.mark.parametrize("carrier", CARRIERS)
def test_several_keys_add_up(carrier):
    keys = [make_key(label=label, carrier=carrier) for label in ("one", "two")]
    model = subject()
    optimizer = sgd(model)
    handles = [marked(key=key).attach(optimizer, model) for key in keys]
    task_loss(model, *batch()).backward()
    optimizer.step()
    expected = stepped([(LAYER, key, STRENGTH) for key in keys])
    assert error(parameters(model), expected) <= EXACT
    only_one = subject()
    optimizer = sgd(only_one)
    marked(key=keys[0]).attach(optimizer, only_one)
    task_loss(only_one, *batch()).backward()
    optimizer.step()
    assert error(parameters(only_one), expected) > WRONG
    assert len({handle.id for handle in handles}) == 2


def test_several_layers():
    key = make_key((10, 16), carrier="full")
    marks = ((LAYER, KEY, STRENGTH), ("head", key, 0.1))
    model = subject()
    optimizer = sgd(model)
    for layer, key_, strength in marks:
        marked(strength, key_, layer).attach(optimizer, model)
    task_loss(model, *batch()).backward()
    optimizer.step()
    assert error(parameters(model), stepped(marks)) <= EXACT


def test_a_removed_mark_pulls_no_more():
    model = subject()
    optimizer = sgd(model)
    marked().attach(optimizer, model).remove()
    task_loss(model, *batch()).backward()
    optimizer.step()
    assert error(parameters(model), stepped(())) <= EXACT
    assert error(parameters(model), stepped(MARKS)) > WRONG
