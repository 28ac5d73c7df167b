from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxmark_tf.orders import canonical, stored

LETTERS = ("HWIO", "HWOI", "HWCM", "OHWI", "MHWC", "IO", "OI")


@st.composite
def kept(draw):
    """An axis order and a tensor kept in it, with one to three spatial axes."""
    order = draw(st.sampled_from(LETTERS))
    sizes = st.integers(1, 4)
    spatial = draw(st.lists(sizes, min_size=1, max_size=3)) if "HW" in order else []
    one, other = draw(sizes), draw(sizes)
    shape = {
        "HWIO": (*spatial, one, other),
        "HWOI": (*spatial, one, other),
        "HWCM": (*spatial, one, other),
        "OHWI": (one, *spatial, other),
        "MHWC": (1, *spatial, one),
        "IO": (one, other),
        "OI": (one, other),
    }[order]
    return order, np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def by_hand(values, order):
    """Element by element."""
    n = values.ndim
    out = {}
    for index in product(*map(range, values.shape)):
        if order == "HWIO":
            place = (index[-1], index[-2], *index[:-2])
        elif order == "HWOI":
            place = (index[-2], index[-1], *index[:-2])
        elif order == "HWCM":
            place = (index[-2] * values.shape[-1] + index[-1], 0, *index[:-2])
        elif order == "OHWI":
            place = (index[0], index[-1], *index[1 : n - 1])
        elif order == "MHWC":
            place = (index[-1], 0, *index[1 : n - 1])
        else:
            place = index[::-1] if order == "IO" else index
        out[place] = values[index]
    shape = tuple(max(place[axis] for place in out) + 1 for axis in range(n))
    result = np.empty(shape, np.float32)
    for place, value in out.items():
        result[place] = value
    return result


@given(kept())
def test_canonical_is_what_the_letters_say(case):
    order, values = case
    np.testing.assert_array_equal(canonical(values, order), by_hand(values, order))


@given(kept())
def test_there_and_back(case):
    order, values = case
    np.testing.assert_array_equal(stored(canonical(values, order), order, values.shape), values)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_canonical_weights_are_float32_of_their_own(dtype):
    values = np.ones((3, 3, 2, 4), dtype)
    weights = canonical(values, "HWIO")
    assert (weights.dtype, weights.shape) == (np.float32, (4, 2, 3, 3))
    assert weights.flags.c_contiguous
    assert not np.shares_memory(weights, values)
    assert not np.shares_memory(canonical(np.ones((4, 2), np.float32), "OI"), values)


@pytest.mark.parametrize(
    ("order", "shape"),
    [("HWIO", (3, 3, 4, 2)), ("HWCM", (3, 3, 2, 2)), ("HWCM", (3, 2, 4)), ("IO", (3, 3, 2, 4)), ("HWOI", (3, 3, 2, 4))],
)
def test_weights_that_do_not_fit_are_refused(order, shape):
    weights = np.zeros((4, 2, 3, 3) if order != "HWCM" else (8, 1, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"weights of shape .* do not fit a tensor of shape"):
        stored(weights, order, shape)
