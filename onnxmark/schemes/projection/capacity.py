"""How much message a layer holds, and what it will cost, before anything is embedded.

The limit is Gardner's: T half-spaces at a margin kappa on the sphere of M dimensions have a common point while
``T E(kappa) < M`` with ``E(k) = E[(k - z)_+^2] = (1 + k^2) Phi(k) + k phi(k)`` (The space of interactions in neural
network models, J. Phys. A 21, 1988). The same E gives the change that embedding makes. Rows of one or two entries share
no weight, and have laws of their own. All of it takes the host's scores for normal, which a dense key makes them;
heavy-tailed weights under direct keys cost somewhat more or less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from onnxmark.schemes.projection.carriers import vector_size
from onnxmark.schemes.projection.projection import Generator, required_entries

COMFORTABLE_LOAD: Final = 0.1
"""T / M up to which a margin of 3 is within reach: room for the default of 2 and for attacks to eat from it."""
TIGHT_MARGIN: Final = 1.0
"""A mark that cannot reach one standard deviation of a random key fades with the first pruning or overwriting."""

_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a carrier offers to a message of a length.

    Args:
        n_bits: Message length T.
        size: Length M of the carrier's vector.
        n_weights: Weights of the layer, N.
        largest_margin: Largest margin every bit can have at once, in units of a random key's standard deviation; 0
            where the message does not fit at all.
        margin: The margin the predictions are for.
        vector_change: Predicted change of the carrier's vector over its norm; ``inf`` beyond the largest margin.
        relative_change: Predicted change of the weights over their norm. A mean fold's is for filters that are
            independent; multiply by ``std(mean filter) * sqrt(filters) / std(weights)`` where they are not.
    """

    n_bits: int
    size: int
    n_weights: int
    largest_margin: float
    margin: float
    vector_change: float
    relative_change: float

    @property
    def load(self) -> float:
        """T / M."""
        return self.n_bits / self.size

    @property
    def feasible(self) -> bool:
        """Whether the margin asked for is within reach."""
        return self.margin < self.largest_margin

    @property
    def suitability(self) -> str:
        """``comfortable`` (T/M <= 0.1), ``tight`` (a margin of 1 within reach), ``poor``, or ``over capacity``."""
        if self.largest_margin <= 0:
            return "over capacity"
        if self.load <= COMFORTABLE_LOAD:
            return "comfortable"
        return "tight" if self.largest_margin >= TIGHT_MARGIN else "poor"


def capacity(
    shape: tuple[int, ...], n_bits: int, kind: str, generator: Generator = "rademacher", margin: float = 2.0
) -> Capacity:
    """What a layer offers to a message.

    Args:
        shape: Canonical shape of the layer.
        n_bits: Message length T, at least 1.
        kind: Kind of carrier (``full``, ``fold:<buckets>``, ``mean-ihw``, ``mean-hwi``).
        generator: Kind of rows.
        margin: The margin to predict the change for.

    Raises:
        KeyFileError: There is no such carrier.
        ValueError: No bits, or a margin that is not positive.
    """
    if n_bits < 1 or not margin > 0:
        raise ValueError(f"capacity needs at least one bit and a positive margin, not {n_bits} and {margin}")
    size, n_weights = vector_size(kind, shape), math.prod(shape)
    one_hot = generator in ("direct", "diff")
    if one_hot:
        # Margins of kappa cost kappa^2 of the T / M directions read; the rest of the vector may shrink to nothing.
        largest = math.sqrt(size / n_bits) if required_entries(generator, n_bits) <= size else 0.0
    else:
        largest = gardner_margin(n_bits / size)
    change = math.inf
    if margin < largest:
        change = (_one_hot_change if one_hot else _dense_change)(n_bits / size, margin)
    return Capacity(
        n_bits=n_bits,
        size=size,
        n_weights=n_weights,
        largest_margin=largest,
        margin=margin,
        vector_change=change,
        # A unit of the vector's change is spread over N / M weights each, whose sum it is.
        relative_change=change * math.sqrt(size / n_weights),
    )


def gardner_energy(margin: float) -> float:
    """``E(k)``: mean squared shortfall of a standard normal score below ``k``."""
    return (1 + margin**2) * _NORMAL.cdf(margin) + margin * _NORMAL.pdf(margin)


def gardner_margin(load: float) -> float:
    """Largest margin of dense random rows at a load T / M: the root of ``E(kappa) = M / T``; 0 from T = 2 M on."""
    if load >= 2:
        return 0.0
    low, high = 0.0, math.sqrt(1 / load)
    for _ in range(100):
        middle = 0.5 * (low + high)
        if gardner_energy(middle) * load < 1:
            low = middle
        else:
            high = middle
    return low


def _dense_change(load: float, margin: float) -> float:
    """Change over the vector's norm at a margin relative to the *final* norm, in the limit of many bits.

    The host keeps a share ``1 - load Phi(kappa)`` of itself and gains an orthogonal part whose square is
    ``q / (1 - q)`` of that share's, with ``q = load E(kappa)``: Gordon's comparison, applied to the nearest point at
    which every score reaches a fixed target. For small loads this is ``sqrt(T E(kappa) / M)``.
    """
    lost = load * _NORMAL.cdf(margin)
    filled = load * gardner_energy(margin)
    return math.sqrt(lost**2 + (1 - lost) ** 2 * filled / (1 - filled))


def _one_hot_change(load: float, margin: float) -> float:
    """The same for rows that share no weight: every entry read is raised to the target, no other moves."""
    target = margin
    for _ in range(200):
        raised = (target**2 - 1) * _NORMAL.cdf(target) + target * _NORMAL.pdf(target)
        target = margin * math.sqrt(1 + load * raised)
    return math.sqrt(load * gardner_energy(target))
