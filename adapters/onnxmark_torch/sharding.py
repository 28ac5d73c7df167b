"""A parameter that is spread over several processes, whole; and a whole gradient to add to its parts.

FSDP2 and tensor parallelism store a weight as a DTensor, each process a part. A mark reads the whole layer: computed
from one process's part it would be another mark. Gathering is communication, so that every process must take part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor; asked without importing ``torch.distributed``, which takes a second."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on every process; differentiable. One that is whole already is returned as it is."""
    return cast("DTensor", tensor).full_tensor() if is_sharded(tensor) else tensor


def beside(weight: Tensor, gradient: Tensor) -> Tensor:
    """A whole gradient, the same on every process, as what can be added to the weight's; without communication."""
    if not is_sharded(weight):
        return gradient
    from torch.distributed.tensor import DTensor, Replicate

    mesh = cast(DTensor, weight).device_mesh
    # Adding it to shards takes each process's part of it.
    return DTensor.from_local(gradient, mesh, [Replicate()] * mesh.ndim, run_check=False)
