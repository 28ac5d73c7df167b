"""Which widths a layer may have: against decimal arithmetic, and the figure known for VGG-16."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.schemes.structural.admissible import WidthRule
from onnxmark.schemes.structural.mixed_radix import whole_bits

VGG_16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
PERCENT = st.integers(1, 99)


def test_vgg_16_holds_about_87_bits_when_a_tenth_to_a_half_is_dropped():
    radices = [len(WidthRule().widths(channels)) for channels in VGG_16]
    assert radices[:3] == [26, 26, 52]
    assert whole_bits(radices) == 86


@given(PERCENT, PERCENT, st.integers(1, 9), st.integers(1, 600))
def test_widths_are_those_that_decimals_say(one, other, step, channels):
    least, most = sorted((one, other))
    expected = [
        width
        for width in range(step, channels + 1, step)
        if Decimal(least) / 100 <= Decimal(width) / channels <= Decimal(most) / 100
    ]
    assert list(WidthRule(least / 100, most / 100, step).widths(channels)) == expected


@given(PERCENT, st.integers(1, 10_000))
def test_the_original_width_and_no_width_at_all_are_never_among_them(most, channels):
    widths = WidthRule(0.01, most / 100).widths(channels)
    assert channels not in widths
    assert 0 not in widths


def test_what_is_written_counts_and_not_its_binary_neighbour():
    assert 0.07 * 100 > 7
    assert 7 in WidthRule(0.07, 0.5).widths(100)
    assert 0.29 * 100 < 29
    assert 29 in WidthRule(0.01, 0.29).widths(100)


def test_eights_for_accelerators():
    assert list(WidthRule(step=8).widths(64)) == [32, 40, 48, 56]


@pytest.mark.parametrize(
    ("least", "most"),
    [(0, 0.5), (-0.1, 0.5), (0.6, 0.5), (0.5, 1), (0.5, 1.5), (float("nan"), 0.5), (0.5, float("nan"))],
)
def test_parts_that_are_none(least, most):
    with pytest.raises(ValueError, match="0 < least <= most < 1, not"):
        WidthRule(least, most)


def test_steps_of_nothing():
    with pytest.raises(ValueError, match="at least 1 channel, not 0"):
        WidthRule(step=0)


def test_parameters_rebuild_the_rule():
    rule = WidthRule(0.3, 0.8, 4)
    assert WidthRule(**rule.parameters) == rule
