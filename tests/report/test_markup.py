"""The one door of a web report: what goes in as a string comes out as the same visible string, and never as markup."""

from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.report.markup import element, number, text, void
from onnxmark.report.text import plain

NASTY = st.text(st.sampled_from("<>&\"'`=/ \n\x00\x1b\u202eabc\ud800"), max_size=40)


class Echo(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.data = [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, attributes))

    def handle_data(self, data):
        self.data += data


def echo(markup):
    parser = Echo()
    parser.feed(markup)
    parser.close()
    return parser


@given(NASTY)
def test_text_and_attributes_come_back_as_they_were_meant(words):
    parser = echo(element("p", text(words), aria_label=words))
    expected = [("aria-label", plain(words, 1000))] if words else []
    assert parser.tags == [("p", expected)]
    assert parser.data == plain(words, 1000)


@given(NASTY)
def test_it_is_xml_too(words):
    parsed = ElementTree.fromstring(element("text", text(words), x=1.25, class_=words))
    assert (parsed.text or "") == plain(words, 1000)
    assert parsed.get("class", "") == plain(words, 1000)


def test_quotes_do_not_end_an_attribute():
    for quote in "\"'":
        assert quote not in text(f"x{quote} onclick={quote}alert(1)")


def test_text_is_cut_and_paths_are_not():
    assert len(text("x" * 10_000)) == 999
    assert "M0 0h1" * 1000 in void("path", d="M0 0h1" * 1000)
    assert echo(void("path", d='"><script>')).tags == [("path", [("d", '"><script>')])]


@pytest.mark.parametrize(("value", "shown"), [(1.0, "1"), (0.04, "0"), (-2.26, "-2.3"), (1234.5, "1234.5"), (3, "3")])
def test_coordinates(value, shown):
    assert number(value) == shown


def test_names_of_attributes():
    assert void("path", class_="a", stroke_dasharray="1 2", d="") == '<path class="a" stroke-dasharray="1 2"/>'
