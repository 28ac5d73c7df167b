"""Simulated removal attacks: what compression and disturbance do to host weights, and so to a mark.

An attack is a frozen recipe and a pure function of (weights, means). It never sees a graph, a file, or a key that it
does not bring itself.
"""

from onnxmark.attacks.attack import Attack, FileMeans, Means, ModelAttack, Need, Recipe, apply_attack
from onnxmark.attacks.clustering import KMeansClustering
from onnxmark.attacks.noise import GaussianNoise
from onnxmark.attacks.pruning import LargestFirstPruning, MagnitudePruning, RandomPruning
from onnxmark.attacks.quantisation import UniformQuantisation
from onnxmark.attacks.sweep import QUICK

__all__ = [
    "QUICK",
    "Attack",
    "FileMeans",
    "GaussianNoise",
    "KMeansClustering",
    "LargestFirstPruning",
    "MagnitudePruning",
    "Means",
    "ModelAttack",
    "Need",
    "RandomPruning",
    "Recipe",
    "UniformQuantisation",
    "apply_attack",
]
