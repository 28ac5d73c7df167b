"""The one training loop of recipes, attacks and experiments, so that marked and unmarked differ by the mark only.

A seed decides everything that is drawn: on the CPU the same call gives the same weights, bit for bit, also when the
training was interrupted and taken up again. Whoever needs more than the loop does, hooks into it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.optim import SGD

from onnxmark_torch.checkpoints import Stateful, load_checkpoint, save_checkpoint
from onnxmark_torch.data import Examples
from onnxmark_torch.history import EpochRecord, History
from onnxmark_torch.objectives import Objective, hard_labels
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.progress import Advance, progress_bar
from onnxmark_torch.tasks import Task
from onnxmark_torch.watermark import Watermark

_EVALUATED_AT_ONCE: Final = 500

Hook = Callable[[nn.Module], None]


@dataclass(frozen=True, slots=True)
class Hooks:
    """What else happens while training; each is called with the model.

    Args:
        before_step: Once the gradients are there, before the mark adds its own: change ``.grad``.
        after_step: Once the weights have moved: project or mask them.
        after_epoch: After an epoch's last step, before it is evaluated.
    """

    before_step: Hook | None = None
    after_step: Hook | None = None
    after_epoch: Hook | None = None


_NO_HOOKS: Final = Hooks()


def train(
    model: nn.Module,
    task: Task,
    plan: TrainingPlan,
    watermark: Watermark | None = None,
    *,
    objective: Objective = hard_labels,
    hooks: Hooks = _NO_HOOKS,
    evaluate_every: int = 0,
    checkpoint: Path | None = None,
    show: bool = True,
) -> History:
    """Train a model in place, on the device it is on.

    Args:
        model: The model; parameters that do not require gradients stay as they are. Left in evaluation mode.
        task: What it is for.
        plan: How to train.
        watermark: The mark to train in, whose gradient is added once a step.
        objective: What to minimise besides.
        hooks: What else to do on the way.
        evaluate_every: Ask for the score on the test images after every so many epochs; 0 asks after the last only.
        checkpoint: File that keeps the state after every epoch, one for each training; where it exists, training goes
            on from it.
        show: Draw a progress bar, on a terminal.

    Returns:
        What happened, epoch by epoch.

    Raises:
        TargetError: The mark does not fit the model.
        CheckpointError: The checkpoint cannot be used.
    """
    optimizer = _optimizer(model, plan)
    training, parts = _name(task, plan, watermark), _parts(model, optimizer, watermark)
    done = () if checkpoint is None else load_checkpoint(checkpoint, training, parts)
    data = _OnDevice.of(task.training, _device(model))
    n_steps = plan.steps(len(task.training))
    with _marking(watermark, optimizer, model), _bar(task, plan, n_steps, len(done), show) as advance:
        loop = _Loop(model, task, plan, optimizer, objective, hooks, advance)
        for epoch in range(len(done), plan.epochs):
            asked = epoch + 1 == plan.epochs or (evaluate_every > 0 and (epoch + 1) % evaluate_every == 0)
            done = (*done, loop.epoch(data, epoch, evaluated=asked))
            if checkpoint is not None:
                save_checkpoint(checkpoint, training, parts, done)
    model.eval()
    return History(done)


def evaluate(model: nn.Module, task: Task) -> float:
    """The task's score on its test images; the model is put into evaluation mode and left there."""
    logits = logits_of(model, task, task.test)
    return task.score(logits, torch.tensor(task.test.labels))


def logits_of(model: nn.Module, task: Task, examples: Examples) -> Tensor:
    """Logits (N, classes) in evaluation mode, on the CPU; the model is left in that mode."""
    model.eval()
    data = _OnDevice.of(examples, _device(model))
    with torch.no_grad():
        parts = [model(task.inputs(images)).cpu() for images in torch.split(data.images, _EVALUATED_AT_ONCE)]
    return torch.cat(parts)


