"""How often does a random key find its word in a layer that holds none? Ten thousand keys and more on hostile layers.

The law is exact on paper for any layer whatever. Here it meets those that would break a careless one: a trained layer,
heavy tails, layers of few levels in which most magnitudes tie, and one pruned so far that fewer weights are left than
the word has ones. The master secret is SHA-256 of the seed instead of scrypt of it, which would take a tenth of a
second a key; the null needs no more of it than that it was not chosen with the weights in view.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich.table import Table

from benchmarks.calibration import breakdown_table, calibrated
from benchmarks.display import progress
from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.keys import Carrier, Key, Secret
from onnxmark.schemes.constant_weight.nulls import log10_hypergeometric_tail
from onnxmark.schemes.constant_weight.parameters import parameters_of
from onnxmark.schemes.constant_weight.scheme import ConstantWeightScheme
from onnxmark.schemes.scheme import PlainReading
from onnxmark.weights import Origin, WeightTensor

CODES: Final = ((560, 56), (1850, 37), (269, 107))
N_BITS: Final = 256
_SHAPE: Final = (64, 64, 3, 3)
_LEVELS: Final = 7
_SCHEME: Final = ConstantWeightScheme()


@dataclass(frozen=True, slots=True, eq=False)
class NullAudits:
    """Readings of one kind of layer with random keys; base-10 logarithms, shape (n,).

    Args:
        reported: The p-values as audits report them. Few values are possible, so that most levels are undercut.
        randomised: The same, moved down to between the reported value and the next one possible by a uniform draw:
            uniform on [0, 1] exactly where the law is right.
    """

    reported: Float64Array
    randomised: Float64Array


def null_audits(n: int, trained: Float32Array, seed: int = 0) -> dict[str, NullAudits]:
    """Read random keys from layers that hold nothing, by kind of layer.

    Args:
        n: Readings in all, shared out evenly among layers and codes.
        trained: A trained layer, of shape (64, 64, 3, 3).
        seed: Every draw depends on it.
    """
    rng = np.random.default_rng(seed)
    layers = dict(_layers(trained, rng))
    names = tuple(layers)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with progress("null audits", n) as done:
        for number in range(n):
            name = names[number % len(names)]
            length, weight = CODES[number // len(names) % len(CODES)]
            key = _key(f"{seed} {number}", length, weight)
            found[name].append(_p_values(key, layers[name], rng))
            done(1)
    return {name: NullAudits(*np.array(pairs).T) for name, pairs in found.items()}


def null_tables(found: dict[str, NullAudits]) -> tuple[Table, Table]:
    """Rates at the usual levels over those promised: as reported, at most about 1; randomised, about 1."""
    # Layers of one magnitude are refused: their readings are all 1 and have no law to be held to.
    randomised = {name: one.randomised for name, one in found.items() if one.reported.any()}
    return (
        _table("Random keys, p-values as reported", {name: one.reported for name, one in found.items()}),
        _table("The same, randomised", randomised),
    )


def _table(title: str, values: dict[str, Float64Array]) -> Table:
    rows = {name: calibrated(one) for name, one in values.items()}
    rows["all"] = calibrated(np.concatenate(list(values.values())))
    return breakdown_table(f"{title}: rates over those promised", rows, "layer")


def _p_values(key: Key, layer: WeightTensor, rng: np.random.Generator) -> tuple[float, float]:
    evidence = _SCHEME.extract(key, (layer,), PlainReading(""))
    share = rng.random()
    if evidence.degenerate is not None:
        # A reading that is refused has probability 1 of being no less.
        return 0.0, float(np.log10(share))
    code = parameters_of(key).code
    ones, right = code.encode_bits(key.message) == 1, evidence.margins > 0
    n_found = int(np.sum(right & ones))
    n_read = n_found + int(np.sum(~right & ~ones))
    beyond = 10 ** log10_hypergeometric_tail(n_found + 1, code.length, code.weight, n_read)
    return evidence.log10_p, float(np.log10(beyond + share * (10**evidence.log10_p - beyond)))


def _layers(trained: Float32Array, rng: np.random.Generator) -> Iterator[tuple[str, WeightTensor]]:
    normal = rng.standard_normal(_SHAPE)
    heavy = rng.standard_t(4, _SHAPE) * rng.lognormal(size=(_SHAPE[0], 1, 1, 1))
    arrays = {
        "trained": trained,
        "normal": normal,
        "heavy tails": heavy,
        "seven levels": np.round(_LEVELS * normal / np.abs(normal).max()),
        "ternary": np.sign(normal) * (np.abs(normal) > 1.9),
        "pruned to 1 %": normal * (np.abs(normal) > np.quantile(np.abs(normal), 0.99)),
        "signs": np.sign(normal),
    }
    for name, values in arrays.items():
        yield name, WeightTensor(name, values.astype(np.float32), Origin(name, "Conv", 0, "drawn"))


def _key(label: str, length: int, weight: int) -> Key:
    secret = Secret(hashlib.sha256(f"onnxmark null constant weight {label}".encode()).digest())
    parameters = {"length": length, "weight": weight, "rate": 0.9}
    key = Key("constant-weight", secret, bytes(32), np.zeros(N_BITS, np.uint8), (Carrier(_SHAPE),), parameters)
    # The stand-in for scrypt: a cached property is looked up here first.
    key.__dict__["master"] = Secret(hashlib.sha256(secret.reveal()).digest())
    return key
