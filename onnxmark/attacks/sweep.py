"""The default sweep: strengths at which published marks begin to fail, and a little beyond.

Pruning at 65 % is Uchida's headline; quantisation and clustering go down to the two bits no useful network survives.
An attack that draws at random appears once; how often it is drawn, and from which seeds, is the caller's affair.
"""

from __future__ import annotations

from typing import Final

from onnxmark.attacks.attack import Attack
from onnxmark.attacks.clustering import KMeansClustering
from onnxmark.attacks.noise import GaussianNoise
from onnxmark.attacks.pruning import MagnitudePruning
from onnxmark.attacks.quantisation import UniformQuantisation

QUICK: Final[tuple[Attack, ...]] = (
    *(MagnitudePruning(fraction) for fraction in (0.10, 0.30, 0.50, 0.65, 0.80, 0.90, 0.95)),
    *(UniformQuantisation(bits) for bits in (8, 6, 4, 3, 2)),
    *(KMeansClustering(bits) for bits in (8, 5, 4, 3, 2)),
    *(GaussianNoise(strength) for strength in (0.1, 0.25, 0.5, 1.0)),
)

VARIANTS: Final[tuple[Attack, ...]] = (
    *(UniformQuantisation(bits, per_channel=True) for bits in (8, 4, 3, 2)),
    *(UniformQuantisation(bits, symmetric=True) for bits in (8, 4, 3, 2)),
)
"""Recipes of a full sweep that differ from the default in more than their main parameter."""
