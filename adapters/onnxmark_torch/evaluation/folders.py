"""Networks in folders: the file that everybody sees, and beside it the weights that only training needs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from onnxmark.errors import LaboratoryError
from onnxmark.evaluation.laboratory import MODEL
from onnxmark.evaluation.plan import Architecture, as_table
from onnxmark_torch.attacks.trials import export_for
from onnxmark_torch.channels import called_layers
from onnxmark_torch.evaluation.supplies import untrained
from onnxmark_torch.structural import examples_of, narrow_
from onnxmark_torch.tasks import Task

WEIGHTS: Final = "network.pt"


def save(model: nn.Module, architecture: Architecture, task: Task, folder: Path) -> None:
    """Export a network, and keep its weights."""
    export_for(task, model, folder / MODEL)
    keep(model, architecture, folder)


def keep(model: nn.Module, architecture: Architecture, folder: Path) -> None:
    """Keep the weights of a network whose file is there already."""
    about = {"name": architecture.name, "settings": dict(as_table(architecture.settings))}
    torch.save({"architecture": about, "state": model.state_dict()}, folder / WEIGHTS)


def restore(folder: Path, task: Task) -> tuple[nn.Module, Architecture]:
    """A network as it was kept, in evaluation mode, and what it is.

    Raises:
        LaboratoryError: It was not kept, or is not what it says.
    """
    try:
        kept: dict[str, Any] = torch.load(folder / WEIGHTS, weights_only=True)
        about, state = kept["architecture"], kept["state"]
        architecture = Architecture(about["name"], tuple(sorted(about["settings"].items())))
        model = _narrowed(untrained(architecture, task, seed=0), state, task)
        model.load_state_dict(state)
    except (OSError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise LaboratoryError(f"the network in {str(folder)!r} cannot be trained on: {error}") from error
    return model.eval(), architecture


def _narrowed(model: nn.Module, state: dict[str, Tensor], task: Task) -> nn.Module:
    """The network with as many channels as the weights have: a structural mark is in the widths."""
    examples = examples_of(task, model)
    layers = [layer for layer in called_layers(model, examples) if layer.obstacle is None]
    widths = {layer.name: len(state[layer.name]) for layer in layers if len(state[layer.name]) != layer.shape[0]}
    return narrow_(model, examples, widths) if widths else model
