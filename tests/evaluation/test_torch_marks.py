"""Marks of each scheme, trained in each way that there is; the others say which ways there are."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from onnxmark_torch import ConstantWeightMark, Watermark
from onnxmark_torch.evaluation.marks import effort, trained
from onnxmark_torch.evaluation.supplies import portion, untrained
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.recipes import distill_to_embed, fine_tune_to_embed, train_to_embed
from onnxmark_torch.structural import structural_evidence, structural_key
from onnxmark_torch.training import logits_of, train

from onnxmark.errors import LaboratoryError
from onnxmark.evaluation import Architecture, Embedding, Order, TaskPlan, Training
from onnxmark.evaluation.loads import TAUGHT
from onnxmark.evaluation.plan import SchemePlan
from onnxmark.keys import Carrier, Secret
from onnxmark.schemes.answers.ingrain import IngrainOptions, IngrainScheme
from onnxmark.schemes.answers.trigger import TriggerOptions, TriggerScheme
from onnxmark.schemes.constant_weight.parameters import Options
from onnxmark.schemes.constant_weight.scheme import ConstantWeightScheme
from onnxmark.schemes.projection.scheme import ProjectionOptions, ProjectionScheme
from onnxmark.schemes.scheme import Answers, Layer

CONV_NET = Architecture("conv-net", (("width", 16),))
PAYLOAD = np.array([1, 0, 0, 1] * 3, dtype=np.uint8)
HOST = Layer(Carrier((16, 16, 3, 3), "conv3.weight"))


def public(key):
    """The key with a public seed, so that a training has the same outcome every time."""
    return replace(key, seed=Secret(bytes(range(32))), salt=bytes(32))


PULLED = public(ProjectionScheme().make_key([HOST], PAYLOAD, ProjectionOptions()))
HELD = public(ConstantWeightScheme().make_key([HOST], PAYLOAD, Options()))


@pytest.fixture(scope="module")
def task():
    return portion(TaskPlan("digits", n_training=320, n_test=60, n_pool=200))


@pytest.fixture(scope="module")
def finished(task):
    order = Order(Embedding.TRAINING, None, Training(3, 16, 0.05), (), 1)
    return trained(order, task, untrained(CONV_NET, task, 1), None)[0]


def ordered(embedding, key, means=(), epochs=1):
    return Order(embedding, key, Training(epochs, 16, 0.02), means, 7)


def make(order, task, finished):
    """As the laboratory does it."""
    if order.embedding is Embedding.FINE_TUNING:
        return trained(order, task, finished, None)
    fresh = untrained(CONV_NET, task, 1)
    return trained(order, task, fresh, finished if order.embedding is Embedding.DISTILLING else None)


EVERY_WAY = (Embedding.TRAINING, Embedding.FINE_TUNING, Embedding.DISTILLING)


@pytest.mark.parametrize("embedding", EVERY_WAY)
def test_a_projection_is_pulled_as_it_will_be_exported(task, finished, embedding):
    model, (history,) = make(ordered(embedding, PULLED, (("strength", 2.0),)), task, finished)
    assert Watermark(PULLED, view="folded").report(model).bit_error_rate == 0
    assert len(history.epochs) == 1


@pytest.mark.parametrize("embedding", EVERY_WAY)
def test_a_word_is_held_as_it_will_be_exported(task, finished, embedding):
    model, (history,) = make(ordered(embedding, HELD, (("every", 2), ("margin", 0.4))), task, finished)
    assert ConstantWeightMark(HELD, view="folded").report(model).n_errors == 0
    assert len(history.epochs) == 1


@pytest.mark.parametrize("embedding", EVERY_WAY)
def test_a_twin_differs_by_the_mark_alone(task, finished, embedding):
    """Without strength a mark pulls nothing: then the two are the same, bit for bit."""
    twin, _ = make(ordered(embedding, None), task, finished)
    unpulled, _ = make(ordered(embedding, PULLED, (("strength", 0.0),)), task, finished)
    for name, values in twin.state_dict().items():
        assert torch.equal(values, unpulled.state_dict()[name])


def test_what_was_given_is_left_as_it_was(task, finished):
    before = {name: values.clone() for name, values in finished.state_dict().items()}
    for embedding in EVERY_WAY:
        make(ordered(embedding, HELD), task, finished)
    assert all(torch.equal(values, finished.state_dict()[name]) for name, values in before.items())


def same(one, other):
    return all(torch.equal(values, other.state_dict()[name]) for name, values in one.state_dict().items())


@pytest.mark.parametrize("key", [None, PULLED], ids=["twin", "marked"])
def test_the_ways_are_the_recipes_of_the_literature(task, finished, key):
    """Bit for bit, with the mark as exporters will fold it."""
    plan = TrainingPlan(1, 16, 0.02, seed=7)
    fresh = untrained(CONV_NET, task, 1)

    def mark():
        return None if key is None else Watermark(key, strength=0.5, view="folded")

    expected = {
        Embedding.TRAINING: train_to_embed(fresh, task, mark(), plan, show=False),
        Embedding.FINE_TUNING: fine_tune_to_embed(finished, task, mark(), plan, show=False),
        Embedding.DISTILLING: distill_to_embed(fresh, finished, task, mark(), plan, show=False),
    }
    means = () if key is None else (("strength", 0.5),)
    for embedding, recipe in expected.items():
        model, (history,) = make(ordered(embedding, key, means), task, finished)
        assert same(model, recipe.model)
        assert history == recipe.history


def test_a_word_is_put_back_as_the_mark_does_it(task, finished):
    by_hand = copy.deepcopy(finished)
    mark = ConstantWeightMark(HELD, margin=0.4, every=2, view="folded")
    train(by_hand, task, TrainingPlan(1, 16, 0.02, seed=7), hooks=mark.hooks, show=False)
    model, _ = make(ordered(Embedding.FINE_TUNING, HELD, (("every", 2), ("margin", 0.4))), task, finished)
    assert same(model, by_hand)


def test_widths_are_pruned_and_trained_again(task):
    deep = untrained(Architecture("vgg", (("stages", 3), ("width", 32))), task, 1)
    images = (task.inputs(torch.tensor(task.test.images[:2])),)
    key = structural_key(deep, images, np.array([1, 0, 1, 1, 0, 1, 0, 0], dtype=np.uint8))
    few = replace(task, training=task.training.first(32))
    model, (history,) = trained(ordered(Embedding.FINE_TUNING, key), few, deep, None)
    assert structural_evidence(model, images, key).n_errors == 0
    assert sum(each.numel() for each in model.parameters()) < sum(each.numel() for each in deep.parameters())
    assert len(history.epochs) == 1


@pytest.fixture(scope="module")
def asking(task, finished):
    """A key with carriers of the pool that the finished network wavers about."""
    inputs = task.inputs(torch.tensor(task.pool.images)).numpy()
    reference = logits_of(finished, task, task.pool).numpy().astype(np.float64)
    return public(IngrainScheme().make_key(inputs, [reference], IngrainOptions(carriers=24)))


@pytest.mark.parametrize(
    ("embedding", "n_trainings"), [(Embedding.TRAINING, 2), (Embedding.FINE_TUNING, 1)], ids=["owner", "thief"]
)
def test_carriers_are_learnt(task, finished, asking, embedding, n_trainings):
    means = (("copies", 6), ("strength", 1.0), ("temperature", 2.0))
    order = Order(embedding, asking, Training(20, 16, 0.05), means, 7)
    model, histories = make(order, task, finished)
    assert len(histories) == n_trainings
    with torch.no_grad():
        scores = model.eval()(torch.from_numpy(np.array(asking.arrays["inputs"]))).double().numpy()
    found = IngrainScheme().extract(asking, Answers(scores.argmax(1), scores))
    assert found.n_errors <= 4
    assert found.log10_p < -4


@pytest.mark.parametrize("embedding", [Embedding.TRAINING, Embedding.FINE_TUNING], ids=["owner", "thief"])
def test_triggers_are_learnt(task, finished, embedding):
    inputs = task.inputs(torch.tensor(task.pool.images)).numpy()[:24]
    key = public(TriggerScheme().make_key(inputs, None, TriggerOptions(task.n_classes)))
    model, (_,) = make(Order(embedding, key, Training(40, 16, 0.05), (("copies", 6),), 7), task, finished)
    found, before = (answered(key, network) for network in (model, finished))
    assert found.n_errors <= 4
    assert found.log10_p < -12
    assert before.chance == 1 - 1 / task.n_classes
    assert before.log10_p > -4


def answered(key, network):
    with torch.no_grad():
        scores = network.eval()(torch.from_numpy(np.array(key.arrays["inputs"]))).double().numpy()
    return TriggerScheme().extract(key, Answers(scores.argmax(1), scores))


@pytest.mark.parametrize("means", [(), (("copies", 2),)], ids=["as usual", "few"])
def test_what_a_mark_takes_is_counted_beforehand(task, finished, asking, means):
    """In steps; to those with an ingrainer's answers comes what he takes to give them."""
    scheme = SchemePlan("ingrained", "ingrain", Embedding.TRAINING, 12, settings=(("carriers", 24),), means=means)
    _, (plain,) = make(ordered(Embedding.TRAINING, None), task, finished)
    _, (ingrainer, host) = make(ordered(Embedding.TRAINING, asking, means), task, finished)
    _, (thief,) = make(ordered(Embedding.FINE_TUNING, asking, means), task, finished)
    assert ingrainer.n_steps > plain.n_steps == 320 // 16
    taken = ingrainer.n_steps + TAUGHT * host.n_steps
    assert effort(scheme, 320) * plain.n_steps == pytest.approx(taken, rel=0.01)
    fine_tuned = replace(scheme, embedding=Embedding.FINE_TUNING)
    assert effort(fine_tuned, 320) * plain.n_steps == pytest.approx(thief.n_steps, rel=0.01)


