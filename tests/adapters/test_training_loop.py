"""The loop against NumPy, against itself after an interruption, and against whatever must not happen on the way."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxmark_torch import Watermark
from onnxmark_torch.augmentation import CropAndFlip
from onnxmark_torch.checkpoints import CheckpointError
from onnxmark_torch.data import DataSet, Examples
from onnxmark_torch.objectives import SoftLabels, hard_labels
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.problems import TargetError
from onnxmark_torch.tasks import ImageTask, accuracy
from onnxmark_torch.training import Hooks, evaluate, logits_of, train
from scipy.special import log_softmax, softmax
from torch import nn

from onnxmark.schemes.projection.projection import own_projection
from tests.adapters.subjects import make_key, tiny_net

N_CLASSES = 3
PLAN = TrainingPlan(epochs=4, batch_size=8, rate=0.05, seed=7)
HOST_SHAPE = (16, 8, 3, 3)


def task(n_training: int = 30, augmentation: CropAndFlip | None = None) -> ImageTask:
    rng = np.random.default_rng(0)

    def part(count: int) -> Examples:
        images = rng.integers(0, 256, (count, 1, 6, 6)).astype(np.uint8)
        return Examples(images, rng.integers(0, N_CLASSES, count), tuple("abc"))

    return ImageTask.of("noise", DataSet(part(n_training), part(21)), augmentation)


class Linear(nn.Module):
    """Softmax regression, whose gradient anybody can write down; with dropout, randomness of its own."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.fc = nn.Linear(36, N_CLASSES)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.dropout(images.flatten(1)))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(one[name], other[name]) for name in one)


def numpy_training(model: Linear, made: ImageTask, plan: TrainingPlan, key=None, strength: float = 0.0):
    """Softmax regression by Nesterov's method, float64, with the mark's gradient in closed form.

    Returns:
        Weights (classes, 36), biases (classes,), and the mean loss of each epoch.
    """
    w, b = (tensor.detach().numpy().astype(np.float64) for tensor in (model.fc.weight, model.fc.bias))
    inputs = made.inputs(torch.tensor(made.training.images)).flatten(1).numpy().astype(np.float64)
    targets = np.eye(N_CLASSES)[made.training.labels]
    moving_w, moving_b, losses = np.zeros_like(w), np.zeros_like(b), []
    n_steps = len(inputs) // plan.batch_size
    for epoch in range(plan.epochs):
        order = torch.randperm(len(inputs), generator=plan.generator(epoch)).numpy()
        losses.append(0.0)
        for step in range(n_steps):
            chosen = order[step * plan.batch_size : (step + 1) * plan.batch_size]
            x, t = inputs[chosen], targets[chosen]
            logits = x @ w.T + b
            losses[-1] += float(-(t * log_softmax(logits, axis=1)).sum(axis=1).mean()) / n_steps
            error = (softmax(logits, axis=1) - t) / len(x)
            grad_w, grad_b = error.T @ x, error.sum(axis=0)
            if key is not None:
                projection = own_projection(key, w.shape)
                scores = projection.scores(w.astype(np.float32))
                grad_w = grad_w + strength * projection.adjoint(1 / (1 + np.exp(-scores)) - projection.message)
            grad_w, grad_b = grad_w + plan.weight_decay * w, grad_b + plan.weight_decay * b
            rate = plan.rate * plan.fall ** sum(
                epoch * n_steps + step >= share * plan.epochs * n_steps - 1e-9 for share in plan.milestones
            )
            moving_w, moving_b = plan.momentum * moving_w + grad_w, plan.momentum * moving_b + grad_b
            w, b = w - rate * (grad_w + plan.momentum * moving_w), b - rate * (grad_b + plan.momentum * moving_b)
    return w, b, losses


class TestAgainstNumpy:
    @pytest.mark.parametrize("marked", [False, True])
    @pytest.mark.parametrize("momentum", [0.0, 0.9])
    def test_softmax_regression(self, marked, momentum):
        plan = replace(PLAN, momentum=momentum, weight_decay=0.01)
        key = make_key((N_CLASSES, 36), n_bits=8, generator="gaussian") if marked else None
        model = Linear()
        w, b, losses = numpy_training(model, task(), plan, key, 0.3)
        history = train(model, task(), plan, None if key is None else Watermark(key, "fc", 0.3))
        np.testing.assert_allclose(model.fc.weight.detach().numpy(), w, atol=2e-5)
        np.testing.assert_allclose(model.fc.bias.detach().numpy(), b, atol=2e-5)
        np.testing.assert_allclose([record.loss for record in history.epochs], losses, atol=1e-4)

    def test_the_score_is_that_of_the_test_images(self):
        model, made = Linear(), task()
        history = train(model, made, PLAN)
        inputs = (made.test.images.reshape(-1, 36) - made.mean[0]) / made.deviation[0]
        logits = inputs @ model.fc.weight.detach().numpy().T + model.fc.bias.detach().numpy()
        assert history.score == pytest.approx(np.mean(logits.argmax(axis=1) == made.test.labels), abs=1e-12)
        np.testing.assert_allclose(logits_of(model, made, made.test).numpy(), logits, atol=1e-4)

    def test_logits_of_many_images_come_in_their_order(self):
        model, made = Linear(), task(1203)
        inputs = made.inputs(torch.tensor(made.training.images))
        torch.testing.assert_close(logits_of(model, made, made.training), model(inputs).detach(), atol=1e-5, rtol=1e-5)


