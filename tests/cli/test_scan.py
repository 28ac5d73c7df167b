"""``onnxmark scan`` and ``merge`` as users run them."""

import json
import re
import shutil
from pathlib import Path

import pytest

import onnxmark
from onnxmark.cli import run

DEMO = Path(onnxmark.__file__).parent / "demo_data"


@pytest.fixture
def registry(tmp_path):
    """Two marked models, one that is not, one that is cut short, and something else."""
    root = tmp_path / "models"
    (root / "team").mkdir(parents=True)
    shutil.copy(DEMO / "marked.onnx", root / "team" / "marked.onnx")
    shutil.copy(DEMO / "attacked.onnx", root / "attacked.onnx")
    shutil.copy(DEMO / "unmarked.onnx", root / "plain.onnx")
    (root / "cut.onnx").write_bytes((DEMO / "marked.onnx").read_bytes()[:3000])
    (root / "notes.txt").write_text("no model")
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("key", "other_key"):
        shutil.copy(DEMO / f"{name}.npy", keys)
    return root, keys


def scan(registry, *more):
    root, keys = registry
    return run(["scan", str(root), "--keys", str(keys), "-j", "1", "--no-progress", *map(str, more)])


def document(capsys):
    return json.loads(capsys.readouterr().out)


def test_finds_the_marked_ones_and_says_what_it_could_not_read(registry, capsys):
    assert scan(registry, "--format", "json") == 3
    found = document(capsys)
    assert (found["status"], found["verdict"]) == ("partial", "match")
    matched = {entry["model"]["identity"] for entry in found["entries"] if entry["verdict"] == "match"}
    assert matched == {"team/marked.onnx", "attacked.onnx"}
    coverage = found["coverage"]
    assert (coverage["found"], coverage["audited"], len(coverage["failed"])) == (4, 3, 1)
    assert coverage["failed"][0]["name"] == "cut.onnx"


def test_the_same_command_goes_on_and_says_the_same(registry, tmp_path, capsys):
    journal = tmp_path / "scan.sqlite"
    assert scan(registry, "--db", journal, "--format", "json") == 3
    first = capsys.readouterr().out
    assert scan(registry, "--db", journal, "--format", "json") == 3
    assert capsys.readouterr().out == first
    assert scan(registry, "--format", "json") == 3
    assert capsys.readouterr().out == first


def test_shards_merge_to_the_whole(registry, tmp_path, capsys):
    assert scan(registry, "--format", "json") == 3
    whole = capsys.readouterr().out
    journals = [tmp_path / f"shard{index}.sqlite" for index in (1, 2, 3)]
    for index, journal in enumerate(journals, 1):
        scan(registry, "--shard", f"{index}/3", "--db", journal, "--format", "json")
    capsys.readouterr()
    assert run(["merge", *map(str, journals), "--format", "json"]) == 3
    assert capsys.readouterr().out == whole


def test_a_missing_shard_is_told(registry, tmp_path, capsys):
    journal = tmp_path / "shard1.sqlite"
    scan(registry, "--shard", "1/2", "--db", journal, "--format", "json")
    capsys.readouterr()
    assert run(["merge", str(journal), "--format", "json"]) == 3
    assert "shard 2/2 is missing" in capsys.readouterr().err


@pytest.mark.parametrize(("alarm", "code"), [("match", 1), ("no-match", 1), ("inconclusive", 1), ("never", 3)])
def test_alarms(registry, capsys, alarm, code):
    assert scan(registry, "--fail-on", alarm, "--format", "json") == code


def test_alarms_that_do_not_apply(registry, capsys):
    root, _ = registry
    for name in ("cut.onnx", "plain.onnx"):
        (root / name).unlink()
    assert scan(registry, "--fail-on", "no-match", "--format", "json") == 0
    assert scan(registry, "--fail-on", "match", "--format", "json") == 1


def test_filters(registry, capsys):
    assert scan(registry, "--exclude", "cut.onnx", "--include", "*.onnx", "--max-size", "50K", "--format", "json") == 0
    coverage = document(capsys)["coverage"]
    assert coverage["audited"] == 1
    assert {one["reason"].split(" ")[0] for one in coverage["skipped"]} == {"left", "larger"}


