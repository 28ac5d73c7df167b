"""The web report: well-formed, self-contained, without scripts, accessible, and deaf to what names say."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from onnxmark.report.html import to_html
from onnxmark.report.page import Tone
from onnxmark.report.pages import page_of
from tests.report.documents import SITUATIONS, audit, real_documents
from tests.report.open_strings import hostile_documents
from tests.report.sweeps import fidelity, large_sweep, pruning, swept, trial, with_margins

VOID = {"meta", "br"}
ELEMENTS = """
    html head meta title style body main header section footer h1 h2 h3 h4 h5 h6 p ul li dl dt dd div span strong b
    table caption thead tbody tr th td figure figcaption details summary pre svg desc g path rect circle text script
"""
ATTRIBUTES = """
    lang charset http-equiv content name class scope role tabindex aria-label aria-hidden
    viewbox width height x y d cx cy r stroke-dasharray data-order
"""


class Reader(HTMLParser):
    """Reads a page and holds it to its duties while reading."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.headings, self.meta, self.text, self.styles = [], [], [], {}, [], []
        self.scripts = []

    def handle_starttag(self, tag, attributes):
        self.started(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.started(tag, attributes)

    def started(self, tag, attributes):
        assert tag in ELEMENTS.split(), tag
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, names)
        assert set(names) <= set(ATTRIBUTES.split()), (tag, names)
        self.tags.append((tag, dict(attributes)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "meta":
            values = dict(attributes)
            self.meta[values.get("http-equiv") or values.get("name") or "charset"] = values.get("content")

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        {"style": self.styles, "script": self.scripts}.get(inside, self.text).append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def handle_pi(self, data):
        raise AssertionError(f"a processing instruction: {data}")

    def unknown_decl(self, data):
        raise AssertionError(f"a declaration: {data}")


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def drawings(html):
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def shown(html):
    return "".join(read(html).text)


@pytest.fixture(params=SITUATIONS)
def html(request):
    return to_html(page_of(real_documents()[request.param]))


def test_every_page_is_well_formed_and_complete(html):
    reader = read(html)
    assert html.startswith("<!DOCTYPE html>\n")
    assert html.endswith("</html>\n")
    assert reader.tags[0] == ("html", {"lang": "en"})
    assert [tag for tag, _ in reader.tags].count("main") == 1
    assert {"viewport", "charset", "referrer"} <= reader.meta.keys()


def test_the_policy_allows_the_one_style_block_and_the_one_script_and_nothing_else(html):
    reader = read(html)
    (style,) = reader.styles
    policy = dict(directive.split(" ", 1) for directive in reader.meta["Content-Security-Policy"].split("; "))
    expected = {
        "default-src": "'none'", "style-src": hashed(style), "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    if reader.scripts:
        (script,) = reader.scripts
        expected["script-src"] = hashed(script)
    assert policy == expected


def hashed(text):
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("situation", SITUATIONS)
def test_only_a_table_to_be_sorted_brings_a_script(situation):
    reader = read(to_html(page_of(real_documents()[situation])))
    tables = [attributes for tag, attributes in reader.tags if tag == "table"]
    sortable = any("sort" in attributes.get("class", "").split() for attributes in tables)
    assert len(reader.scripts) == sortable
    assert sortable == (situation in ("scan", "scan, complete", "scan, no match"))
    assert [tag for tag, _ in reader.tags].count("script") == len(reader.scripts)


def test_nothing_comes_from_elsewhere(html):
    assert "url(" not in html
    assert "@import" not in html
    assert "@font-face" not in html
    assert "//" not in re.sub(r">[^<]*<", "><", html)


def test_headings_go_down_one_step_at_a_time(html):
    levels = read(html).headings
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_tables_name_their_rows_and_columns(html):
    for body in re.findall(r"<table.*?</table>", html, re.DOTALL):
        assert re.match(r'<table( class="(sort ?)?[n0-9 ]*")?><caption>', body)
        head, _, rows = body.partition("</thead>")
        assert head.count("<th") - 1 == head.count('scope="col"') > 0
        assert rows.count("<tr>") == rows.count('scope="row"')


def test_drawings_have_a_title_and_a_description_or_are_hidden(html):
    for drawing in drawings(html):
        if drawing.get("aria-hidden") == "true":
            continue
        assert drawing.get("role") == "img"
        assert drawing[0].tag == "title"
        assert drawing[0].text
        assert drawing[1].tag == "desc"


def test_the_same_page_gives_the_same_bytes():
    assert to_html(page_of(audit())) == to_html(page_of(audit()))


def test_what_the_document_says_is_there():
    document = audit()
    text = shown(to_html(page_of(document)))
    finding = document["findings"][0]
    for words in (
        "MATCH",
        finding["key"]["commitment"],
        "conv3.weight",
        "What this does not prove",
        *finding["does_not_prove"],
        *(entry["label"] for entry in finding["robustness"]),
        "layers: 4 found / 1 audited",
        "boundary of a match",
    ):
        assert words in text


def test_a_full_sweep_is_of_modest_size():
    document = large_sweep()
    assert len(document["findings"][0]["robustness"]) == 154
    html = to_html(page_of(document))
    assert len(html.encode()) < 150_000
    read(html)


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [trial()],
        [trial(bit_error_rate=None, verdict="inconclusive", evidence=0, problem="why")],
        [trial(fidelity=fidelity(relative_change=1e308, decisions_changed=None))],
        [trial(evidence=1e308), trial(evidence=-1e308)],
        [trial(evidence=0.0)] * 3,
        pruning([70, 7, 5], [0.9, 0.91, 0.2]),
    ],
)
def test_sweeps_of_every_size(trials):
    html = to_html(page_of(swept(trials)))
    read(html)
    for drawing in drawings(html):
        for node in drawing.iter():
            for name in ("x", "y", "width", "height", "cx", "cy", "d"):
                assert not re.search("nan|inf", node.get(name, ""))


@pytest.mark.parametrize("values", [[1.0], [-1.0], [0.0], [1e308, -1e308], [(-1) ** bit * 1.5 for bit in range(4096)]])
def test_messages_of_every_length(values):
    html = to_html(page_of(with_margins(values)))
    read(html)
    drawings(html)
    assert "nan" not in html


def test_tones_are_never_colour_alone():
    html = to_html(page_of(swept([trial(), trial(evidence=1.0), trial(verdict="inconclusive")])))
    for tone, sign, word in ((Tone.GOOD, "✓", "match"), (Tone.BAD, "✗", "no-match"), (Tone.DOUBT, "?", "inconclusive")):
        assert f'<td class="{tone}"><span aria-hidden="true">{sign}</span> {word}</td>' in html


class TestHostileNames:
    def test_they_stay_text(self):
        """The reader refuses every element and attribute that is not ours, so markup in a name would be seen."""
        for name, document in hostile_documents():
            html = to_html(page_of(document))
            reader = read(html)
            assert len(reader.styles) == 1, name
            assert len(html) < 400_000, name
            html.encode()
            drawings(html)

    def test_structure_does_not_depend_on_names(self):
        """Not one element more or less than with harmless names of the same kind."""
        for situation in SITUATIONS:
            document = real_documents()[situation]
            if document["schema"] != "onnxmark/audit/v1" or document["status"] == "failed":
                continue
            tame, wild = audit(situation), audit(situation)
            for one, path in ((tame, "model.onnx"), (wild, '"><script>alert(1)</script><img src=x onerror=alert(1)>')):
                one["model"]["path"] = path
                for finding in one["findings"]:
                    finding["does_not_prove"] = [path] * 2
            tags = [[tag for tag, _ in read(to_html(page_of(one))).tags] for one in (tame, wild)]
            assert tags[0] == tags[1]

    def test_they_are_shown_as_they_are(self):
        document = audit()
        document["findings"][0]["carrier"]["layers"][0]["name"] = '<b onclick="x">\'&amp;\x1b[31m\u202e'
        assert '<b onclick="x">\'&amp;\\x1b[31m\\x202e' in shown(to_html(page_of(document)))
