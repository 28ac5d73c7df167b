"""Documents in which every string that a schema leaves open is an attacker's, wherever it stands."""

import copy
from functools import cache

from onnxmark.errors import ReportError
from onnxmark.report.schema import validate
from tests.report.documents import HOSTILE, real_documents
from tests.report.sweeps import large_sweep

BITING = (
    "https://evil.example/x www.evil.example a@evil.example @somebody #1",
    "| a | b |\n| - | - |",
    "`code` ``more`` *em* _em_ ~~del~~ ![x](http://x) <b>bold</b>",
    "1. list",
    "- list",
    "> quote",
    "# heading",
    "===",
    "---",
    "\x9b31mC1 \x85 next",
    "\u200b\u2028\u2029\ufeff\u00ad",
    "\\| \\` \\",
    "$x$ &lt; &amp;",
    "",
    " ",
    "٣ 漢字 é e\u0301 😀",
)
STRINGS = (*HOSTILE, *BITING)


def leaves(value, path=()):
    """Paths of all strings in plain data."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict | list):
        for name, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(child, (*path, name))


def put(document, path, value):
    *way, last = path
    for step in way:
        document = document[step]
    document[last] = value


def taken(document, path):
    for step in path:
        document = document[step]
    return document


@cache
def open_strings():
    """Situation -> (document, paths at which its schema accepts any text)."""
    found = {}
    for name, document in {**real_documents(), "large sweep": large_sweep(5, 7)}.items():
        probe, paths = copy.deepcopy(document), []
        for path in leaves(document):
            before = taken(probe, path)
            put(probe, path, "anything at all")
            try:
                validate(probe)
            except ReportError:
                put(probe, path, before)
            else:
                paths.append(path)
        found[name] = (document, paths)
    return found


def hostile_documents():
    """Every situation several times over, so that every hostile string meets very different places."""
    for name, (document, paths) in open_strings().items():
        for shift in range(0, len(STRINGS), 4):
            copied = copy.deepcopy(document)
            for index, path in enumerate(paths):
                put(copied, path, STRINGS[(index + shift) % len(STRINGS)])
            validate(copied)
            yield f"{name} {shift}", copied
