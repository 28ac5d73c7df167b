"""Every text can be read on every ground, in both themes: WCAG 2 contrast of at least 4.5."""

import pytest

from onnxmark.report.palette import DARK, GROUNDS, LIGHT, properties
from onnxmark.report.stylesheet import stylesheet

PAIRS = [(text, ground) for text, grounds in GROUNDS.items() for ground in grounds]


def luminance(colour):
    """Relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_the_measure_itself():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"), [(text, ground) for text, grounds in GROUNDS.items() for ground in grounds]
)
def test_contrast(palette, text, ground):
    assert contrast(palette[text], palette[ground]) >= 4.5


def test_both_themes_name_the_same_colours_and_the_sheet_uses_no_other():
    assert LIGHT.keys() == DARK.keys()
    sheet = stylesheet()
    assert properties(LIGHT) in sheet
    assert properties(DARK) in sheet
    rules = sheet.replace(properties(LIGHT), "").replace(properties(DARK), "")
    assert "#" not in rules
    for name in LIGHT:
        assert f"var(--{name})" in rules
    for used in rules.split("var(--")[1:]:
        assert used.partition(")")[0] in LIGHT
