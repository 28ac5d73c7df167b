"""What a key reads in networks that were marked, left alone, damaged or pruned by somebody else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxmark.schemes.structural.code import code_of
from onnxmark.schemes.structural.extraction import FOR_ALL_TO_SEE
from onnxmark.schemes.structural.mixed_radix import whole_bits

from .keys import CHANNELS, SCHEME, bits, key

KEY = key(7, payload=bits(0b101101, 6))
EXPECTED = SCHEME.widths(KEY)
RADICES = code_of(KEY).radices


def test_a_marked_network():
    found = SCHEME.extract(KEY, EXPECTED)
    assert (found.n_symbols, found.n_errors, found.n_erasures) == (len(CHANNELS), 0, 0)
    assert (found.n_bits, found.n_bit_errors, found.bit_error_rate) == (6, 0, 0)
    np.testing.assert_allclose(found.margins, np.log2(RADICES))
    assert found.log10_p == pytest.approx(-math.log10(math.prod(RADICES)))
    assert [test.kind for test in found.tests] == ["exact"] * 3
    assert found.tests[0].log10_p == found.log10_p == pytest.approx(found.tests[1].log10_p)
    # 2^6 messages with a checksum of 16 bits: at most one in 2^16 architectures.
    assert -math.log10(math.prod(RADICES)) < found.tests[2].log10_p <= -16 * math.log10(2)
    assert (found.symbol, found.inverted, found.degenerate) == ("width", False, None)
    assert found.notes == ("7 of 7 layers have the width expected", FOR_ALL_TO_SEE)


def test_an_unmarked_network_says_nothing_instead_of_something_wrong():
    found = SCHEME.extract(KEY, CHANNELS)
    assert (found.n_errors, found.n_erasures) == (7, 7)
    assert not found.margins.any()
    assert [test.log10_p for test in found.tests] == [0, 0, 0]
    assert found.message.rejected
    assert found.bit_error_rate == 1


def test_one_layer_wrong_loses_the_message_and_keeps_the_evidence():
    wrong = next(width for width in code_of(KEY).choices[2] if width > EXPECTED[2])
    found = SCHEME.extract(KEY, (*EXPECTED[:2], wrong, *EXPECTED[3:]))
    assert (found.n_errors, found.n_erasures) == (1, 0)
    assert found.margins[2] == -math.log2(RADICES[2])
    assert found.message.rejected
    assert found.tests[2].log10_p == 0
    others = sum(math.log10(radix) for place, radix in enumerate(RADICES) if place != 2)
    assert found.tests[1].log10_p < -0.8 * others


def test_a_layer_that_was_not_found_is_an_erasure():
    found = SCHEME.extract(KEY, (*EXPECTED[:-1], None))
    assert (found.n_errors, found.n_erasures, found.margins[-1]) == (1, 1, 0)
    assert found.log10_p == pytest.approx(-math.log10(math.prod(RADICES[:-1])))


def test_no_layer_found():
    found = SCHEME.extract(KEY, (None,) * 7)
    assert found.degenerate == "none of the key's layers was found"
    assert (found.log10_p, found.n_symbols, found.n_erasures, found.n_bits) == (0, 7, 7, 6)


def test_a_little_more_pruning_everywhere_leaves_evidence_that_counting_does_not_see():
    found = SCHEME.extract(KEY, tuple(width - 1 for width in EXPECTED))
    assert found.n_errors == 7
    assert found.tests[1].log10_p == 0
    assert found.log10_p < -4
    assert found.notes[0].endswith("; channels lacking in 7 of them, as after further pruning: 1")
    assert FOR_ALL_TO_SEE not in found.notes


def test_evidence_fades_with_every_channel_more():
    log10_p = [SCHEME.extract(KEY, tuple(width - lost for width in EXPECTED)).log10_p for lost in range(6)]
    assert log10_p == sorted(log10_p)
    assert log10_p[0] < log10_p[1] < log10_p[5]


def test_how_many_channels_are_lacking_is_said():
    widths = (EXPECTED[0] - 2, EXPECTED[1] - 5, *EXPECTED[2:])
    assert SCHEME.extract(KEY, widths).notes == (
        "5 of 7 layers have the width expected; channels lacking in 2 of them, as after further pruning: 2 to 5",
        FOR_ALL_TO_SEE,
    )


def test_another_key_reads_nothing():
    worst = min(SCHEME.extract(key(number), EXPECTED).log10_p for number in range(100, 400))
    assert worst > -4.5


def test_another_message_under_the_same_key_is_read_and_told_apart():
    made = code_of(KEY)
    other = made.widths(np.uint8([1, 1, 1, 1, 1, 1]) ^ KEY.message)
    found = SCHEME.extract(KEY, other)
    assert (found.message.rejected, found.message.n_errors) == (False, 6)
    assert found.tests[2].log10_p < -4.8


def test_the_message_takes_what_is_left_beside_the_checksum():
    full = key(1)
    assert full.n_bits == whole_bits(RADICES) - 16
    assert SCHEME.extract(full, SCHEME.widths(full)).bit_error_rate == 0