class TestDeterminism:
    def run(self, plan: TrainingPlan = PLAN, **options) -> tuple[dict[str, torch.Tensor], object]:
        model = tiny_net()
        history = train(model, task(augmentation=CropAndFlip(1)), plan, **options)
        return weights(model), history

    def test_the_same_seed_gives_the_same_weights_and_history(self):
        (one, first), (other, second) = self.run(), self.run()
        assert_same(one, other)
        assert first == second

    def test_another_seed_gives_others(self):
        assert differ(self.run()[0], self.run(replace(PLAN, seed=8))[0])

    def test_the_callers_generator_neither_matters_nor_moves(self):
        model = Linear(dropout=0.5)
        torch.manual_seed(123)
        state = torch.get_rng_state()
        train(model, task(), PLAN)
        assert torch.equal(torch.get_rng_state(), state)
        again = Linear(dropout=0.5)
        torch.manual_seed(456)
        train(again, task(), PLAN)
        assert_same(weights(model), weights(again))

    def test_dropout_differs_from_epoch_to_epoch(self):
        seen = []
        model = Linear(dropout=0.5)
        model.dropout.register_forward_hook(lambda module, args, result: seen.append(result == 0))
        train(model, task(8), replace(PLAN, epochs=2))
        assert not torch.equal(seen[0], seen[1])

    def test_images_come_in_another_order_every_epoch_and_each_once(self):
        seen: list[bytes] = []

        def objective(logits, inputs, labels):
            seen.extend(image.numpy().tobytes() for image in inputs)
            return hard_labels(logits, inputs, labels)

        train(Linear(), task(32), replace(PLAN, epochs=2), objective=objective)
        first, second = seen[:32], seen[32:]
        assert len(set(first)) == 32
        assert sorted(first) == sorted(second)
        assert first != second

    def test_a_mark_of_no_strength_is_no_mark(self):
        marked, control = tiny_net(), tiny_net()
        train(marked, task(), PLAN, Watermark(make_key(HOST_SHAPE), "body", 0.0))
        train(control, task(), PLAN)
        assert_same(weights(marked), weights(control))


class Interruption(Exception):
    """What ends a training half-way."""


def interrupt_after(n_epochs: int) -> Hooks:
    count = []

    def after_epoch(model: nn.Module) -> None:
        count.append(1)
        if len(count) > n_epochs:
            raise Interruption

    return Hooks(after_epoch=after_epoch)


