"""Readers of small public image sets, from files the user has: nothing is downloaded and nothing is unpickled.

Marks are judged by what they cost on a task, so the experiments need data; the sets here are those of the literature
and one that comes with scikit-learn. A data set is somebody else's file: sizes are checked before anything is read.
"""

from onnxmark_torch.data.cifar10 import load_cifar10
from onnxmark_torch.data.digits import load_digits
from onnxmark_torch.data.examples import DataSet, Examples
from onnxmark_torch.data.fashion_mnist import FASHION_MNIST, load_fashion_mnist
from onnxmark_torch.data.idx import read_idx

__all__ = [
    "FASHION_MNIST",
    "DataSet",
    "Examples",
    "load_cifar10",
    "load_digits",
    "load_fashion_mnist",
    "read_idx",
]
