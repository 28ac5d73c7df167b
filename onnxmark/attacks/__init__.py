"""Simulated removal attacks: what compression and disturbance do to host weights, and so to a mark.

An attack is a frozen recipe and a pure function of (weights, means). It never sees a graph, a file, or a key that it
does not bring itself.
"""

from onnxmark.attacks.admm import AdmmClustering, AdmmQuantisation
from onnxmark.attacks.attack import Attack, FileMeans, Means, ModelAttack, Need, Recipe, apply_attack
from onnxmark.attacks.blocks import BlockQuantisation
from onnxmark.attacks.clustering import KMeansClustering
from onnxmark.attacks.crossbar import CrossbarDevices, CrossbarPruning
from onnxmark.attacks.deep_compression import DeepCompression
from onnxmark.attacks.floats import FloatRounding
from onnxmark.attacks.low_rank import LowRank
from onnxmark.attacks.noise import GaussianNoise
from onnxmark.attacks.null_space import NullSpaceNoise
from onnxmark.attacks.overwriting import Overwriting
from onnxmark.attacks.pruning import GlobalPruning, LargestFirstPruning, MagnitudePruning, RandomPruning
from onnxmark.attacks.quantisation import UniformQuantisation
from onnxmark.attacks.shifting import ConstantShift, MeanScramble, WeightShifting
from onnxmark.attacks.soup import Soup
from onnxmark.attacks.structured import ChannelPruning, ColumnPruning, FilterPruning
from onnxmark.attacks.sweep import QUICK, VARIANTS

__all__ = [
    "QUICK",
    "VARIANTS",
    "AdmmClustering",
    "AdmmQuantisation",
    "Attack",
    "BlockQuantisation",
    "ChannelPruning",
    "ColumnPruning",
    "ConstantShift",
    "CrossbarDevices",
    "CrossbarPruning",
    "DeepCompression",
    "FileMeans",
    "FilterPruning",
    "FloatRounding",
    "GaussianNoise",
    "GlobalPruning",
    "KMeansClustering",
    "LargestFirstPruning",
    "LowRank",
    "MagnitudePruning",
    "MeanScramble",
    "Means",
    "ModelAttack",
    "Need",
    "NullSpaceNoise",
    "Overwriting",
    "RandomPruning",
    "Recipe",
    "Soup",
    "UniformQuantisation",
    "WeightShifting",
    "apply_attack",
]