class TestCheckpoints:
    def mark(self) -> Watermark:
        # A strength that depends on the step shows whether the mark's own state is kept.
        return Watermark(make_key(HOST_SHAPE), "body", lambda step: 0.01 * (step % 7))

    @pytest.mark.parametrize("n_epochs", [0, 1, 3])
    @pytest.mark.parametrize("marked", [False, True])
    def test_an_interrupted_training_ends_as_if_it_had_not_been(self, tmp_path, n_epochs, marked):
        path, made = tmp_path / "new" / "state", task(augmentation=CropAndFlip(1))
        whole = tiny_net()
        history = train(whole, made, PLAN, self.mark() if marked else None, evaluate_every=1)
        with pytest.raises(Interruption):
            train(
                tiny_net(),
                made,
                PLAN,
                self.mark() if marked else None,
                hooks=interrupt_after(n_epochs),
                evaluate_every=1,
                checkpoint=path,
            )
        resumed = tiny_net(seed=99)
        if n_epochs == 0:
            resumed = tiny_net()
        again = train(resumed, made, PLAN, self.mark() if marked else None, evaluate_every=1, checkpoint=path)
        assert_same(weights(resumed), weights(whole))
        assert again == history
        assert not resumed.training

    def test_a_finished_one_is_only_read(self, tmp_path):
        path, model = tmp_path / "state", tiny_net()
        history = train(model, task(), PLAN, checkpoint=path)
        content = path.read_bytes()
        again = tiny_net(seed=99)
        assert train(again, task(), PLAN, checkpoint=path) == history
        assert_same(weights(again), weights(model))
        assert not again.training
        assert path.read_bytes() == content
        assert [each.name for each in tmp_path.iterdir()] == ["state"]

    @pytest.mark.parametrize(
        ("plan", "marked"), [(replace(PLAN, seed=8), False), (replace(PLAN, epochs=5), False), (PLAN, True)]
    )
    def test_that_of_another_training_is_refused(self, tmp_path, plan, marked):
        path = tmp_path / "state"
        train(tiny_net(), task(), PLAN, checkpoint=path)
        with pytest.raises(CheckpointError, match="belongs to another training"):
            train(tiny_net(), task(), plan, self.mark() if marked else None, checkpoint=path)

    def test_that_of_another_model_is_refused(self, tmp_path):
        train(tiny_net(), task(), PLAN, checkpoint=tmp_path / "state")
        with pytest.raises(CheckpointError, match=r"does not fit the model \(Error\(s\) in loading"):
            train(Linear(), task(), PLAN, checkpoint=tmp_path / "state")

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(50)])
    def test_a_broken_file_is_refused(self, tmp_path, content):
        (tmp_path / "state").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"cannot be read .*delete it to start anew"):
            train(tiny_net(), task(), PLAN, checkpoint=tmp_path / "state")

    def test_a_pickle_is_not_run(self, tmp_path):
        trap = tmp_path / "sprung"
        for write in (torch.save, lambda state, path: path.write_bytes(pickle.dumps(state))):
            write(Trap(trap), tmp_path / "state")
            with pytest.raises(CheckpointError, match="cannot be read"):
                train(tiny_net(), task(), PLAN, checkpoint=tmp_path / "state")
        assert not trap.exists()

    @pytest.mark.parametrize("state", [{"weights": torch.zeros(2)}, torch.zeros(3)])
    def test_another_file_of_torch_is_refused(self, tmp_path, state):
        torch.save(state, tmp_path / "state")
        with pytest.raises(CheckpointError, match="some other file of torch"):
            train(tiny_net(), task(), PLAN, checkpoint=tmp_path / "state")


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


class TestHooks:
    def test_they_come_in_order_and_see_what_they_should(self):
        model, order = Linear(), []
        before = {}

        def before_step(called: nn.Module) -> None:
            assert called is model
            before.update(weights(called))
            order.append("before")

        def after_step(called: nn.Module) -> None:
            assert differ(weights(called), before)
            order.append("after")

        hooks = Hooks(before_step, after_step, lambda called: order.append("epoch"))
        train(model, task(16), replace(PLAN, epochs=2), hooks=hooks)
        assert order == ["before", "after", "before", "after", "epoch"] * 2

    def test_before_step_comes_before_the_mark_which_adds_to_it(self):
        key, model = make_key(HOST_SHAPE), tiny_net()
        mark, alone = Watermark(key, "body", 0.1), copy.deepcopy(model)
        alone.body.weight.grad = torch.zeros_like(alone.body.weight)
        Watermark(key, "body", 0.1).add_grad_(alone)
        start = model.body.weight.detach().clone()

        def no_gradient(called: nn.Module) -> None:
            for parameter in called.parameters():
                parameter.grad = torch.zeros_like(parameter)

        plan = replace(PLAN, epochs=1, momentum=0.0, weight_decay=0.0, rate=1.0, milestones=())
        train(model, task(8), plan, mark, hooks=Hooks(before_step=no_gradient))
        torch.testing.assert_close(model.body.weight.detach(), start - alone.body.weight.grad)

    def test_a_mask_holds(self):
        model = Linear()

        def mask(called: nn.Module) -> None:
            with torch.no_grad():
                called.fc.weight[:, ::2] = 0

        train(model, task(), PLAN, hooks=Hooks(after_step=mask))
        assert not bool(model.fc.weight[:, ::2].any())
        assert bool(model.fc.weight[:, 1::2].all())


