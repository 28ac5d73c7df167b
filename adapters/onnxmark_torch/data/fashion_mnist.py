"""Fashion-MNIST: 70,000 grey images of clothes, 28x28, ten classes; Debian has it as ``dataset-fashion-mnist``.

Xiao, Rasul, Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms (2017, arXiv
1708.07747). MNIST and its other relatives come in files of the same names and are read as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from onnxmark.errors import DataError
from onnxmark_torch.data.examples import DataSet, Examples
from onnxmark_torch.data.idx import read_idx

FASHION_MNIST: Final = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package puts it."""

CLASS_NAMES: Final = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def load_fashion_mnist(directory: Path | str = FASHION_MNIST, class_names: tuple[str, ...] = CLASS_NAMES) -> DataSet:
    """Read the four IDX files of a directory, compressed (``.gz``) or not.

    Args:
        directory: Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same with ``t10k``.
        class_names: For a relative of the set, what its classes are called.

    Returns:
        60,000 and 10,000 images of shape (1, 28, 28), or what the files hold.

    Raises:
        DataError: A file is missing or broken, or images and labels do not belong together.
    """
    folder = Path(directory)
    return DataSet(_part(folder, "train", class_names), _part(folder, "t10k", class_names))


def _part(directory: Path, part: str, class_names: tuple[str, ...]) -> Examples:
    images = read_idx(_find(directory, f"{part}-images-idx3-ubyte"))
    labels = read_idx(_find(directory, f"{part}-labels-idx1-ubyte"))
    if images.ndim != 3 or labels.ndim != 1:
        raise DataError(
            f"data set {str(directory)!r}: {part} images have {images.ndim} axes and labels {labels.ndim}, "
            "expected 3 and 1; are the files swapped?"
        )
    return Examples(images[:, None], labels.astype(np.int64), class_names)


def _find(directory: Path, name: str) -> Path:
    for path in (directory / f"{name}.gz", directory / name):
        if path.is_file():
            return path
    raise DataError(
        f"data set {str(directory)!r}: has neither {name}.gz nor {name}; "
        "install Debian's dataset-fashion-mnist or name the directory of the IDX files"
    )
