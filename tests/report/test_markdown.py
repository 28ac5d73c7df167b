"""Markdown as an independent reader understands it: tables and lists are ours, names are text."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from onnxmark.report.markdown import text, to_markdown
from onnxmark.report.page import Cell, Column, Fact, Facts, Headline, Notes, Page, Section, Table
from onnxmark.report.pages import page_of
from tests.report.documents import SITUATIONS, audit, real_documents
from tests.report.open_strings import STRINGS, hostile_documents
from tests.report.sweeps import swept, trial, with_margins

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
OURS = """
    heading_open heading_close inline paragraph_open paragraph_close bullet_list_open bullet_list_close list_item_open
    list_item_close table_open table_close thead_open thead_close tbody_open tbody_close tr_open tr_close th_open
    th_close td_open td_close blockquote_open blockquote_close fence hr
"""
INLINE = {"text", "code_inline", "strong_open", "strong_close", "softbreak"}


COLUMNS = (Column("a"), Column("b", numeric=True))


def tokens(markdown):
    blocks = READER.parse(markdown)
    assert {block.type for block in blocks} <= set(OURS.split())
    inline = [child for block in blocks for child in block.children or ()]
    assert {child.type for child in inline} <= INLINE, {child.type for child in inline}
    return blocks, inline


def shape(markdown):
    """The structure: kinds of blocks and, within, where bold words stand."""
    return [block.type for block in READER.parse(markdown)]


def shown(markdown):
    return "".join(child.content for child in tokens(markdown)[1])


def page(words):
    """A page with the same words in every place."""
    return Page(
        "audit",
        words,
        words,
        Headline("MATCH", words, notes=(words,)),
        (
            Section(
                words,
                (
                    Facts((Fact("name", words, words), Fact("quoted", words, literal=True))),
                    Notes((words,)),
                    Table(words, COLUMNS, ((Cell(words), Cell(words, literal=True)),), words),
                ),
            ),
        ),
        words,
    )  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_document(situation):
    markdown = to_markdown(page_of(real_documents()[situation]))
    blocks, _ = tokens(markdown)
    assert markdown.endswith("\n")
    assert not markdown.endswith("\n\n")
    levels = [int(block.tag[1]) for block in blocks if block.type == "heading_open"]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_what_the_document_says_is_there():
    document = audit()
    words = shown(to_markdown(page_of(document)))
    finding = document["findings"][0]
    for expected in ("✓ MATCH", "consistent with key", "conv3.weight", *finding["does_not_prove"]):
        assert expected in words
    assert f"sha256 {finding['key']['commitment']}" in words


def test_tables_keep_their_columns():
    document = swept([trial(label="a | b"), trial()])
    blocks, _ = tokens(to_markdown(page_of(document)))
    rows, cells = 0, []
    for block in blocks:
        if block.type == "tr_open":
            rows, cells = rows + 1, [*cells, 0]
        elif block.type in ("td_open", "th_open"):
            cells[-1] += 1
    assert set(cells) == {2, 3, 6, 7}


def test_drawings_are_fenced():
    blocks, _ = tokens(to_markdown(page_of(with_margins([1.0, -1.0, 0.2]))))
    fences = [block.content for block in blocks if block.type == "fence"]
    assert len(fences) == 2
    assert fences[1] == "█×░\n"


def test_the_same_page_gives_the_same_text():
    assert to_markdown(page_of(audit())) == to_markdown(page_of(audit()))


class TestHostileNames:
    @pytest.mark.parametrize("words", STRINGS, ids=range(len(STRINGS)))
    def test_structure_does_not_depend_on_names(self, words):
        expected = shape(to_markdown(page("harmless")))
        empty = {"", " "}
        assert words in empty or shape(to_markdown(page(words))) == expected
        tokens(to_markdown(page(words)))

    @given(
        st.text(st.sampled_from("\\`*_{}[]()<>#+-.!|~&$=:/@ \n\t1aw"), max_size=30).filter(lambda words: words.strip())
    )
    def test_nor_on_any_other_text(self, words):
        assert shape(to_markdown(page(words))) == shape(to_markdown(page("harmless")))
        tokens(to_markdown(page(words)))

    @given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=40))
    def test_what_is_shown_is_what_was_meant(self, words):
        meant = words.strip()
        blocks = READER.parse(text(words))
        shown_ = "".join(child.content for block in blocks for child in block.children or ())
        assert re.sub(" +", " ", shown_.replace("\u2060", "")) == re.sub(" +", " ", meant)

    def test_whole_documents(self):
        for name, document in hostile_documents():
            markdown = to_markdown(page_of(document))
            tokens(markdown)
            markdown.encode()
            assert len(markdown) < 400_000, name

    @pytest.mark.parametrize(
        ("words", "link"),
        [
            ("https://evil.example", r"https?://"),
            ("see www.evil.example", r"www\."),
            ("WWW.evil.example", r"www\."),
            ("a@evil.example", r"\w@\w"),
            ("@somebody", r"@\w"),
            ("mailto:a@evil.example", r"@\w"),
        ],
    )
    def test_nothing_in_text_looks_like_an_address(self, words, link):
        assert re.search(link, words, re.IGNORECASE)
        assert not re.search(link, text(words), re.IGNORECASE)
