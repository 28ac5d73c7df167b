"""Which regions of a channel group have a factor to give away, and beside which layers."""

from __future__ import annotations

from onnxmark.model.channels.groups import ChannelGroup, Commutes
from onnxmark.symmetries.symmetry import HOSTS, Layers, names


def free_regions(group: ChannelGroup, commutes: Commutes, layers: Layers) -> tuple[int, ...] | str:
    """Indices of the regions beside ``layers`` (None: all) whose channels may all be multiplied by some factors.

    Args:
        group: The channels.
        commutes: The kind of factors.
        layers: Names of layers under attack.

    Returns:
        At least one index; or why there is none, in words.
    """
    beside = {
        region
        for use in group.having(*HOSTS)
        if names(use, layers)
        for region in (use.takes, use.gives)
        if region is not None
    }
    found = {number: region for number, region in enumerate(group.regions) if number in beside}
    free = tuple(number for number, r in found.items() if r.problem is None and commutes in r.commutes)
    if free:
        return free
    problem = next((region.problem for region in found.values() if region.problem), None)
    kind = "sign" if commutes is Commutes.SIGN else "scale"
    return problem or f"an activation or product on their way lets no {kind} through"
