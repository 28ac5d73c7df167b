"""The network a checkpoint belongs to, from the user's own code, and the checkpoint put into it without a gap.

PyTorch's own message about a state that does not fit runs over many lines; here it is one that says what to compare.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from torch import Tensor, nn

from onnxmark.errors import ConversionError
from onnxmark_torch.conversion.refusals import first_line, listed, refused
from onnxmark_torch.conversion.state_dicts import State


def built(factory: str) -> nn.Module:
    """The network that a factory makes, in evaluation mode.

    Args:
        factory: ``module:function``, importable from the current directory or installed.

    Raises:
        ConversionError: There is no such function, it fails, or what it returns is no module.
    """
    where, _, name = factory.partition(":")
    if not where or not name:
        raise ConversionError(
            f"the factory is given as module:function, not {factory!r}; say where the network is made"
        )
    try:
        with _current_directory_importable():
            made = getattr(import_module(where), name)()
    except Exception as error:  # it is the user's code, which may raise anything
        raise ConversionError(
            f"the factory {factory!r} cannot make the network: {first_line(error)}; it is imported from the current "
            "directory and called without arguments"
        ) from error
    if not isinstance(made, nn.Module):
        raise ConversionError(f"the factory {factory!r} returned {type(made).__name__}, no torch.nn.Module; mend it")
    return made.eval()


def fill(module: nn.Module, state: State, source: Path, factory: str) -> None:
    """Put a state into the network it belongs to; every tensor of either must have its counterpart.

    Args:
        module: The network; changed in place, unless the state does not fit.
        state: Tensors by name.
        source: The checkpoint, for messages.
        factory: Where the network came from, for messages.

    Raises:
        ConversionError: Tensors are missing, too many, or of other shapes.
    """
    wanted = module.state_dict()
    # A file format without shared tensors keeps one of their names.
    present = {_memory(wanted[name]) for name in state if name in wanted}
    missing = [name for name in wanted if name not in state and _memory(wanted[name]) not in present]
    unexpected = [name for name in state if name not in wanted]
    misshaped = [name for name in state if name in wanted and _shape(wanted[name]) != _shape(state[name])]
    said = [
        f"{words} {listed(names)}"
        for words, names in (("lacks", missing), ("has besides", unexpected), ("has in another shape", misshaped))
        if names
    ]
    if said:
        cure = f"does {factory!r} make the network it was saved from?"
        raise refused(source, f"does not fit the network: it {'; it '.join(said)}", cure)
    try:
        module.load_state_dict(dict(state), strict=False)
    except Exception as error:  # hooks of the user's modules may raise anything
        raise refused(source, f"cannot be loaded: {first_line(error)}", f"see the network of {factory!r}") from error


def _memory(tensor: object) -> tuple[object, ...]:
    if not isinstance(tensor, Tensor) or tensor.is_meta:
        return (id(tensor),)
    return (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else (id(tensor),)


def _shape(tensor: object) -> tuple[int, ...] | None:
    return tuple(tensor.shape) if isinstance(tensor, Tensor) else None


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    """As for a script that lies there: what the command line starts has its own directory first instead."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
