"""Scikit-learn's digits: 1,797 grey images, 8x8, ten classes, for experiments of seconds.

Alpaydin, Kaynak: Optical Recognition of Handwritten Digits (UCI Machine Learning Repository, 1998); the part that
scikit-learn's wheel carries, so nothing has to be fetched.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from onnxmark.errors import MissingExtra
from onnxmark_torch.data.examples import DataSet, Examples

N_TRAINING: Final = 1437
"""Four fifths of the set, in its own order."""
_PARTS: Final = (slice(0, N_TRAINING), slice(N_TRAINING, None))
_BRIGHTEST: Final = 16
_CLASS_NAMES: Final = tuple("0123456789")


def load_digits() -> DataSet:
    """Read the digits.

    Returns:
        1,437 and 360 images of shape (1, 8, 8); their 17 levels of brightness are spread over 0 to 255.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise MissingExtra("scikit-learn", "data", "the digits data set") from None
    digits = datasets.load_digits()
    images = np.rint(digits.images * (255 / _BRIGHTEST)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    return DataSet(*(Examples(images[part], labels[part], _CLASS_NAMES) for part in _PARTS))
