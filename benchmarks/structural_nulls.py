"""How often do widths agree with a structural key that they have nothing to do with?

Two campaigns, both over random keys: *other marks*, architectures that carry the mark of another key for the same
network, and *pruned by others*, architectures whose layers somebody else brought to widths drawn at random, most of
them widths a key can expect. Every draw is a function of the seed and its number. As in :mod:`benchmarks.null_audits`
the master secret is SHA-256 of the seed instead of scrypt of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxmark.arrays import Float64Array
from onnxmark.keys import Carrier, Key, Secret
from onnxmark.schemes.scheme import Layer
from onnxmark.schemes.structural.parameters import Options
from onnxmark.schemes.structural.scheme import StructuralScheme

CAMPAIGNS = ("other marks", "pruned by others")
_SCHEME = StructuralScheme()


def null_tails(carriers: Sequence[Carrier], campaign: str, count: int, seed: int = 0) -> Float64Array:
    """Base-10 logarithms of the p-values of null audits, shape (count, tests): in the order of the evidence's tests.

    Args:
        carriers: Layers of the network the keys are for.
        campaign: One of :data:`CAMPAIGNS`.
        count: Number of audits.
        seed: Of all draws.
    """
    key = _SCHEME.make_key([Layer(carrier) for carrier in carriers], None, Options())
    rng = np.random.default_rng([seed, CAMPAIGNS.index(campaign)])
    rows = []
    for number in range(count):
        if campaign == CAMPAIGNS[0]:
            widths = _SCHEME.widths(drawn(key, f"{seed} {number} other"))
        else:
            widths = tuple(int(rng.integers(carrier.shape[0] // 3, carrier.shape[0] + 1)) for carrier in key.carriers)
        evidence = _SCHEME.extract(drawn(key, f"{seed} {number}"), widths)
        rows.append([test.log10_p for test in evidence.tests])
    return np.array(rows)


def drawn(key: Key, label: str) -> Key:
    """A key like another from a seed of its own, without the time that scrypt takes."""
    digest = hashlib.sha256(f"onnxmark structural null {label}".encode()).digest()
    made = replace(key, seed=Secret(digest))
    made.__dict__["master"] = Secret(hashlib.sha256(digest).digest())
    return made
