"""Strengths over steps, the stop at a margin, the cap and the state that resuming needs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnxmark_torch import CosineDecay, MarginStop, OffAfter, WarmUp, Watermark

from tests.adapters.reference import LAYER, batch, mark_gradient, sgd, subject, task_loss
from tests.adapters.subjects import CARRIERS, make_key

KEY = make_key()


def strengths(schedule, n_steps):
    return [schedule(step) for step in range(n_steps)]


def test_warm_up_rises_in_equal_steps():
    assert strengths(WarmUp(0.8, 4), 6) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_cosine_decay_ends_at_its_floor():
    half = math.sqrt(0.5)
    plain = [1, (1 + half) / 2, 0.5, (1 - half) / 2, 0, 0]
    assert strengths(CosineDecay(1.0, 4), 6) == pytest.approx(plain)
    assert strengths(CosineDecay(2.0, 4, floor=0.5), 6) == pytest.approx([1 + value for value in plain])


def test_off_after():
    assert strengths(OffAfter(0.3, 2), 4) == [0.3, 0.3, 0, 0]


def test_schedules_nest_and_any_function_is_one():
    assert strengths(OffAfter(WarmUp(0.2, 2), 3), 4) == pytest.approx([0.1, 0.2, 0.2, 0])
    assert WarmUp(lambda step: step + 1.0, 2)(1) == 2.0


@given(st.integers(1, 50), st.floats(0, 1), st.integers(0, 100))
def test_a_cosine_stays_between_floor_and_strength(steps, floor, step):
    value = CosineDecay(0.7, steps, floor)(step)
    assert 0.7 * floor - 1e-12 <= value <= 0.7 + 1e-12
    assert value >= CosineDecay(0.7, steps, floor)(step + 1) - 1e-12


def test_schedules_show_what_they_do():
    assert repr(OffAfter(WarmUp(0.01, 5), 9)) == "OffAfter(strength=WarmUp(strength=0.01, steps=5), steps=9)"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WarmUp(0.1, 0), "a number of optimizer steps must be at least 1, not 0"),
        (lambda: CosineDecay(0.1, -1), "a number of optimizer steps must be at least 1, not -1"),
        (lambda: CosineDecay(0.1, 1, 1.5), r"floor must lie in \[0, 1\], not 1.5"),
        (lambda: OffAfter(0.1, 0), "a number of optimizer steps must be at least 1, not 0"),
        (lambda: MarginStop(0), "target must be above 0 and finite, not 0"),
        (lambda: MarginStop(math.nan), "target must be above 0 and finite, not nan"),
        (lambda: MarginStop(1, resume=2), "resume must lie between 0 and the target 1, not 2"),
        (lambda: MarginStop(1, every=0), "a number of optimizer steps must be at least 1, not 0"),
        (lambda: Watermark(KEY, strength=math.nan), r"strength must be at least 0 and finite, not nan \(step 0\)"),
        (lambda: Watermark(KEY, strength=lambda step: -1.0), r"strength must be at least 0 and finite, not -1"),
        (lambda: Watermark(KEY, cap=0), "cap must be above 0, not 0"),
        (lambda: Watermark(KEY, view="flat"), "view must be 'raw' or 'folded', not 'flat'"),
    ],
)
def test_senseless_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_schedule_that_turns_negative_is_refused_with_its_step():
    mark = Watermark(KEY, LAYER, lambda step: 1.0 - step)
    model = subject()
    mark.add_grad_(model)
    mark.add_grad_(model)
    with pytest.raises(ValueError, match=r"not -1.0 \(step 2\)"):
        mark.add_grad_(model)


def pull(mark, model):
    """What one call adds to the layer's gradient."""
    model.zero_grad()
    mark.add_grad_(model)
    gradient = model.body.weight.grad
    return torch.zeros_like(model.body.weight) if gradient is None else gradient


def test_add_grad_counts_the_steps_and_the_loss_follows_them():
    model = subject()
    mark, unit = Watermark(KEY, LAYER, WarmUp(1.0, 2)), Watermark(KEY, LAYER, 1.0)
    whole = unit.loss(model).item()
    for step, share in enumerate((0.5, 1.0, 1.0)):
        assert mark.step == step
        assert mark.loss(model).item() == pytest.approx(share * whole)
        torch.testing.assert_close(pull(mark, model), share * pull(unit, model))


