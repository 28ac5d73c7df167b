"""The journal: what is used again and what never, and whatever is wrong with the file in one line."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.errors import JournalError
from onnxmark.registry.database import LOCK, transaction
from onnxmark.registry.entries import Found, Outcome, Stamp
from onnxmark.registry.journal import COMPANIONS, Row, Tally, open_journal, read_journal
from onnxmark.registry.merging import merge
from onnxmark.registry.rows import COLUMNS, checksum
from onnxmark.registry.terms import Shard, Terms

TERMS = Terms(("aa", "bb"), {"level": 1e-5})
WHOLE = (Shard(),)
STAMP = Stamp(1000, 1_700_000_000_000_000_001, 42, 7)
RESULT = {"status": "audited", "problem": None, "hits": [{"log10_p": -7.25}], "doubts": []}
FAILED = {"status": "failed", "problem": "truncated", "hits": [], "doubts": []}


def model(identity="org/a@0123/model.onnx", location="/r/a.onnx", stamp=STAMP):
    return Found(identity, "plain", location, Outcome.MODEL, 1000, stamp)


def skipped(identity="note.tflite"):
    return Found(identity, "plain", f"/r/{identity}", Outcome.UNSUPPORTED, 10, STAMP, "TFLite; onnxmark convert it")


@contextlib.contextmanager
def run(path, *, terms=TERMS, digest=False, finish=True, shards=WHOLE, roots=("/r",)):
    with open_journal(path, terms, digest=digest) as journal:
        journal.begin(list(roots), shards)
        yield journal
        if finish:
            journal.finish()


def written(path, *rows, **options):
    with run(path, **options) as journal:
        journal.put(replace(row, evidence=journal.evidence(row.found)) if row.evidence is None else row for row in rows)
    return path


def recalled(path, found, **options):
    with run(path, **options) as journal:
        row = journal.recall(found, journal.evidence(found))
    return None if row is None else row.result


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.sqlite"


# What is used again


def test_a_result_is_used_again(path):
    written(path, Row(model(), None, RESULT))
    assert recalled(path, model()) == RESULT


@pytest.mark.parametrize(
    "stamp",
    [replace(STAMP, size=1001), replace(STAMP, mtime_ns=STAMP.mtime_ns + 1), replace(STAMP, inode=43), None],
    ids=["size", "time", "inode", "unknown"],
)
def test_a_model_that_may_have_changed_is_audited_again(path, stamp):
    written(path, Row(model(), None, RESULT))
    assert recalled(path, model(stamp=stamp)) is None


def test_the_number_of_the_device_may_change(path):
    written(path, Row(model(), None, RESULT))
    assert recalled(path, model(stamp=replace(STAMP, device=8))) == RESULT


def test_what_nothing_tells_the_change_of_is_never_used_again(path):
    written(path, Row(model(stamp=None), None, RESULT))
    assert recalled(path, model(stamp=None)) is None


@pytest.mark.parametrize("other", [model("other"), model(location="/elsewhere/a.onnx")], ids=["name", "place"])
def test_another_model_is_another_model(path, other):
    written(path, Row(model(), None, RESULT))
    assert recalled(path, other) is None


def test_what_failed_is_tried_again(path):
    written(path, Row(model(), None, FAILED))
    assert recalled(path, model()) is None


def test_results_on_other_terms_are_kept_and_not_used(path):
    written(path, Row(model(), None, RESULT))
    other = Terms(("cc",))
    assert recalled(path, model(), terms=other) is None
    assert recalled(path, model()) == RESULT


def test_a_number_of_an_inode_may_take_64_bits(path):
    stamp = replace(STAMP, inode=2**64 - 1, mtime_ns=-1, device=2**63)
    written(path, Row(model(stamp=stamp), None, RESULT))
    assert recalled(path, model(stamp=stamp), finish=False) == RESULT
    with run(path) as journal:
        assert journal.recall(model(stamp=stamp), journal.evidence(model(stamp=stamp))).found.stamp == stamp


class TestCompanions:
    """Weights may lie beside the model, and change while it does not."""

    @pytest.fixture
    def data(self, tmp_path):
        data = tmp_path / "model.onnx_data"
        data.write_bytes(b"weights")
        return data

    @pytest.fixture
    def result(self, data):
        status = data.stat()
        return RESULT | {COMPANIONS: [[str(data), status.st_size, status.st_mtime_ns, status.st_ino]]}

    def test_unchanged_data_keeps_the_result(self, path, result):
        written(path, Row(model(), None, result))
        # What was used again is written again, and is used once more.
        written(path, Row(model(), None, recalled(path, model(), finish=False)))
        assert recalled(path, model()) == result

    @pytest.mark.parametrize("change", [Path.unlink, Path.touch, lambda file: file.write_bytes(b"weight")])
    def test_changed_data_costs_the_result(self, path, data, result, change):
        os.utime(data, ns=(0, data.stat().st_mtime_ns + 1))
        result[COMPANIONS][0][2] = data.stat().st_mtime_ns
        written(path, Row(model(), None, result))
        change(data)
        assert recalled(path, model()) is None


class TestDigest:
    @pytest.fixture
    def file(self, tmp_path):
        file = tmp_path / "model.onnx"
        file.write_bytes(bytes(range(256)) * 9000)
        return file

    def found(self, file):
        status = file.stat()
        return model(location=str(file), stamp=Stamp(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev))

    def test_the_digest_is_that_of_sha256sum(self, path, file):
        says = subprocess.run(["sha256sum", file], capture_output=True, check=True, text=True).stdout.split()[0]
        with run(path, digest=True) as journal:
            assert journal.evidence(self.found(file)) == f"sha256:{says}"

    def test_a_copy_with_another_time_is_the_same_model(self, path, file):
        written(path, Row(self.found(file), None, RESULT), digest=True)
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
        os.utime(file, ns=(1, 1))
        assert recalled(path, self.found(file), digest=True) == RESULT

    def test_another_content_of_the_same_size_and_time_is_another_model(self, path, file):
        before = file.stat()
        written(path, Row(self.found(file), None, RESULT), digest=True)
        with file.open("r+b") as stream:
            stream.seek(2_000_000)
            stream.write(b"x")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert recalled(path, self.found(file), digest=True) is None

    def test_stamps_and_digests_are_not_mixed_up(self, path, file):
        written(path, Row(self.found(file), None, RESULT))
        assert recalled(path, self.found(file), digest=True) is None

    def test_a_pipe_in_the_place_of_the_model_does_not_block(self, path, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with run(path, digest=True) as journal:
            assert journal.evidence(model(location=str(tmp_path / "pipe"))) is None


# What it holds

NAMES = ["b", "a\udcff", "a", "ä", "with\nline", "\x1b[31mred", "'; DROP TABLE entries; --", "x" * 10_000, "\0"]


def test_names_come_back_as_they_were(path):
    rows = [Row(model(name, f"/r/{name}"), "1:2:3", RESULT) for name in NAMES]
    written(path, *rows)
    with read_journal(path) as journal:
        assert sorted(journal.rows(), key=lambda row: row.found.identity) == sorted(
            rows, key=lambda row: row.found.identity
        )


def test_what_is_not_audited_is_kept_too(path):
    rows = [Row(skipped()), Row(Found("x", "plain", "/r/x", Outcome.FAILED, reason="no permission: \udcff"))]
    written(path, *rows)
    with read_journal(path) as journal:
        found = {row.found.identity: row for row in journal.rows()}
    assert {name: row.found for name, row in found.items()} == {row.found.identity: row.found for row in rows}
    assert all(row.result is None for row in found.values())


def test_rows_are_in_the_order_of_names_however_they_were_written(path, tmp_path):
    rows = [Row(model(f"m{number}", f"/r/{number}"), "e", RESULT) for number in range(50)]
    written(path, *rows)
    written(tmp_path / "other", *reversed(rows))
    with read_journal(path) as one, read_journal(tmp_path / "other") as other:
        assert list(one.rows()) == list(other.rows())


def test_a_run_holds_only_what_it_came_across(path):
    written(path, Row(model("gone", "/r/gone"), None, RESULT), Row(model(), None, RESULT))
    with run(path, finish=False) as journal:
        journal.put([Row(model(), "e", RESULT)])
        assert [row.found.identity for row in journal.rows()] == [model().identity]
        # Until it is finished, what it has not come across yet can still be used.
        gone = model("gone", "/r/gone")
        assert journal.recall(gone, journal.evidence(gone)) is not None
        assert not journal.complete
        journal.finish()
        assert journal.recall(gone, journal.evidence(gone)) is None
        assert journal.complete


def test_finishing_one_scan_leaves_the_others(path):
    written(path, Row(model(), None, RESULT), terms=Terms(("cc",)))
    written(path)
    assert recalled(path, model(), terms=Terms(("cc",))) == RESULT


def test_it_says_what_was_scanned(path):
    written(path, terms=TERMS, shards=(Shard(2, 3),), roots=("/b", "/a"), finish=False)
    with read_journal(path) as journal:
        assert (journal.terms, journal.roots, journal.shards) == (TERMS, ("/b", "/a"), (Shard(2, 3),))


def test_of_several_scans_the_last_one_is_read(path):
    for terms in (TERMS, Terms(("cc",)), TERMS):
        written(path, terms=terms)
    with read_journal(path) as journal:
        assert journal.terms == TERMS
    with read_journal(path, Terms(("cc",))) as journal:
        assert journal.terms == Terms(("cc",))


def test_the_tally_counts_every_kind(path):
    rows = [Row(model(f"m{n}", f"/{n}"), "e", RESULT) for n in range(3)]
    rows += [Row(model("f", "/f"), "e", FAILED), Row(skipped()), Row(replace(skipped("p"), outcome=Outcome.POINTER))]
    rows += [Row(replace(skipped("d"), outcome=Outcome.FAILED))]
    written(path, *rows)
    with read_journal(path) as journal:
        assert journal.tally() == Tally(found=7, audited=3, failed=2, skipped=2, n_bytes=4000)


RAW = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with open_journal(tmp_path_factory.mktemp("journal") / "scan.sqlite", TERMS) as journal:
        yield journal


@given(raw=RAW, name=st.text(st.characters(exclude_categories=())))
def test_anything_that_json_can_say_comes_back(shared, raw, name):
    result = RESULT | {"raw": raw, "name": name}
    shared.begin(["/r"])
    shared.put([Row(model(name, name), "e", result)])
    (row,) = shared.rows()
    assert (row.found.identity, row.found.location, row.result) == (name, name, result)


# Watching


def test_a_journal_can_be_watched_while_it_is_written(path):
    with run(path) as journal:
        for count in range(1, 4):
            journal.put([Row(model(f"m{count}", f"/{count}"), "e", RESULT)])
            with read_journal(path) as watched:
                assert watched.tally().audited == count
                assert len(list(watched.rows())) == count


def test_those_who_watch_do_not_stop_those_who_write(path):
    with run(path) as journal:
        journal.put([Row(model(), "e", RESULT)])
        with read_journal(path) as watched:
            rows = watched.rows()
            next(rows)
            journal.put([Row(model("late", "/late"), "e", RESULT)])
            assert list(rows) == []


def test_a_reader_cannot_write(path):
    written(path)
    with (
        read_journal(path) as journal,
        pytest.raises(JournalError, match="attempt to write a readonly database; choose a place that can be written"),
    ):
        journal.put([Row(model(), "e", RESULT)])


def test_a_journal_at_rest_is_one_file(path, tmp_path):
    """It can be copied, and read from a medium on which nothing can be written."""
    written(path, Row(model(), None, RESULT))
    assert {file.name for file in tmp_path.iterdir()} == {path.name, path.name + LOCK}
    # Bytes 18 and 19 of an SQLite file are 2 while it needs a log beside it.
    assert path.read_bytes()[18:20] == b"\1\1"


def test_the_settings_are_those_the_module_gives_reasons_for(path):
    with run(path) as journal:
        connection = journal._connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)


# What can be wrong with it


def opened(path):
    with open_journal(path, TERMS) as journal:
        journal.begin(["/r"])
        list(journal.rows())


def test_two_scans_do_not_write_one_journal(path):
    with run(path), pytest.raises(JournalError, match="another scan is writing it"):
        opened(path)
    opened(path)


def test_a_journal_locked_by_another_process(path):
    program = f"""
