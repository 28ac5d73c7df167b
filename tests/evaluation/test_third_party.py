"""A scheme in a package of its own, outside the tree, is evaluated without touching onnxmark."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onnxmark.report.schema import validate
from tests.evaluation import toy

HERE = Path(__file__).resolve().parent
PLAN = f"""{toy.HEAD}
[[schemes]]
name = "theirs"
scheme = "stripes"
settings = {{ strength = 2.0 }}
[[schemes]]
name = "theirs, trained"
scheme = "stripes"
embedding = "training"
[[schemes]]
name = "ours"
scheme = "projection"
{toy.NOISE}
[[modifications]]
name = "overwriting"
values = [1]
"""
CODE = """
import json, sys
from pathlib import Path
from onnxmark.evaluation import evaluate, load_plan
from tests.evaluation import toy

if __name__ == "__main__":
    document = evaluate(load_plan(sys.argv[1]), toy.laboratory)
    assert "foreign_marks.stripes" in sys.modules
    Path(sys.argv[2]).write_text(json.dumps(document))
"""


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """From a process that has the package on its path, with the metadata that an installer writes."""
    room = tmp_path_factory.mktemp("elsewhere")
    package = room / "site" / "foreign_marks"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(HERE / "foreign" / "stripes.py", package / "stripes.py")
    about = room / "site" / "foreign_marks-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-marks\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[onnxmark.schemes]\nstripes = foreign_marks.stripes:StripesScheme\n")
    (room / "plan.toml").write_text(PLAN)
    (room / "run.py").write_text(CODE)
    path = os.pathsep.join([str(room / "site"), str(HERE.parents[1])])
    subprocess.run(
        [sys.executable, room / "run.py", room / "plan.toml", room / "document"],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        cwd=room,
        timeout=300,
    )
    return json.loads((room / "document").read_text())


def test_the_document_is_valid(document):
    validate(document)
    assert document["status"] == "complete"


def test_their_marks_are_found_where_they_are_and_nowhere_else(document):
    theirs = document["schemes"][0]
    assert (theirs["problem"], theirs["doubts"], theirs["settings"]) == (None, [], {"strength": 2.0})
    as_they_are, noisy, overwritten = (row["points"][0] for row in theirs["robustness"])
    for found in (as_they_are, noisy):
        assert (found["false_positives"], found["false_negatives"], found["n_failed"]) == (0, 0, 0)
        assert found["symbol_error_rate"]["mean"] == 0
    assert 0.3 < as_they_are["unmarked_symbol_error_rate"]["mean"] < 0.7
    assert overwritten["n_failed"] == 0


def test_a_laboratory_that_does_not_know_the_scheme_says_so(document):
    assert document["schemes"][1]["problem"] == "the key is of scheme 'stripes', which is not loaded here"


def test_ours_stands_beside_it(document):
    ours = document["schemes"][2]
    assert ours["robustness"][0]["points"][0]["false_negatives"] == 0
    assert [row["modification"] for row in ours["robustness"]] == ["none", "noise", "overwriting"]


def test_the_environment_names_their_distribution(document):
    assert document["environment"]["packages"]["foreign-marks"] == "1.0"
    assert "onnxmark" not in document["environment"]["packages"]