@dataclass(frozen=True, slots=True, eq=False)
class _OnDevice:
    """Examples where the model is: the bytes of a whole set fit on any device that trains."""

    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, examples: Examples, device: torch.device) -> _OnDevice:
        # A copy: torch warns of read-only arrays that share memory with tensors.
        return cls(torch.tensor(examples.images, device=device), torch.tensor(examples.labels, device=device))


@dataclass(frozen=True, slots=True, eq=False)
class _Loop:
    model: nn.Module
    task: Task
    plan: TrainingPlan
    optimizer: SGD
    objective: Objective
    hooks: Hooks
    advance: Advance

    def epoch(self, data: _OnDevice, epoch: int, *, evaluated: bool) -> EpochRecord:
        """One epoch (counted from 0) and its record."""
        started = time.perf_counter()
        generator = self.plan.generator(epoch)
        self.model.train()
        with _seeded(generator, data.images.device):
            n_steps, loss = self._steps(data, epoch, generator)
        _call(self.hooks.after_epoch, self.model)
        seconds = time.perf_counter() - started
        score = evaluate(self.model, self.task) if evaluated else None
        return EpochRecord(epoch + 1, float(self.optimizer.param_groups[0]["lr"]), loss, score, n_steps, seconds)

    def _steps(self, data: _OnDevice, epoch: int, generator: torch.Generator) -> tuple[int, float]:
        """The number of steps and their mean objective."""
        n_steps = self.plan.steps(len(data.labels))
        order = torch.randperm(len(data.labels), generator=generator).to(data.labels.device)
        total = torch.zeros((), device=data.labels.device)
        for step in range(n_steps):
            rate = self.plan.rate_at((epoch * n_steps + step) / (self.plan.epochs * n_steps))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            chosen = order[step * self.plan.batch_size : (step + 1) * self.plan.batch_size]
            total += self._step(data.images[chosen], data.labels[chosen], generator)
            # Only now and then: reading a figure makes a GPU wait.
            self.advance(float(total) / (step + 1) if step % 50 == 49 else None)
        return n_steps, float(total) / n_steps

    def _step(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        inputs = self.task.inputs(self.task.augmented(images, generator))
        self.optimizer.zero_grad()
        loss = self.objective(self.model(inputs), inputs, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        _call(self.hooks.before_step, self.model)
        self.optimizer.step()
        _call(self.hooks.after_step, self.model)
        return loss.detach()


def _optimizer(model: nn.Module, plan: TrainingPlan) -> SGD:
    # Parameters without a gradient, frozen ones among them, are passed over: no weight decay either.
    return SGD(model.parameters(), plan.rate, plan.momentum, weight_decay=plan.weight_decay, nesterov=plan.momentum > 0)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _name(task: Task, plan: TrainingPlan, watermark: Watermark | None) -> str:
    kind = "unmarked" if watermark is None else f"marked in {watermark.target_modules}"
    return f"{task.name}, {len(task.training)} images, {plan}, {kind}"


def _parts(model: nn.Module, optimizer: SGD, watermark: Watermark | None) -> dict[str, Stateful]:
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer}
    return parts if watermark is None else {**parts, "watermark": watermark}


def _call(hook: Hook | None, model: nn.Module) -> None:
    if hook is not None:
        hook(model)


@contextlib.contextmanager
def _marking(watermark: Watermark | None, optimizer: SGD, model: nn.Module) -> Iterator[None]:
    handle = None if watermark is None else watermark.attach(optimizer, model)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


@contextlib.contextmanager
def _seeded(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Torch's global generators seeded from ours inside (dropout draws from them), the caller's restored afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(generator.initial_seed())
        yield


def _bar(
    task: Task, plan: TrainingPlan, n_steps: int, done: int, show: bool
) -> contextlib.AbstractContextManager[Advance]:
    return progress_bar(task.name, plan.epochs * n_steps, done * n_steps, shown=show)