def test_strength_0_leaves_no_gradient():
    model = subject()
    Watermark(KEY, LAYER, 0.0).add_grad_(model)
    assert model.body.weight.grad is None


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_stop_reads_the_margin_that_a_report_shows(carrier):
    model = subject()
    for target, stops in ((1.001, False), (0.999, True)):
        mark = Watermark(make_key(carrier=carrier), LAYER, 0.3)
        optimizer = sgd(model)
        while mark.report(model).min_margin < 0.4:
            pull(mark, model)
            optimizer.step()
        mark.stop = MarginStop(target * mark.report(model).min_margin, every=1)
        pull(mark, model)
        assert mark.state_dict()["stopped"] == (["body"] if stops else [])


def test_between_the_thresholds_a_layer_stays_as_it_is():
    stop = MarginStop(2.0, resume=1.0)
    assert [stop.is_enough(margin, stopped=False) for margin in (0.5, 1.5, 2.0)] == [False, False, True]
    assert [stop.is_enough(margin, stopped=True) for margin in (0.5, 1.0, 1.5)] == [False, True, True]
    assert [MarginStop(2.0).is_enough(margin, stopped=True) for margin in (1.49, 1.5)] == [False, True]


def test_a_stopped_layer_is_left_alone_until_its_margin_falls():
    model, optimizer = subject(), None
    mark = Watermark(KEY, LAYER, 0.3, stop=MarginStop(0.5, resume=0.25, every=2))
    optimizer = sgd(model)
    for _ in range(200):
        if mark.state_dict()["stopped"]:
            break
        pull(mark, model)
        optimizer.step()
    assert mark.state_dict()["stopped"] == ["body"]
    assert pull(mark, model).count_nonzero() == 0
    with torch.no_grad():
        model.body.weight.copy_(subject().body.weight)
    pulls = [bool(pull(mark, model).count_nonzero()) for _ in range(2)]
    assert pulls[-1], "the margin is read every second step"
    assert mark.state_dict()["stopped"] == []


@pytest.mark.parametrize("cap", [0.1, 1.0, 1e9])
def test_a_cap_bounds_the_mark_by_the_tasks_gradient(cap):
    model = subject()
    task_loss(model, *batch()).backward()
    task = model.body.weight.grad.double()
    values = model.body.weight.detach().double().numpy()
    mark = mark_gradient(KEY, values, 1.0)
    expected = mark * min(1.0, cap * float(task.norm()) / np.linalg.norm(mark))
    Watermark(KEY, LAYER, 1.0, cap=cap).add_grad_(model)
    added = (model.body.weight.grad.double() - task).numpy()
    np.testing.assert_allclose(added, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max() + 1e-7)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_capped_mark_is_silent_where_the_task_is(set_to_none):
    model = subject()
    task_loss(model, *batch()).backward()
    model.zero_grad(set_to_none=set_to_none)
    Watermark(KEY, LAYER, 1.0, cap=1.0).add_grad_(model)
    assert model.body.weight.grad.count_nonzero() == 0


def test_a_resumed_mark_goes_on_where_it_was():
    def fresh():
        return Watermark(KEY, LAYER, WarmUp(1.0, 4), stop=MarginStop(0.5, every=5))

    model, mark = subject(), fresh()
    pull(mark, model)
    mark.load_state_dict({"step": 6, "stopped": ["body"]})
    resumed = fresh()
    resumed.load_state_dict(mark.state_dict())
    assert resumed.state_dict() == {"step": 6, "stopped": ["body"]}
    assert pull(resumed, model).count_nonzero() == 0
    resumed.load_state_dict({"step": 2, "stopped": []})
    torch.testing.assert_close(pull(resumed, model), 0.75 * pull(Watermark(KEY, LAYER, 1.0), model))


def test_a_state_holds_nothing_of_the_key_and_survives_torch_save(tmp_path):
    mark, model = Watermark(KEY, LAYER), subject()
    mark.add_grad_(model)
    torch.save(mark.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == {"step": 1, "stopped": []}


@pytest.mark.parametrize(
    "state", [{}, {"step": 1}, {"step": -1, "stopped": []}, {"step": "1", "stopped": []}, {"step": 1, "stopped": "x"}]
)
def test_something_else_is_not_a_state(state):
    with pytest.raises(ValueError, match="a watermark's state has a step and a list of stopped layers, not"):
        Watermark(KEY).load_state_dict(state)
