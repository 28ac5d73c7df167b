"""Changes of a network that its outputs do not notice, and a mark may: what an obfuscating thief does for free.

Each recipe goes through the graph, changes every tensor that must change together, and says what it left alone.
"""

from onnxmark.symmetries.kernels import KernelExpansion
from onnxmark.symmetries.neurons import DummyNeurons
from onnxmark.symmetries.normalisation import BatchNormFolding
from onnxmark.symmetries.permutation import InputPermutation, OutputPermutation, Permutation
from onnxmark.symmetries.rescaling import Rescaling
from onnxmark.symmetries.sign_flip import SignFlip

__all__ = [
    "BatchNormFolding",
    "DummyNeurons",
    "InputPermutation",
    "KernelExpansion",
    "OutputPermutation",
    "Permutation",
    "Rescaling",
    "SignFlip",
]
