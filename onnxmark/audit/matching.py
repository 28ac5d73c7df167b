"""Which layers of a suspect are those that a key of several layers was made for.

Each way of telling gives one assignment of layers to carriers: by the names of weights or nodes, by the position among
the model's layers, by the order among layers of the same shape. Ways that agree are one hypothesis, not several.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxmark.keys import Carrier
from onnxmark.model import WeightSite

Layers = tuple[WeightSite, ...]


def assignments(carriers: Sequence[Carrier], sites: Sequence[WeightSite]) -> tuple[tuple[Layers, str], ...]:
    """Distinct assignments of a layer of its shape to every carrier, each with its reason, best reason first.

    Args:
        carriers: What the key remembers.
        sites: The suspect's layers, in graph order.
    """
    found: dict[Layers, str] = {}
    for way, why in ((_by_name, "same names"), (_by_position, "same positions"), (_by_order, "same order")):
        layers = way(carriers, sites)
        if layers is not None and len(set(layers)) == len(carriers):
            found.setdefault(layers, why)
    return tuple(found.items())


def _by_name(carriers: Sequence[Carrier], sites: Sequence[WeightSite]) -> Layers | None:
    return _each(carriers, [[site for site in sites if _same_name(carrier, site)] for carrier in carriers])


def _same_name(carrier: Carrier, site: WeightSite) -> bool:
    return bool((carrier.name and carrier.name == site.name) or (carrier.node and carrier.node in site.nodes))


def _by_position(carriers: Sequence[Carrier], sites: Sequence[WeightSite]) -> Layers | None:
    return _each(carriers, [[site for site in sites if site.position == carrier.position] for carrier in carriers])


def _by_order(carriers: Sequence[Carrier], sites: Sequence[WeightSite]) -> Layers | None:
    """The k-th carrier of a shape takes the k-th layer of that shape."""
    waiting: dict[tuple[int, ...], list[WeightSite]] = {}
    for site in sites:
        waiting.setdefault(site.shape, []).append(site)
    order = sorted(range(len(carriers)), key=lambda index: carriers[index].position)
    taken: dict[int, WeightSite] = {}
    for index in order:
        left = waiting.get(carriers[index].shape, [])
        if not left:
            return None
        taken[index] = left.pop(0)
    return tuple(taken[index] for index in range(len(carriers)))


def _each(carriers: Sequence[Carrier], choices: Sequence[Sequence[WeightSite]]) -> Layers | None:
    """The first choice of the right shape for each carrier; None where one has none."""
    pairs = zip(carriers, choices, strict=True)
    found = [next((site for site in some if site.shape == carrier.shape), None) for carrier, some in pairs]
    whole = tuple(site for site in found if site is not None)
    return whole if len(whole) == len(carriers) else None
