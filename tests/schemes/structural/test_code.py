"""Messages in widths and back; over keys every layer's width is uniform and independent of the others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from onnxmark.keys import Secret
from onnxmark.schemes.structural.code import OFFSET_BYTES, WidthCode, code_of, offset
from onnxmark.schemes.structural.parameters import Options

from .keys import CHANNELS, bits, key

SMALL = (range(4, 16), range(3, 12, 2), range(10, 16), range(20, 60), range(20, 61), range(5, 90))


def code(number: int, n_bits: int = 8) -> WidthCode:
    secret = Secret(number.to_bytes(32, "little"))
    offsets = tuple(offset(secret, layer, len(widths)) for layer, widths in enumerate(SMALL))
    return WidthCode(SMALL, offsets, n_bits, 16)


@given(st.integers(0, 1000), st.integers(0, 255))
def test_messages_come_back_from_widths_a_layer_may_have(number, message):
    made = code(number)
    widths = made.widths(bits(message, 8))
    assert all(width in choices for width, choices in zip(widths, SMALL, strict=True))
    np.testing.assert_array_equal(made.message(widths), bits(message, 8))


def test_different_messages_have_different_widths():
    made = code(1)
    assert len({made.widths(bits(message, 8)) for message in range(256)}) == 256


@given(st.integers(0, 200), st.integers(0, 255), st.integers(0, 5), st.data())
def test_one_wrong_width_is_noticed_or_says_something_else(number, message, layer, data):
    made = code(number)
    widths = list(made.widths(bits(message, 8)))
    widths[layer] = data.draw(st.sampled_from([width for width in SMALL[layer] if width != widths[layer]]))
    found = made.message(widths)
    assert found is None or found.tolist() != bits(message, 8).tolist()


@pytest.mark.parametrize("width", [None, 0, 4, 14, 32, 10_000])
def test_a_width_of_no_message(width):
    made = code(3)
    widths = list(made.widths(bits(77, 8)))
    widths[1] = width
    assert made.message(widths) is None


def test_a_key_writes_its_own_message():
    made = key(5, payload=bits(0b1011, 4))
    found = code_of(made)
    assert found.message(found.widths(made.message)).tolist() == made.message.tolist()


@pytest.mark.parametrize(
    ("payload", "options"),
    [
        (bits(0, 4), Options()),
        (bits(15, 4), Options(step=2, least=0.3)),
        (bits(9, 4), Options(least=0.25, most=0.75)),
    ],
    ids=["zeros", "ones, even widths", "other parts"],
)
def test_over_keys_every_width_comes_as_often(payload, options):
    found = [code_of(each).widths(each.message) for each in (key(n, CHANNELS, payload, options) for n in range(3000))]
    choices = code_of(key(0, CHANNELS, payload, options)).choices
    for widths, column in zip(choices, zip(*found, strict=True), strict=True):
        counts = [column.count(width) for width in widths]
        assert sum(counts) == 3000
        assert chisquare(counts).pvalue > 1e-4


def test_over_keys_the_layers_know_nothing_of_each_other():
    found = np.array([code_of(each).widths(each.message) for each in map(key, range(3000))], dtype=float)
    correlations = np.corrcoef(found.T)[np.triu_indices(len(CHANNELS), 1)]
    # Of 21 correlations of standard deviation 1/sqrt(3000), the largest.
    assert np.abs(correlations).max() < 4.2 / np.sqrt(3000)


def test_without_offsets_they_would_not_come_as_often():
    """Whitened messages alone leave the last layer's digit far from uniform: the reason for offsets."""
    made = key(1)
    plain = code_of(made)
    plain = WidthCode(plain.choices, (0,) * len(plain.choices), plain.n_bits, plain.checksum)
    rng = np.random.default_rng(0)
    last = [plain.widths(rng.integers(0, 2, plain.n_bits).astype(np.uint8))[-1] for _ in range(3000)]
    counts = [last.count(width) for width in plain.choices[-1]]
    assert chisquare(counts).pvalue < 1e-12


def test_offsets_are_far_too_wide_to_be_biased():
    assert OFFSET_BYTES * 8 - 20 > 60
    assert offset(Secret(bytes(32)), 0, 2**100) > 2**64


def test_offsets_are_not_shown():
    made = code_of(key(2))
    assert str(made.offsets) not in repr(made)
