"""The script of a web report, run by a real browser from a file: clicked, typed into, and refused to anybody else."""

import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256

import pytest

from onnxmark.registry.conclude import conclude
from onnxmark.report.html import to_html
from onnxmark.report.page import Cell, Column, Headline, Page, Section, Table
from onnxmark.report.pages import page_of
from onnxmark.report.script import script
from onnxmark.verdict import Policy
from tests.registry import synthetic
from tests.report.documents import real_documents

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium to run the script of a web report in")

HAND = """
const [table] = document.querySelectorAll("table.sort");
for (const step of decodeURIComponent(location.hash.slice(1)).split("|").filter(Boolean)) {
  const [what, value] = step.split("=");
  if (what === "click") [...table.querySelectorAll("thead button")].find(b => b.textContent === value).click();
  if (what === "type") {
    const field = document.querySelector("input[type=search]");
    field.value = value;
    field.dispatchEvent(new Event("input"));
  }
  if (what === "keys") {
    const button = [...table.querySelectorAll("thead button")].find(b => b.textContent === value);
    button.focus();
    document.title = `${document.activeElement === button}`;
  }
}
"""
"""What a reader does, told through the fragment of the address; let in by a digest of its own."""


MODEL_AND_SIZE = (Column("model"), Column("size", numeric=True))


def page(*rows, columns=MODEL_AND_SIZE):
    table = Table("Models", columns, tuple(rows), sortable=True)
    return Page("scan", "/models", "", Headline("MATCH", "text"), (Section("Matches", (table,)),), "colophon")


def row(name, words, order):
    return Cell(name, literal=True), Cell(words, order=order)


MANY = [row(f"m{number}.onnx", f"{number}.0 kB", 1000.0 * number) for number in (10, 9, 2, 1, 30, 4, 5, 6, 7, 8)]


