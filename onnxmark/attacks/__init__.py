"""Simulated removal attacks: what compression and disturbance do to host weights, and so to a mark.

An attack is a frozen recipe and a pure function of (weights, generator); it never sees a key, a graph or a file.
"""

from onnxmark.attacks.attack import Attack, apply_attack
from onnxmark.attacks.clustering import KMeansClustering
from onnxmark.attacks.noise import GaussianNoise
from onnxmark.attacks.pruning import LargestFirstPruning, MagnitudePruning, RandomPruning
from onnxmark.attacks.quantisation import UniformQuantisation
from onnxmark.attacks.sweep import QUICK

__all__ = [
    "QUICK",
    "Attack",
    "GaussianNoise",
    "KMeansClustering",
    "LargestFirstPruning",
    "MagnitudePruning",
    "RandomPruning",
    "UniformQuantisation",
    "apply_attack",
]
