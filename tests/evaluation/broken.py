"""Schemes that cheat or fail, to see whether an evaluation notices; each is found by name, as a plugin is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxmark.audit import built_in
from onnxmark.schemes.projection.scheme import ProjectionScheme


class Leaking(ProjectionScheme):
    """Reads the message off the key, whatever the network."""

    def extract(self, key, layers, reading):
        found = super().extract(key, layers, reading)
        return replace(found, margins=np.abs(found.margins), n_errors=0, log10_p=-key.n_bits * 0.301)


class Stuck(ProjectionScheme):
    """Reads the same payload in everything, with any key."""

    def extract(self, key, layers, reading):
        found = super().extract(key, layers, reading)
        wanted = np.resize([0, 1, 1, 0, 1], key.n_bits)
        return replace(found, margins=np.where(key.payload == wanted, 1.0, -1.0), log10_p=0.0)


class Crashing(ProjectionScheme):
    """Raises what nobody expects."""

    def extract(self, key, layers, reading):
        raise IndexError("list index out of range")


def leaking(name):
    return Leaking() if name == "projection" else built_in(name)


def stuck(name):
    return Stuck() if name == "projection" else built_in(name)


def crashing(name):
    return Crashing() if name == "projection" else built_in(name)
