"""The journal: killed at any byte it goes on; of another kind, damaged or in use it says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from onnxmark.errors import JournalError
from onnxmark.evaluation.journal import open_journal

HERE = {"processor": "ours", "workers": 1}
RECORDS = {"train/0": {"score": 0.5}, "look/0": {"readings": [{"n_errors": 3}]}, "train/1": {"problem": "no"}}


def written(path, records=RECORDS, digest="plan", around=HERE):
    with open_journal(path, digest, around) as journal:
        for cell, record in records.items():
            journal.put(cell, record)
    return path.read_bytes()


def recalled(path, digest="plan", around=HERE):
    with open_journal(path, digest, around) as journal:
        return journal.records


def test_what_was_put_is_recalled(tmp_path):
    written(tmp_path / "journal")
    assert recalled(tmp_path / "journal") == RECORDS


def test_plans_do_not_see_each_others_records(tmp_path):
    path = tmp_path / "journal"
    written(path)
    written(path, {"train/0": {"score": 0.9}}, digest="other")
    assert recalled(path) == RECORDS
    assert recalled(path, "other") == {"train/0": {"score": 0.9}}


def test_the_first_record_of_a_cell_stays(tmp_path):
    path = tmp_path / "journal"
    before = written(path)
    assert written(path, {"train/0": {"score": 0.1}}) == before
    assert recalled(path)["train/0"] == {"score": 0.5}


def test_a_journal_cut_at_any_byte_goes_on(tmp_path):
    path = tmp_path / "journal"
    whole = written(path)
    ends = [place for place in range(len(whole)) if whole[place : place + 1] == b"\n"]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        n_whole = sum(end < cut for end in ends)
        kept = dict(list(RECORDS.items())[: max(0, n_whole - 2)])
        assert recalled(path) == kept
        assert written(path) == whole


def test_without_a_file_nothing_is_kept():
    with open_journal(None, "plan", HERE) as journal:
        journal.put("train/0", {"score": 1.0})
        assert journal.records == {"train/0": {"score": 1.0}}
    with open_journal(None, "plan", HERE) as journal:
        assert journal.records == {}


def test_every_line_is_on_the_disk_before_the_next_cell(tmp_path):
    path = tmp_path / "journal"
    with open_journal(path, "plan", HERE) as journal:
        for count, (cell, record) in enumerate(RECORDS.items(), start=3):
            journal.put(cell, record)
            assert len(path.read_text().splitlines()) == count
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"networks = 2\n", b"\x08\x07", b'{"schema": "onnxmark/evaluation/v1"}\n'])
def test_another_kind_of_file_is_left_alone(tmp_path, content):
    path = tmp_path / "plan.toml"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"'.*plan.toml' is not the journal of an evaluation; give another file"):
        recalled(path)
    assert path.read_bytes() == content


def test_a_journal_of_another_version_is_told_from_what_is_none(tmp_path):
    path = tmp_path / "journal"
    content = b'{"schema": "onnxmark/evaluation-journal/v1"}\n{"plan": "plan", "cell": "train/0", "record": {}}\n'
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"written by another version of onnxmark, .*; finish it with that version"):
        recalled(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"{}", b"[]", b"3", b"not json", b'{"plan": "plan", "cell": "a", "record": 3}'])
def test_a_damaged_line_in_the_middle_is_named(tmp_path, line):
    path = tmp_path / "journal"
    first, second, *rest = written(path).splitlines()
    path.write_bytes(b"\n".join([first, second, line, *rest, b""]))
    with pytest.raises(JournalError, match=r"line 3 is damaged .*; remove that line, or the file to start anew"):
        recalled(path)


def test_two_evaluations_do_not_write_one_journal(tmp_path):
    path = tmp_path / "journal"
    with open_journal(path, "plan", HERE), pytest.raises(JournalError, match="is being written by another evaluation"):
        recalled(path)
    assert recalled(path) == {}


def test_another_process_holds_it_too(tmp_path):
    path = tmp_path / "journal"
    code = (
        "import sys\nfrom pathlib import Path\nfrom onnxmark.evaluation.journal import open_journal\n"
        "with open_journal(Path(sys.argv[1]), 'plan', {}):\n    print('open', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(JournalError, match="is being written by another evaluation"):
            recalled(path)
        holder.kill()
    assert recalled(path) == {}


def test_a_place_where_nothing_can_be_written_is_told(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(JournalError, match=r"journal '.*folder' cannot be opened: Is a directory"):
        recalled(tmp_path / "folder")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told():
    with open_journal(None, "plan", HERE) as journal, Path("/dev/full").open("wb") as full:
        journal._descriptor = full.fileno()
        with pytest.raises(
            JournalError, match=r"cannot be written .No space left on device.; what was done before is kept"
        ):
            journal.put("train/0", {})


def test_what_is_no_json_is_never_written(tmp_path):
    path = tmp_path / "journal"
    with open_journal(path, "plan", HERE) as journal, pytest.raises(ValueError, match="not JSON compliant"):
        journal.put("train/0", {"score": float("nan")})
    assert json.loads(path.read_text().splitlines()[-1]).keys() == {"schema"}


def environments(path, digest="plan"):
    with open_journal(path, digest, HERE) as journal:
        return journal.environments


def test_what_it_was_carried_out_on_is_kept_once_for_each(tmp_path):
    path, there = tmp_path / "journal", {"processor": "theirs", "workers": 8}
    for number, around in enumerate((HERE, HERE, there, HERE)):
        written(path, {f"train/{number}": {}}, around=around)
    written(path, {"train/0": {}}, digest="another plan", around=there)
    assert environments(path) == [HERE, there]
    assert environments(path, "another plan") == [there]
    assert environments(path, "no plan") == []
    assert recalled(path).keys() == {"train/0", "train/1", "train/2", "train/3"}


def test_who_only_reads_it_is_not_in_it(tmp_path):
    path = tmp_path / "journal"
    written(path)
    before = path.read_bytes()
    assert recalled(path, around={"processor": "a reader's"}) == RECORDS
    assert written(path, around={"processor": "a reader's"}) == before
    assert environments(path) == [HERE]


def test_without_a_file_it_is_kept_all_the_same():
    with open_journal(None, "plan", HERE) as journal:
        assert journal.environments == []
        journal.put("train/0", {})
        assert journal.environments == [HERE]