import sys, time
from pathlib import Path
from onnxmark.registry.journal import open_journal
from onnxmark.registry.terms import Terms
with open_journal(Path({str(path)!r}), Terms(("aa",))):
    print("open", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(JournalError, match="another scan is writing it"):
            opened(path)
        other.kill()
    opened(path)


def test_another_program_that_holds_it(path, monkeypatch):
    written(path)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.01}))
    with contextlib.closing(connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="database is locked; another program holds it"):
            opened(path)


def test_a_file_that_is_no_database(path):
    path.write_bytes(b"these are notes, not a journal\n" * 50)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="file is not a database; it is no journal; choose another file"):
        opened(path)
    assert path.read_bytes() == before


def test_the_database_of_another_program(path):
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE entries (precious TEXT)")
    before = path.read_bytes()
    for use in (opened, looked_at):
        with pytest.raises(JournalError, match="is the database of another program; choose another file"):
            use(path)
    assert path.read_bytes() == before


def looked_at(path):
    with read_journal(path) as journal:
        list(journal.rows())


def test_a_journal_of_another_version(path):
    written(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalError, match="is written in version 99, this tool writes 1; remove it to start anew"):
        opened(path)


def test_an_empty_file_becomes_a_journal(path):
    path.touch()
    opened(path)
    looked_at(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_what_is_no_regular_file(path, make):
    make(path)
    for use in (opened, looked_at):
        with pytest.raises(JournalError, match="is no regular file; choose another place"):
            use(path)


def test_there_is_none_to_read(path):
    with pytest.raises(JournalError, match="there is no such file"):
        looked_at(path)


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(JournalError, match=r"cannot be made \(No such file or directory\)"):
        opened(tmp_path / "none" / "scan.sqlite")


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(JournalError, match="File name too long"):
        opened(tmp_path / ("x" * 300))


def test_a_name_that_is_no_unicode_and_means_something_in_an_address(tmp_path):
    path = tmp_path / "scan \udcff?mode=memory#%41.sqlite"
    written(path, Row(model(), None, RESULT))
    assert path.stat().st_size > 0
    assert recalled(path, model()) == RESULT


def test_a_journal_without_this_scan(path):
    written(path)
    with pytest.raises(JournalError, match="holds no scan with these keys"), read_journal(path, Terms(("zz",))):
        pass


@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.1])
def test_a_torn_journal(path, share):
    rows = [Row(model(f"m{number}", f"/r/{number}"), None, RESULT) for number in range(500)]
    written(path, *rows)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(JournalError, match=r"damaged|malformed|not a database") as caught:
        looked_at(path)
    assert "\n" not in str(caught.value)
    # The exception holds on to the rows that were being read, and so does SQLite to its lock.
    del caught
    # Who goes on with it is told so, or audits again what is missing.
    with contextlib.suppress(JournalError), run(path) as journal:
        results = [journal.recall(row.found, journal.evidence(row.found)) for row in rows]
        assert {None} < {found and json.dumps(found.result) for found in results} <= {None, json.dumps(RESULT)}


