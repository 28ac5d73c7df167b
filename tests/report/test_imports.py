"""Who asks for one format does not pay for the others, and pages need neither numbers nor a terminal library."""

import json
import subprocess
import sys

import pytest

from tests.report.documents import KEY, MARKED

WATCHED = (
    "numpy", "rich", "onnxmark.report.html", "onnxmark.report.svg", "onnxmark.report.stylesheet",
    "onnxmark.report.markdown", "onnxmark.report.terminal", "onnxmark.report.pages.audit",
    "onnxmark.report.pages.inspect", "onnxmark.report.pages.attack",
)  # fmt: skip


def loaded(code):
    """Which of the modules watched a fresh interpreter has after running code."""
    program = (
        f"{code}\nimport json, sys\nprint(json.dumps([m for m in {WATCHED!r} if m in sys.modules]), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(result.stderr.splitlines()[-1]))


def test_help_draws_no_report():
    assert not loaded("from onnxmark.cli import run; run(['audit', '--help'])") & {
        name for name in WATCHED if name != "rich"
    }


def test_an_audit_at_a_terminal_loads_what_it_prints():
    run = f"from onnxmark.cli import run; run(['audit', {MARKED!r}, '--key', {KEY!r}, '--attacks', 'none'])"
    assert {name for name in loaded(run) if name.startswith("onnxmark.")} == {
        "onnxmark.report.terminal",
        "onnxmark.report.pages.audit",
    }


@pytest.mark.parametrize("format_", ["html", "markdown"])
def test_documents_are_drawn_for_the_web_without_numpy_and_rich(format_):
    document = {
        "schema": "onnxmark/audit/v1", "status": "failed", "verdict": "inconclusive", "model": {"path": "m.onnx"},
        "problem": "empty", "findings": [], "tool": {"name": "onnxmark", "version": "0"},
    }  # fmt: skip
    code = (
        f"from onnxmark.report.pages import page_of; from onnxmark.report import {format_}; "
        f"{format_}.to_{format_}(page_of({document!r}))"
    )
    assert not loaded(code) & {"numpy", "rich", "onnxmark.report.pages.inspect"}
