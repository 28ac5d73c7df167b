"""A mark that the original Keras code trained is read from the ONNX file of a Keras model that holds its kernel.

The kernel, its key and its bits are not part of the repository; the test runs where they lie beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parents[2].parent / "shared/data/uchida-replication"

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the replication's kernel and key are not beside the repository"
)


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """Wrong bits, of 256, by the order in which the key is read; batch normalisation is folded into the kernel."""
    from benchmarks.keras.replication import BITS, KERNELS, KEY, converted, host_model, readings
    from onnxmark.keys import load_key

    model = host_model(np.load(DATA / KERNELS["marked"]), normalised=True)
    path = converted(model, tmp_path_factory.mktemp("replication"))
    found = readings(path, load_key(DATA / KEY, DATA / BITS))
    return {label.partition(",")[0]: wrong for label, wrong, *_ in found}


def test_every_bit_is_right_in_the_order_of_keras(errors):
    assert errors["mean-hwi"] == 0


def test_bits_are_coins_in_the_order_of_pytorch(errors):
    # 256 coins, six standard deviations of 8 around 128.
    assert 80 < errors["mean-ihw"] < 176