def test_a_dry_run_lists_and_touches_nothing(registry, tmp_path, capsys):
    journal = tmp_path / "scan.sqlite"
    assert scan(registry, "--dry-run", "--db", journal) == 0
    shown = capsys.readouterr()
    assert [line.split()[-1] for line in shown.out.splitlines()] == [
        "attacked.onnx", "cut.onnx", "plain.onnx", "team/marked.onnx"
    ]  # fmt: skip
    assert "4 models" in shown.err
    assert not journal.exists()


def test_every_form(registry, tmp_path, capsys):
    forms = ("json", "jsonl", "csv", "md", "html", "sarif", "junit", "rich")
    outputs = [part for form in forms for part in ("-o", f"{form}={tmp_path / form}")]
    assert scan(registry, *outputs) == 3
    assert "team/marked.onnx" in capsys.readouterr().out
    for form in forms:
        assert "team/marked.onnx" in (tmp_path / form).read_text()
    assert run(["report", str(tmp_path / "json"), "--format", "md"]) == 0
    assert capsys.readouterr().out == (tmp_path / "md").read_text()


def test_a_baseline_tells_what_is_new(registry, tmp_path, capsys):
    root, _ = registry
    old = tmp_path / "old.json"
    assert scan(registry, "-o", f"json={old}") == 3
    shutil.copy(root / "attacked.onnx", root / "copy.onnx")
    (root / "team" / "marked.onnx").unlink()
    capsys.readouterr()
    assert scan(registry, "--baseline", old, "--format", "json") == 3
    text = json.dumps(document(capsys)["baseline"])
    assert "copy.onnx" in text
    assert "team/marked.onnx" in text


def test_keys_that_ask_are_left_out_and_named(registry, tmp_path, capsys):
    import numpy as np

    from onnxmark.keys import save_key
    from onnxmark.schemes.answers.trigger import TriggerOptions, TriggerScheme

    _, keys = registry
    key = TriggerScheme().make_key(np.zeros((4, 3), np.float32), None, TriggerOptions(classes=5))
    saved = save_key(key, keys / "trigger.npy")
    assert scan(registry, "--format", "json") == 3
    shown = capsys.readouterr()
    assert f"key {saved.commitment[:16]}… asks the model" in shown.err
    assert json.loads(shown.out)["keys"]["count"] == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--shard", "3/2"], "no shard 3/2"),
        (["--engine", "carrier-pigeon"], "there is no engine 'carrier-pigeon'"),
        (["--max-size", "huge"], "not a size like 500M"),
        (["--alpha", "2"], "does not lie between 0 and 1"),
        (["--exclude", "!"], "is not a pattern"),
        (["--db", "/dev/null"], "journal '/dev/null'"),
        (["--baseline", "/nothing.json"], "nothing.json"),
    ],
)
def test_mistakes_are_one_line(registry, capsys, more, words):
    assert scan(registry, *more) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(error) == 1
    assert words in error[0]


def test_no_secret_leaves_the_ring(registry, tmp_path, capsys):
    from onnxmark.keys import load_key

    _, keys = registry
    forms = ("json", "html", "csv")
    scan(registry, "--db", tmp_path / "s.sqlite", *[p for f in forms for p in ("-o", f"{f}={tmp_path / f}")])
    key = load_key(keys / "key.npy")
    written = (
        b"".join((tmp_path / name).read_bytes() for name in (*forms, "s.sqlite")) + capsys.readouterr().out.encode()
    )
    for secret in (key.seed.reveal(), key.master.reveal(), key.salt):
        assert secret not in written
        assert secret.hex().encode() not in written


def test_a_folder_without_models_is_complete_and_empty(tmp_path, registry, capsys):
    _, keys = registry
    (tmp_path / "empty").mkdir()
    assert run(["scan", str(tmp_path / "empty"), "--keys", str(keys), "--format", "json"]) == 0
    assert document(capsys)["coverage"]["found"] == 0


def test_status_is_one_screen(registry, tmp_path, capsys):
    journal = tmp_path / "s.sqlite"
    scan(registry, "--db", journal, "--format", "json")
    capsys.readouterr()
    assert run(["status", str(journal)]) == 0
    shown = capsys.readouterr().out
    assert "4 of 4 models" in shown
    assert re.search(r"matches so far\s+2\n", shown)
    assert re.search(r"failed\s+1\n", shown)
    assert len(shown.splitlines()) < 24


def test_status_of_nothing(tmp_path, capsys):
    assert run(["status", str(tmp_path / "none.sqlite")]) == 2
    assert "none.sqlite" in capsys.readouterr().err
