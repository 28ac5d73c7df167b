"""Names made harmless, and numbers for people."""

import math
import unicodedata
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.report.text import byte_size, plain, power_of_ten, shortened


class TestPlain:
    @given(st.text(max_size=300), st.integers(3, 200))
    def test_nothing_hidden_is_left_and_the_length_is_kept(self, text, limit):
        shown = plain(text, limit)
        assert len(shown) <= limit
        assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        shown.encode()

    def test_visible_text_stays(self):
        assert plain("conv1.weight é 漢字 😀 [red]<b>") == "conv1.weight é 漢字 😀 [red]<b>"

    def test_hidden_characters_are_named(self):
        assert plain("a\x1b[31m\u202eb") == "a\\x1b[31m\\x202eb"

    def test_a_huge_name_is_not_walked_through(self):
        assert plain("\x00" * 50_000_000, 100).startswith("\\x00\\x00")

    @given(st.text(max_size=300), st.integers(3, 200))
    def test_once_is_enough(self, text, limit):
        assert plain(plain(text, limit), limit) == plain(text, limit)


class TestShortened:
    @given(st.text(max_size=100), st.integers(3, 50))
    def test_both_ends_stay(self, text, limit):
        cut = shortened(text, limit)
        if len(text) <= limit:
            assert cut == text
        else:
            before, _, after = cut.partition("…") if "…" not in text else (text[:1], "", text[-1:])
            assert len(cut) <= limit
            assert text.startswith(before)
            assert text.endswith(after)


class TestPowerOfTen:
    @pytest.mark.parametrize(
        ("log10_p", "shown"), [(0.0, "1"), (5.0, "1"), (1e308, "1"), (-77, "1.0e-77"), (-6, "1.0e-6"), (-1, "0.1")]
    )
    def test_values(self, log10_p, shown):
        assert power_of_ten(log10_p) == shown

    @given(st.floats(-300, -2.001))
    def test_never_smaller_than_it_is_and_never_much_larger(self, log10_p):
        shown = math.log10(Fraction(power_of_ten(log10_p)))
        assert shown >= log10_p - 5e-4
        assert shown <= log10_p + math.log10(1.11)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (98_100, "98.1 kB"),
        (585_000, "585 kB"),
        (5 * 10**12, "5000 GB"),
    ],
)
def test_byte_size(count, shown):
    assert byte_size(count) == shown
