"""The one script of a web report: it lets a reader sort and search long tables, and adds nothing else.

A page that has such a table carries the script, and its digest stands in the page's content security policy, so that
the browser runs this text and nothing that a hostile name might have smuggled in. Without it everything can be read:
the buttons and fields are made by the script itself. It never turns text into markup.
"""

from __future__ import annotations

from typing import Final

_SCRIPT: Final = """
"use strict";
const few = 8;
const collator = new Intl.Collator(undefined, {numeric: true});
const keyOf = cell => cell.dataset.order === undefined ? cell.textContent : Number(cell.dataset.order);
const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
  : collator.compare(String(a), String(b));

function searchable(table, rows) {
  const label = document.createElement("label"), field = document.createElement("input");
  const told = document.createElement("output");
  const texts = rows.map(row => row.textContent.toLowerCase());
  label.className = "find";
  field.type = "search";
  field.autocomplete = "off";
  field.spellcheck = false;
  label.append("Rows that contain ", field, told);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every(word => texts[index].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    told.value = words.length ? `${shown} of ${rows.length}` : "";
  });
  table.parentElement.before(label);
}

function sortable(head, heads, column, body, rows) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const turned = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", turned ? "descending" : "ascending");
    const keys = rows.map((row, index) => [keyOf(row.cells[column]), index]);
    keys.sort((a, b) => (turned ? -1 : 1) * compare(a[0], b[0]) || a[1] - b[1]);
    const sorted = document.createDocumentFragment();
    for (const [, index] of keys) sorted.append(rows[index]);
    body.append(sorted);
  });
}

for (const table of document.querySelectorAll("table.sort")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  if (rows.length > few) searchable(table, rows);
  heads.forEach((head, column) => sortable(head, heads, column, body, rows));
}
""".strip()


def script() -> str:
    """The text of the script block."""
    return _SCRIPT