def test_a_journal_with_a_page_of_rubbish_is_not_even_opened(path):
    """Each page in turn is overwritten, those of the index, too."""
    rows = [Row(model(f"m{number}", f"/r/{number}"), None, RESULT) for number in range(100)]
    written(path, *rows)
    content = path.read_bytes()
    for page in range(len(content) // 4096):
        path.write_bytes(content[: page * 4096] + b"\xa5" * 4096 + content[(page + 1) * 4096 :])
        with pytest.raises(JournalError, match=r"damaged|no journal|another program"), read_journal(path):
            pass


def changed(path, column, value, *, checked):
    """A journal that somebody wrote into, with or without knowing of the checksum."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"UPDATE entries SET {column} = ?", (value,))
        if checked:
            content = other.execute(f"SELECT {COLUMNS} FROM entries").fetchone()[1:]
            other.execute("UPDATE entries SET checksum = ?", (checksum(content),))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("result", json.dumps(RESULT).replace("-7.25", "-9.25")),
        ("layout", "triton"),
        ("location", "/r/b.onnx"),
        ("evidence", "1:2:3"),
        ("checksum", 0),
    ],
)
def test_a_row_that_has_changed_since_it_was_written(path, column, value):
    written(path, Row(model(), None, RESULT))
    changed(path, column, value, checked=False)
    with pytest.raises(JournalError, match=r"is damaged \(a checksum does not fit\); remove it to start anew"):
        looked_at(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("result", "{"),
        ("result", "[" * 5000),
        ("companions", "{"),
        ("outcome", "other"),
        ("stamp", "[1, 2]"),
        ("stamp", "nothing"),
    ],
)
def test_a_row_that_makes_no_sense(path, column, value):
    written(path, Row(model(), None, RESULT))
    changed(path, column, value, checked=True)
    with pytest.raises(JournalError, match=r"is damaged \(.*\); remove it to start anew") as caught:
        looked_at(path)
    assert "checksum" not in str(caught.value)


def test_terms_that_are_none(path):
    written(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE scans SET terms = '3'")
    with read_journal(path) as journal, pytest.raises(JournalError, match="these are no terms of a scan"):
        _ = journal.terms


def test_a_full_disk_loses_only_what_does_not_fit(path):
    with run(path, finish=False) as journal:
        journal.put([Row(model(), journal.evidence(model()), RESULT)])
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        bulky = [Row(model(f"m{n}", f"/{n}"), "e", RESULT | {"bulk": "x" * 1000}) for n in range(100)]
        with pytest.raises(JournalError, match="disk is full; free some space and run the same command again"):
            journal.put(bulky)
        assert [row.found.identity for row in journal.rows()] == [model().identity]
    assert recalled(path, model()) == RESULT


def limited(path, n_bytes):
    """Write to a journal in a process whose files may not grow; the last line it prints is the error."""
    program = f"""
import resource, signal
from pathlib import Path
from onnxmark.errors import JournalError
from tests.registry.test_journal import RESULT, Row, model, run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({n_bytes}, {n_bytes}))
try:
    with run(Path({str(path)!r})) as journal:
        for n in range(2000):
            found = model(f"m{{n}}", f"/{{n}}")
            journal.put([Row(found, journal.evidence(found), RESULT)])
            print(n, flush=True)