class TestTheRest:
    def test_frozen_parameters_stay_and_the_others_move(self):
        model = tiny_net()
        model.stem.requires_grad_(False)
        before = weights(model)
        train(model, task(), PLAN)
        after = weights(model)
        assert torch.equal(after["stem.weight"], before["stem.weight"])
        assert not torch.equal(after["head.weight"], before["head.weight"])

    def test_a_mark_in_a_frozen_layer_is_refused_before_anything_happens(self):
        model = tiny_net()
        model.body.requires_grad_(False)
        before = weights(model)
        with pytest.raises(TargetError, match="frozen"):
            train(model, task(), PLAN, Watermark(make_key(HOST_SHAPE), "body"))
        assert_same(weights(model), before)

    def test_the_rate_and_the_epochs_asked_about(self):
        history = train(Linear(), task(), replace(PLAN, epochs=5), evaluate_every=2)
        assert [record.epoch for record in history.epochs] == [1, 2, 3, 4, 5]
        assert [record.score is not None for record in history.epochs] == [False, True, False, True, True]
        # Three steps an epoch: rates fall at steps 4.5, 9 and 12 of 15.
        assert [record.rate for record in history.epochs] == pytest.approx([0.05, 0.01, 0.01, 0.002, 0.0004])
        assert history.best_score == max(record.score for record in history.epochs if record.score is not None)
        assert history.loss == history.epochs[-1].loss
        assert history.seconds == pytest.approx(sum(record.seconds for record in history.epochs))
        assert min(record.seconds for record in history.epochs) > 0

    def test_training_mode_inside_and_evaluation_mode_afterwards(self):
        modes = []
        model = tiny_net().eval()
        train(model, task(), PLAN, hooks=Hooks(after_step=lambda called: modes.append(called.training)))
        assert modes == [True] * 12
        assert not model.training

    def test_the_test_images_are_never_trained_on(self):
        model, before = tiny_net(), tiny_net()
        evaluate(model, task())
        assert_same(weights(model), weights(before))

    def test_any_object_with_the_members_is_a_task(self):
        class Own:
            """A user's own: no base class."""

            name, n_classes = "own", N_CLASSES
            training, test = task().training, task().test

            def inputs(self, images):
                return images.float() / 255

            def augmented(self, images, generator):
                return images.flip(3)

            def score(self, logits, labels):
                return -float(nn.functional.cross_entropy(logits, labels))

        history = train(Linear(), Own(), PLAN, evaluate_every=1)
        assert history.score < 0

    def test_it_learns(self):
        pytest.importorskip("sklearn")
        from onnxmark_torch.networks import ConvNet
        from onnxmark_torch.tasks import digits

        torch.manual_seed(0)
        model = ConvNet(width=16)
        history = train(model, digits(), TrainingPlan(epochs=6, batch_size=32))
        assert history.score > 0.9
        assert history.epochs[0].loss > history.loss


class TestProgress:
    def test_nothing_where_nobody_watches(self, capsys):
        train(Linear(), task(), PLAN)
        assert capsys.readouterr() == ("", "")

    def test_a_bar_on_a_terminal_unless_told_otherwise(self, capsys, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        train(Linear(), task(), PLAN, show=False)
        assert capsys.readouterr() == ("", "")
        train(Linear(), task(800), replace(PLAN, epochs=1))
        said, drawn = capsys.readouterr()
        assert not said
        assert "noise" in drawn


class TestObjectives:
    def batch(self):
        rng = torch.Generator().manual_seed(0)
        return torch.randn(9, N_CLASSES, generator=rng), torch.randn(9, 1, 6, 6, generator=rng), torch.arange(9) % 3

    def test_hard_labels_are_scipys_cross_entropy(self):
        logits, inputs, labels = self.batch()
        expected = -log_softmax(logits.numpy(), axis=1)[np.arange(9), labels.numpy()].mean()
        assert float(hard_labels(logits, inputs, labels)) == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize(("temperature", "share"), [(1.0, 1.0), (4.0, 1.0), (3.0, 0.7), (2.0, 0.0)])
    def test_soft_labels_are_scipys(self, temperature, share):
        logits, inputs, labels = self.batch()
        teacher = Linear().eval()
        wanted = softmax(teacher(inputs).detach().numpy().astype(np.float64) / temperature, axis=1)
        soft = -(wanted * log_softmax(logits.numpy() / temperature, axis=1)).sum(axis=1).mean() * temperature**2
        hard = -log_softmax(logits.numpy(), axis=1)[np.arange(9), labels.numpy()].mean()
        found = SoftLabels(teacher, temperature, share)(logits, inputs, labels)
        assert float(found) == pytest.approx(share * soft + (1 - share) * hard, abs=1e-5)

    def test_a_student_that_agrees_has_nothing_to_learn(self):
        _, inputs, labels = self.batch()
        teacher = Linear().eval()
        logits = teacher(inputs).detach().requires_grad_()
        SoftLabels(teacher, 3.0)(logits, inputs, labels).backward()
        torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-6, rtol=0)

    def test_the_teacher_gets_no_gradient(self):
        logits, inputs, labels = self.batch()
        teacher = Linear().eval()
        SoftLabels(teacher)(logits.requires_grad_(), inputs, labels).backward()
        assert all(parameter.grad is None for parameter in teacher.parameters())

    def test_mistakes(self):
        with pytest.raises(ValueError, match=r"training mode; call teacher\.eval\(\)"):
            SoftLabels(Linear())
        for temperature, share in ((0.0, 1.0), (1.0, 1.1), (1.0, -0.1), (float("nan"), 1.0)):
            with pytest.raises(ValueError, match="temperature must be above 0 and share from 0 to 1"):
                SoftLabels(Linear().eval(), temperature, share)

    def test_accuracy_of_nothing_right(self):
        assert accuracy(torch.eye(3), torch.tensor([1, 2, 0])) == 0
