"""What a training-time attack is, what it promises, and the one place where the promise is checked.

The vocabulary is that of attacks on files (:mod:`onnxmark.attacks`): a frozen recipe whose first field is its strength.
What differs is what the thief has: not the weights of one layer but a whole network, images, and time to train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn

from onnxmark.attacks import Recipe
from onnxmark.errors import PluginError
from onnxmark_torch.tasks import Task


@dataclass(frozen=True, slots=True, eq=False)
class TrainingMeans:
    """What a thief who can train has at hand.

    Args:
        task: His images, and what the stolen network is to do well at.
        elsewhere: Another task whose images the network accepts, for attacks that leave and come back.
        student: Builds an untrained network of another architecture for the same task, on the task's device.
        seed: Decides everything that is drawn.
        show: Draw progress bars, on a terminal.
    """

    task: Task
    elsewhere: Task | None = None
    student: Callable[[], nn.Module] | None = None
    seed: int = 0
    show: bool = False


class TrainingAttack(Recipe, Protocol):
    """A recipe for turning a trained network into another that does the same task."""

    def run(self, model: nn.Module, means: TrainingMeans) -> nn.Module:
        """The attacked network; called by :func:`carry_out`, which checks it.

        Args:
            model: The stolen network, to be left as it is.
            means: What else the thief has.

        Returns:
            Another network, on the same device, sharing no memory with the stolen one.

        Raises:
            AttackError: The attack does not fit the network, or the thief lacks what it needs.
        """
        ...


def is_training_attack(recipe: Recipe) -> TypeGuard[TrainingAttack]:
    """Whether a recipe trains a network."""
    return hasattr(recipe, "run")


def carry_out(attack: TrainingAttack, model: nn.Module, means: TrainingMeans) -> nn.Module:
    """Attack a network and hold the attack to its promise.

    Args:
        attack: The recipe.
        model: The stolen network; left as it is.
        means: What else the thief has; on a CPU the same seed gives the same network.

    Returns:
        The attacked network, in evaluation mode.

    Raises:
        AttackError: The attack does not fit the network, or the thief lacks what it needs.
        PluginError: The attack broke its promise.
    """
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    settings = _settings(model)
    attacked = attack.run(model, means)
    broken = _broken_promise(before, settings, model, attacked)
    if broken:
        raise PluginError(f"attack {attack!r} {broken}; this is a fault of the attack")
    return attacked.eval()


def described(recipe: Any, words: str) -> str:
    """Words for a recipe and its strength, and after them what differs from the defaults (``…, rate 0.05``)."""
    later = fields(recipe)[1:]
    changed = [one for one in later if one.default is MISSING or getattr(recipe, one.name) != one.default]
    return ", ".join((words, *(_setting(one.name.replace("_", " "), getattr(recipe, one.name)) for one in changed)))


def _setting(name: str, value: object) -> str:
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return f"{name} {value}"


def _settings(model: nn.Module) -> list[tuple[str, bool]]:
    """Everything of a network that training changes besides its state: modes, and what requires gradients."""
    modes = [(name, module.training) for name, module in model.named_modules()]
    return modes + [(name, parameter.requires_grad) for name, parameter in model.named_parameters()]


def _broken_promise(
    before: Mapping[str, Tensor], settings: list[tuple[str, bool]], model: nn.Module, attacked: nn.Module
) -> str:
    """What the attack did wrong, or an empty string."""
    state = model.state_dict()
    if settings != _settings(model) or before.keys() != state.keys() or not _equal(before, state):
        return "changed the model it was given, expected it to train a copy"
    if _places(state) & _places(attacked.state_dict()):
        return "returned a model that shares memory with the one it was given, expected a copy"
    if not all(bool(torch.isfinite(tensor).all()) for tensor in attacked.state_dict().values()):
        return "returned weights that are not finite; train at a lower rate"
    return ""


def _equal(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def _places(state: Mapping[str, Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in state.values() if tensor.numel()}
