"""A scheme of a third party's, as its package would ship it: it knows onnxmark's public modules and nothing else.

The bits are the signs of sums over random halves of the first layer's weights. Tests copy this file into a package of
its own outside the tree; it is never imported from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxmark.errors import KeyFileError
from onnxmark.keys import Key, draw_secret_parts
from onnxmark.keys.derivation import signs
from onnxmark.schemes.evidence import Evidence, Test, no_evidence
from onnxmark.schemes.scheme import Embedded, PlainReading, Reads
from onnxmark.statistics import log10_binomial_tail

READING = PlainReading("stripes")


@dataclass(frozen=True, slots=True)
class Options:
    strength: float = 1.0


class StripesScheme:
    name = "stripes"
    summary = "signs of striped sums"
    reads = Reads.WEIGHTS
    signs_tested = 1
    options = Options

    def make_key(self, layers, payload, options):
        seed, salt = draw_secret_parts()
        if payload.size > 64:
            raise KeyFileError(f"stripes carry 64 bits at most, not {payload.size}")
        return Key(self.name, seed, salt, payload, (layers[0].carrier,), {"strength": options.strength})

    def facts(self, key):
        return {"stripes": str(key.n_bits)}

    def readings(self, key, shapes):
        return (READING,) if shapes == (key.carrier.shape,) else ()

    def extract(self, key, layers, reading):
        values = layers[0].values.reshape(-1).astype(np.float64)
        if not np.isfinite(values).all() or values.std() == 0:
            return no_evidence(key.n_bits, "nothing to read")
        scores = rows(key, values.size) @ values / np.linalg.norm(values)
        margins = scores * np.where(key.message == 1, 1.0, -1.0)
        n_errors = int((margins <= 0).sum())
        log10_p = log10_binomial_tail(key.n_bits - n_errors, key.n_bits)
        return Evidence(margins, n_errors, 0, log10_p, (Test("bit-count", log10_p, "exact"),))

    def embed(self, key, layers, reading, means):
        values = layers[0].values.reshape(-1).astype(np.float64)
        matrix, wanted = rows(key, values.size), np.where(key.message == 1, 1.0, -1.0)
        goal = wanted * key.parameters["strength"] * np.linalg.norm(values)
        change = np.linalg.lstsq(matrix, goal - matrix @ values, rcond=None)[0]
        marked = layers[0].with_values((values + change).astype(np.float32).reshape(layers[0].shape))
        margin = float(self.extract(key, (marked,), reading).margins.min())
        return Embedded((marked,), 1.0, margin, "change of the weights")


def rows(key, size):
    return np.stack([signs(key.master, "row", bit, size) for bit in range(key.n_bits)]) / math.sqrt(size)
