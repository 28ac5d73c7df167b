"""Make a key for a layer: pick the layer, record it, and refuse what cannot work before it costs a training run."""

from __future__ import annotations

from collections.abc import Sequence

from onnxmark.arrays import BitArray
from onnxmark.errors import CarrierError
from onnxmark.keys import Carrier, Key, check_bits, draw_secret_parts, premark_signature
from onnxmark.model import WeightSite
from onnxmark.schemes.carriers import default_kind
from onnxmark.schemes.projection import Generator, check_parameters
from onnxmark.weights import WeightTensor

COMFORTABLE_ENTRIES_PER_BIT = 10
"""T/M <= 0.1 leaves room for a margin of three standard deviations (statistics of random half-spaces)."""


def make_key(
    carrier: Carrier,
    payload: BitArray,
    *,
    generator: Generator = "rademacher",
    kind: str | None = None,
    premark: WeightTensor | None = None,
) -> Key:
    """A fresh key for a layer.

    Args:
        carrier: The layer.
        payload: The owner's bits, shape (T,).
        generator: How rows are drawn.
        kind: Kind of carrier; by default the full tensor, or a keyed fold of it where it is large.
        premark: The layer before marking, whose signature the key then keeps.

    Raises:
        KeyFileError: The generator or carrier does not fit the layer.
    """
    check_bits(payload.size)
    seed, salt = draw_secret_parts()
    kind = default_kind(carrier.shape) if kind is None else kind
    key = Key(
        scheme="projection",
        seed=seed,
        salt=salt,
        payload=payload,
        carrier=carrier,
        parameters={"generator": generator, "carrier": kind},
        premark=None if premark is None else premark_signature(premark.values, seed),
    )
    check_parameters(key)
    return key


def carrier_of(site: WeightSite) -> Carrier:
    """What a key remembers of a layer."""
    return Carrier(site.shape, site.name, site.nodes[0] if site.nodes else "", site.op, site.position)


def suggest_site(sites: Sequence[WeightSite], n_bits: int) -> WeightSite:
    """The layer a mark sits best in: the largest one that is neither the last nor depthwise, with room for the bits.

    The last layer is what a thief retrains first; a depthwise layer has too few weights that belong together.

    Raises:
        CarrierError: No layer has room.
    """
    readable = [site for site in sites if site.problem is None]
    roomy = [site for site in readable if _size(site) >= COMFORTABLE_ENTRIES_PER_BIT * n_bits]
    inner = [site for site in roomy if site.position != sites[-1].position and site.shape[1] > 1]
    if not roomy:
        raise CarrierError(
            f"no layer has room for {n_bits} bits ({COMFORTABLE_ENTRIES_PER_BIT} weights a bit are asked for); take "
            "fewer bits with --bits, or name a layer with --layer ('onnxmark inspect' lists them)"
        )
    return max(inner or roomy, key=_size)


def _size(site: WeightSite) -> int:
    size = 1
    for axis in site.shape:
        size *= axis
    return size
