"""The terminal report: every width, no escape sequence and no markup from names, and the words that matter."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from onnxmark.report import blocks
from onnxmark.report.page import Bar, Histogram
from onnxmark.report.pages import page_of
from onnxmark.report.terminal import print_page
from tests.report.documents import SITUATIONS, audit, real_documents
from tests.report.open_strings import hostile_documents
from tests.report.sweeps import fidelity, large_sweep, pruning, swept, trial, with_margins

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


HIDDEN = {*range(10), *range(11, 32), *range(127, 160), 0x202E, 0x2066, 0x2028, 0x200B}


def printed(document, width=110, **options):
    file = io.StringIO()
    print_page(page_of(document), Console(file=file, width=width, highlight=False, **options))
    return file.getvalue()


def flat(text):
    """Without frames and line breaks."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", text)


@pytest.mark.parametrize("width", [20, 40, 80, 110, 200])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_document_fits_every_width(situation, width):
    for line in printed(real_documents()[situation], width).splitlines():
        assert cell_len(line) <= width, line


def test_a_match():
    text = flat(printed(audit()))
    for words in (
        "✓ MATCH",
        "consistent with key 3a50360d475440a9…, p ≤ 1.8e-77",
        "layers: 4 found / 1 audited / 3 skipped (no key fits their shape) / 0 failed",
        "What this does not prove",
        "L1 pruning 95 %",
        "BER 0.000",
    ):
        assert words in text


def test_mark_and_model_stand_side_by_side_at_eighty_columns():
    document = swept(pruning([70, 30, 2], [0.9, 0.31, 0.1]))
    lines = [line for line in printed(document, 80).splitlines() if "│ 2 L1" in re.sub(r"[ ]+", " ", line)]
    assert len(lines) == 1
    for figure in ("30.0", "0.125", "✓ match", "0.9000 → 0.3100"):
        assert figure in lines[0]


def test_details_appear_with_room_and_go_without():
    entry = trial(relative_change=0.375, fidelity=fidelity(accuracy_before=0.9, accuracy_after=0.3))
    assert "37.5%" in printed(swept([entry]), 160)
    assert "37.5%" not in printed(swept([entry]), 80)
    assert "0.9000 → 0.3000" in printed(swept([entry]), 80)


def test_detail_is_shown_where_the_document_asks_for_it():
    assert "different values" in printed(real_documents()["inspect, detail"])
    assert "different values" not in printed(real_documents()["inspect"])


def test_colours_only_on_a_terminal_that_has_them():
    plain = printed(audit())
    coloured = printed(audit(), force_terminal=True, color_system="standard")
    assert "\x1b" not in plain
    assert ESCAPE.search(coloured)
    assert ESCAPE.sub("", coloured) == plain


def test_long_messages_are_summed_up():
    short, long = (printed(with_margins([1.0, -1.0] * half)) for half in (512, 513))
    assert "The bits in order" in short
    assert "The bits in order" not in long


def test_a_full_sweep():
    assert "154 attack v 7 units" in flat(printed(large_sweep()))


def test_hostile_names_are_harmless():
    for name, document in hostile_documents():
        text = printed(document, 100)
        assert not set(map(ord, text)) & {
            *range(10),
            *range(11, 32),
            *range(127, 160),
            0x202E,
            0x2066,
            0x2028,
            0x200B,
        }, name
        coloured = ESCAPE.sub("", printed(document, 100, force_terminal=True, color_system="truecolor"))
        assert coloured == text, name
        text.encode()


def test_markup_of_rich_is_text():
    document = audit()
    document["model"]["path"] = "[bold red]x[/] [link=https://evil.example]y[/link] :smile:"
    assert "[bold red]x[/] [link=https://evil.example]y[/link] :smile:" in printed(document, 140)


class TestBlocks:
    @pytest.mark.parametrize(
        ("length", "drawn"), [(0.0, "  │     "), (0.5, "██│█    "), (1.0, "██│█████"), (0.125, "█ │     ")]
    )
    def test_bar(self, length, drawn):
        assert blocks.bar(Bar(length, 0.25), 8) == drawn

    def test_a_boundary_at_the_end_is_seen(self):
        assert blocks.bar(Bar(0.5, 1.0), 4) == "██ │"

    def test_columns(self):
        assert blocks.columns((0, 1, 2, 4), 2) == ("      ██", "  ▄▄████")
        assert blocks.columns((1, 1000), 1) == ("▁▁██",)
        assert blocks.columns((0, 0), 1) == ("    ",)

    def test_bits(self):
        assert blocks.bits((1.0, -1.0, 0.6, 0.3, 0.05, 0.0)) == ("█×▓▒░×",)
        assert [len(line) for line in blocks.bits((1.0,) * 130)] == [64, 64, 2]
        assert blocks.bits(()) == ()

    def test_the_zero_stands_where_the_sides_meet(self):
        chart = Histogram("t", (-2.0, -1.0, 0.0, 1.0, 2.0), (1, 1, 1, 1), "a", "wrong", "right", "s")
        *_, ends, sides = blocks.histogram(chart, 1)
        assert ends.index("0", 4) == 5 or ends[3] == "0"
        assert sides.startswith("wron")
        assert "right" in sides
