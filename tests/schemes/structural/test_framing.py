"""Message and checksum: against the check values that CRC catalogues print, and against every single error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.schemes.structural.framing import CHECKSUMS, framed, unframed

from .keys import bits

MESSAGES = st.lists(st.integers(0, 1), min_size=1, max_size=100).map(lambda found: np.array(found, dtype=np.uint8))


@pytest.mark.parametrize(("size", "check"), [(16, 0x29B1), (32, 0xCBF43926)])
def test_checksums_are_those_of_the_catalogues(size, check):
    # The CRC of the nine characters "123456789" is what catalogues of CRCs tell them apart by.
    message = bits(int.from_bytes(b"123456789", "little"), 72)
    assert framed(message, size) >> 72 == check


@given(MESSAGES, st.sampled_from(CHECKSUMS))
def test_messages_come_back(message, size):
    number = framed(message, size)
    assert 0 <= number < 2 ** (message.size + size)
    np.testing.assert_array_equal(unframed(number, message.size, size), message)


@given(MESSAGES, st.sampled_from(CHECKSUMS))
def test_the_message_stands_at_the_low_end(message, size):
    number = framed(message, size)
    assert [number >> place & 1 for place in range(message.size)] == message.tolist()


@given(MESSAGES, st.sampled_from(CHECKSUMS), st.data())
def test_a_wrong_bit_is_noticed_wherever_it_is(message, size, data):
    place = data.draw(st.integers(0, message.size + size - 1))
    assert unframed(framed(message, size) ^ 1 << place, message.size, size) is None


@given(MESSAGES, st.sampled_from(CHECKSUMS), st.integers(0, 20))
def test_numbers_beyond_all_frames_stand_for_nothing(message, size, more):
    number = framed(message, size) | 1 << (message.size + size + more)
    assert unframed(number, message.size, size) is None


def test_of_all_numbers_one_a_message_is_a_frame():
    assert sum(unframed(number, 2, 16) is not None for number in range(2**18)) == 2**2


def test_other_checksums():
    with pytest.raises(ValueError, match="16 or 32 bits, not 8"):
        framed(bits(1, 4), 8)