except JournalError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("n_bytes", [0, 4096, 1 << 16, 1 << 18])
def test_a_journal_that_may_not_grow(path, n_bytes):
    *numbers, error = limited(path, n_bytes)
    assert f"journal {str(path)!r}: " in error
    assert "run the same command again" in error
    # What had been written is still there, every bit of it.
    for number in numbers:
        assert recalled(path, model(f"m{number}", f"/{number}"), finish=False) == RESULT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write")
def test_a_journal_that_may_only_be_read(tmp_path):
    room = Path("/tmp") / f"onnxmark-{os.getpid()}"
    room.mkdir(mode=0o755)
    try:
        path = written(room / "scan.sqlite", Row(model(), None, RESULT))
        (room / ("scan.sqlite" + LOCK)).unlink()
        says = as_nobody(path)
        assert says[0] == "audited"
        assert "cannot be made (Permission denied); choose a place that can be written with --db" in says[1]
        room.chmod(0o777)
        assert (
            "attempt to write a readonly database; choose a place that can be written with --db" in as_nobody(path)[1]
        )
    finally:
        shutil.rmtree(room)


def as_nobody(path):
    """What somebody who may not write reads in a journal, and what they are told when they try to write."""
    program = f"""
import os
from pathlib import Path
from onnxmark.errors import JournalError
from tests.registry.test_journal import looked_at, opened, read_journal
os.setgid(65534)
os.setuid(65534)
path = Path({str(path)!r})
with read_journal(path) as journal:
    print(next(journal.rows()).result["status"])
try:
    opened(path)
except JournalError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_transaction_is_all_or_nothing_when_interrupted(path):
    def rows():
        yield Row(model(), "e", RESULT)
        raise KeyboardInterrupt

    with run(path) as journal:
        with pytest.raises(KeyboardInterrupt):
            journal.put(rows())
        assert list(journal.rows()) == []
        journal.put([Row(model(), "e", RESULT)])
        assert len(list(journal.rows())) == 1


def test_a_journal_is_no_place_for_numbers_that_are_none(path):
    with run(path) as journal, pytest.raises(ValueError, match="Out of range float values"):
        journal.put([Row(model(), "e", RESULT | {"p": float("nan")})])


# Merging


def shards(tmp_path, count=3, **options):
    """A registry of 60 models, scanned in shards."""
    paths = []
    for index in range(1, count + 1):
        rows = [
            Row(found, None, RESULT | {"name": found.identity})
            for number in range(60)
            if Shard(index, count).holds((found := model(f"m{number}", f"/r/{number}")).identity)
        ]
        path = tmp_path / f"{index}.sqlite"
        paths.append(written(path, *rows, shards=(Shard(index, count),), **options))
    return paths


def rows_of(path):
    with read_journal(path) as journal:
        return list(journal.rows())


def test_merged_shards_are_the_whole_registry(path, tmp_path):
    merged = merge(shards(tmp_path), path)
    assert merged.complete
    assert merged.terms == TERMS
    whole = written(
        tmp_path / "whole", *(Row(model(f"m{n}", f"/r/{n}"), None, RESULT | {"name": f"m{n}"}) for n in range(60))
    )
    assert rows_of(path) == rows_of(whole)
    with read_journal(path) as journal:
        assert journal.complete
        assert sorted(map(str, journal.shards)) == ["1/3", "2/3", "3/3"]


def test_the_order_of_journals_does_not_matter_for_shards(path, tmp_path):
    paths = shards(tmp_path)
    merge(paths, path)
    merge(paths[::-1], tmp_path / "reversed")
    assert rows_of(path) == rows_of(tmp_path / "reversed")


def test_a_missing_shard_is_named(path, tmp_path):
    merged = merge(shards(tmp_path)[::2], path)
    assert not merged.complete
    assert merged.missing == (Shard(2, 3),)
    with read_journal(path) as journal:
        assert not journal.complete


def test_an_unfinished_scan_is_named(path, tmp_path):
    one, two = shards(tmp_path, 2)
    written(two, shards=(Shard(2, 2),), finish=False)
    merged = merge([one, two], path)
    assert (merged.missing, merged.unfinished, merged.complete) == ((), (two,), False)


def test_of_several_results_the_audited_one_stays(path, tmp_path):
    bad = written(tmp_path / "bad", Row(model(), None, FAILED))
    good = written(tmp_path / "good", Row(model(), None, RESULT))
    for number, order in enumerate([[bad, good], [good, bad]]):
        target = tmp_path / f"merged-{number}"
        merge(order, target)
        assert [row.result for row in rows_of(target)] == [RESULT]


def test_of_equally_good_results_the_first_one_stays(path, tmp_path):
    one = written(tmp_path / "one", Row(model(), None, RESULT | {"number": 1}))
    two = written(tmp_path / "two", Row(model(), None, RESULT | {"number": 2}))
    merge([one, two], path)
    assert [row.result["number"] for row in rows_of(path)] == [1]


def test_roots_are_united(path, tmp_path):
    one = written(tmp_path / "one", roots=("/b", "/a"))
    two = written(tmp_path / "two", roots=("/c", "/a"))
    merge([one, two], path)
    with read_journal(path) as journal:
        assert journal.roots == ("/a", "/b", "/c")


def test_other_terms_are_not_merged(path, tmp_path):
    one, two = written(tmp_path / "one"), written(tmp_path / "two", terms=Terms(("cc",)))
    with pytest.raises(JournalError, match=r"two': was made with other keys, options or another version than .*one'"):
        merge([one, two], path)
    assert not path.exists()


def test_shards_of_different_cuts_are_not_merged(path, tmp_path):
    one = written(tmp_path / "one", shards=(Shard(1, 2),))
    two = written(tmp_path / "two", shards=(Shard(2, 3),))
    with pytest.raises(JournalError, match="registries cut into 2 and 3; scan one cut"):
        merge([one, two], path)


def test_a_journal_is_not_overwritten(path, tmp_path):
    (one,) = shards(tmp_path, 1)
    with pytest.raises(JournalError, match="exists already; merge into a new file"):
        merge([one], one)


def test_there_is_something_to_merge(path):
    with pytest.raises(ValueError, match="there is no journal to merge"):
        merge([], path)


def test_a_merged_journal_is_resumed_like_any_other(path, tmp_path):
    merge(shards(tmp_path), path)
    assert recalled(path, model("m7", "/r/7")) == RESULT | {"name": "m7"}


def test_transactions_report_what_went_wrong_and_not_their_own_end(path):
    """A full disk ends a transaction by itself; ending it once more would hide the reason."""

    def fill(connection):
        with transaction(connection):
            connection.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")

    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection,
        pytest.raises(sqlite3.OperationalError, match="disk is full"),
    ):
        fill(connection)