@pytest.mark.parametrize("scheme", ["projection", "constant-weight", "theirs"])
def test_other_marks_take_no_steps_of_their_own(scheme):
    assert effort(SchemePlan("pulled", scheme, Embedding.TRAINING, 12), 320) == 1


def test_carriers_take_images_kept_apart(task, finished, asking):
    with pytest.raises(LaboratoryError, match=r"keeps no images apart for carriers; give n_pool in \[task\]"):
        make(ordered(Embedding.TRAINING, asking), replace(task, pool=None), finished)


@pytest.mark.parametrize(
    ("key", "embedding", "means", "message"),
    [
        (
            PULLED,
            Embedding.TRAINING,
            {"margin": 1.0},
            "'projection' by training has no 'margin'; its means are strength",
        ),
        (HELD, Embedding.TRAINING, {"strength": 1.0}, "has no 'strength'; its means are every, margin"),
        (HELD, Embedding.TRAINING, {"margin": 2.0}, "a constant weight mark: margin must be in .0, 1."),
        (
            replace(PULLED, scheme="structural"),
            Embedding.TRAINING,
            {},
            "by training here; its marks are embedded by fine",
        ),
        (replace(PULLED, scheme="ingrain"), Embedding.DISTILLING, {}, "are embedded by training, fine-tuning"),
        (
            replace(PULLED, scheme="theirs"),
            Embedding.TRAINING,
            {},
            "only embedding in closed form works with any scheme",
        ),
    ],
)
def test_what_is_not_done_here_says_what_is(task, finished, key, embedding, means, message):
    with pytest.raises(LaboratoryError, match=message):
        make(ordered(embedding, key, tuple(sorted(means.items()))), task, finished)
