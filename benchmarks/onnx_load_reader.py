"""The reader to beat: ``onnx.load``, NumPy and nothing else, reading the same bits with the same key matrix.

    python onnx_load_reader.py MODEL KEY_FOLDER

KEY_FOLDER holds ``shape.npy``, ``rows.npy`` (T, size) and ``message.npy`` (T,), and for a folded carrier
``buckets.npy`` and ``signs.npy``. Prints the number of right bits in every layer of that shape. It computes no
probability, which only makes it faster.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

model = onnx.load(sys.argv[1])
key = {path.stem: np.load(path) for path in Path(sys.argv[2]).glob("*.npy")}
shape = tuple(key["shape"].tolist())
rows = key["rows"].astype(np.float64)
for tensor in model.graph.initializer:
    if tuple(tensor.dims) == shape:
        values = numpy_helper.to_array(tensor)
        if "buckets" in key:
            flat = values.reshape(-1).astype(np.float64)
            weights = (flat - flat.mean()) * key["signs"]
            vector = np.bincount(key["buckets"], weights=weights, minlength=rows.shape[1])
        else:
            vector = values.mean(axis=0, dtype=np.float64).reshape(-1)
        print(int(np.sum((rows @ vector > 0) == (key["message"] == 1))))
