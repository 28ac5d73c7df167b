"""An interrupted training taken up again: weights and momentum in a file that is read without running anything of it.

``torch.load`` unpickles, so it is restricted to tensors and plain values; and the file is replaced in one step, so that
an interruption while writing costs an epoch and not the training.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any, Protocol

import torch

from onnxmark.errors import OnnxmarkError
from onnxmark_torch.history import EpochRecord


class CheckpointError(OnnxmarkError):
    """A checkpoint cannot be read, or belongs to another training."""


class Stateful(Protocol):
    """What a training goes on with: model, optimizer, mark."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values by name."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Go on from them."""
        ...


def save_checkpoint(path: Path, training: str, parts: Mapping[str, Stateful], epochs: tuple[EpochRecord, ...]) -> None:
    """Write where a training stands after its last epoch.

    Args:
        path: File to write or replace.
        training: What is being trained, in words that differ for every training.
        parts: What it goes on with, by name.
        epochs: The epochs done.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    state = {"training": training, "states": states, "epochs": [list(astuple(record)) for record in epochs]}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    torch.save(state, unfinished)
    unfinished.replace(path)


def load_checkpoint(path: Path, training: str, parts: Mapping[str, Stateful]) -> tuple[EpochRecord, ...]:
    """Put the parts where a training stood; nothing happens where there is no file.

    Args:
        path: File that :func:`save_checkpoint` wrote.
        training: What is being trained, as then.
        parts: What receives its state, by the same names.

    Returns:
        The epochs done.

    Raises:
        CheckpointError: The file is broken, or of another training or model.
    """
    if not path.is_file():
        return ()
    where = f"checkpoint {str(path)!r}"
    state = _read(path, where)
    if state["training"] != training:
        raise CheckpointError(
            f"{where}: belongs to another training ({state['training']}, not {training}); "
            "give this one its own file, or delete it to start anew"
        )
    try:
        epochs = tuple(EpochRecord(*record) for record in state["epochs"])
        for name, part in parts.items():
            part.load_state_dict(state["states"][name])
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{where}: does not fit the model ({_first(error)}); give this one its own") from error
    return epochs


def _read(path: Path, where: str) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            # Torch warns of foreign pickles before it refuses them.
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{where}: cannot be read ({_first(error)}); delete it to start anew") from error
    if not isinstance(state, dict) or not {"training", "states", "epochs"} <= state.keys():
        raise CheckpointError(f"{where}: is some other file of torch; delete it to start anew")
    return state


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