def opened(folder, html, fragment, extra=HAND):
    """The page after a reader has done what the fragment says, as the browser holds it."""
    allowed = f"script-src 'sha256-{b64encode(sha256(extra.encode()).digest()).decode()}' "
    path = folder / "page.html"
    changed = html.replace("script-src ", allowed).replace("</body>", f"<script>{extra}</script></body>")
    path.write_text(changed.replace("&#x27;", "'"), encoding="utf-8")
    result = subprocess.run(
        [
            BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=2000", "--dump-dom", f"{path.as_uri()}#{fragment}",
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return result.stdout


def rows_of(dom):
    """First cells of the rows that are shown, from top to bottom, of the first table."""
    body = dom.split("<tbody>")[1].split("</tbody>")[0]
    rows = re.findall(r"<tr([^>]*)>(.*?)</tr>", body, re.DOTALL)
    firsts = (re.search("<th.*?</th>", cells).group() for hidden, cells in rows if "hidden" not in hidden)
    return [re.sub("<[^>]*>", "", first) for first in firsts]


def sorts_of(dom):
    """What each header says of the order."""
    return [re.search(r'aria-sort="(\w+)"', head) for head in re.findall("<th [^>]*scope=.col.[^>]*>", dom)]


@needs_browser
class TestInABrowser:
    def test_numbers_sort_as_numbers_and_turn_round(self, tmp_path):
        html = to_html(page(*MANY))
        dom = opened(tmp_path, html, "click=size")
        numbers = [1, 2, 4, 5, 6, 7, 8, 9, 10, 30]
        assert rows_of(dom) == [f"m{number}.onnx" for number in numbers]
        first, second = sorts_of(dom)
        assert first is None
        assert second.group(1) == "ascending"
        dom = opened(tmp_path, html, "click=size|click=size")
        assert rows_of(dom) == [f"m{number}.onnx" for number in reversed(numbers)]
        assert sorts_of(dom)[1].group(1) == "descending"

    def test_names_sort_as_people_count(self, tmp_path):
        dom = opened(tmp_path, to_html(page(*MANY)), "click=size|click=model")
        assert rows_of(dom)[:3] == ["m1.onnx", "m2.onnx", "m4.onnx"]
        assert rows_of(dom)[-2:] == ["m10.onnx", "m30.onnx"]
        assert [found is not None for found in sorts_of(dom)] == [True, False]

    def test_probabilities_too_small_for_a_double_sort_by_their_logarithm(self, tmp_path):
        rows = [
            row("weak", "1.3e-7", -6.9),
            row("strong", "1.0e-1200", -1200.0),
            row("strongest", "1.0e-1300", -1300.0),
        ]
        columns = (Column("model"), Column("p", numeric=True))
        dom = opened(tmp_path, to_html(page(*rows, columns=columns)), "click=p")
        assert rows_of(dom) == ["strongest", "strong", "weak"]

    def test_only_rows_with_all_words_are_shown_and_counted(self, tmp_path):
        html = to_html(page(*MANY))
        dom = opened(tmp_path, html, "type=M1%20ONNX")
        assert rows_of(dom) == ["m10.onnx", "m1.onnx"]
        assert re.search("<output[^>]*>2 of 10</output>", dom)
        assert len(rows_of(opened(tmp_path, html, "type=m1|type="))) == 10
        assert rows_of(opened(tmp_path, html, "type=m1|click=size")) == ["m1.onnx", "m10.onnx"]
        assert rows_of(opened(tmp_path, html, "type=nothing%20of%20it")) == []

    def test_a_short_table_has_no_field(self, tmp_path):
        assert "<input" not in opened(tmp_path, to_html(page(*MANY[:3])), "")

    def test_headers_can_be_reached_by_keyboard(self, tmp_path):
        assert "<title>true</title>" in opened(tmp_path, to_html(page(*MANY)), "keys=size")

    def test_a_page_without_anybody_touching_it_is_as_it_was_written(self, tmp_path):
        dom = opened(tmp_path, to_html(page(*MANY)), "")
        assert rows_of(dom) == [cells[0].text for cells in MANY]
        assert sorts_of(dom) == [None, None]

    def test_a_scan_of_ten_thousand_models(self, tmp_path):
        document = conclude(synthetic.large(), Policy(), roots=["/registry"], keys=synthetic.keys(200, ()))
        html = to_html(page_of(document))
        names = rows_of(opened(tmp_path, html, "click=p"))
        strength = {
            entry["model"]["identity"]: finding["log10_p_value"]
            for entry in document["entries"]
            for finding in entry["findings"]
            if finding["verdict"] == "match"
        }
        assert len(names) == 25
        assert [strength[name] for name in names] == sorted({*strength.values()})
        # The second copy of a carrier stands in the line of the first.
        (copy,) = document["groups"]["copies"][3]["places"][1:]
        assert rows_of(opened(tmp_path, html, f"type={copy}")) == document["groups"]["copies"][3]["places"][:1]

    def test_no_other_script_runs(self, tmp_path):
        """What the digest does not fit is refused, though it stands in the page; without the policy it would run."""
        html = to_html(page(*MANY)).replace("</body>", "<script>document.title = 'broken into'</script></body>")
        assert "<title>broken into</title>" not in opened(tmp_path, html, "")
        lawless = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
        assert "<title>broken into</title>" in opened(tmp_path, lawless, "")

    @pytest.mark.parametrize("situation", ["scan", "scan, complete"])
    def test_names_do_not_become_markup_when_sorted(self, tmp_path, situation):
        html = to_html(page_of(real_documents()[situation]))
        dom = opened(tmp_path, html, "click=model")
        assert dom.count("<script") == 2


def test_it_makes_no_markup_and_reaches_for_nothing():
    text = script()
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval", "Function", "fetch", "http"):
        assert word not in text
    assert "</" not in text
    assert len(text) < 2500


def test_without_the_script_everything_is_there():
    html = re.sub("<script>.*?</script>", "", to_html(page(*MANY)), flags=re.DOTALL)
    for cells in MANY:
        assert cells[0].text in html
        assert cells[1].text in html
    assert "<button" not in html
    assert "<input" not in html


def test_what_a_cell_is_sorted_by_stands_beside_it():
    html = to_html(page(row("m", "1.5 kB", 1500), row("n", "tiny", 0.1)))
    assert '<td data-order="1500">1.5 kB</td>' in html
    assert '<td data-order="0.1">tiny</td>' in html
