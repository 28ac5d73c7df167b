"""Whatever happens to a scan, its answer is the one it would have given in peace."""

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

import onnxmark
from onnxmark.registry.auditing import audit_chunk
from onnxmark.registry.engines import Limits, open_engine
from onnxmark.registry.entries import Found, Outcome, Stamp
from onnxmark.registry.journal import open_journal, read_journal
from onnxmark.registry.ring import ring_folder
from onnxmark.registry.running import Batching, run_scan
from onnxmark.registry.terms import Terms
from tests.registry import chaos
from tests.registry.engines import tasks

DEMO = Path(onnxmark.__file__).parent / "demo_data"
KILLS = 20
UNREADABLE = {"empty.onnx", "network.tflite", "cut.onnx"}


@dataclass(frozen=True)
class Room:
    """Where a scan takes place."""

    path: Path
    kind: str

    @property
    def journal(self):
        return self.path / "scan.sqlite"

    @property
    def document(self):
        return self.path / "scan.json"

    def start(self):
        means = self.path / {"cheap": "traces", "real": "keys"}[self.kind]
        arguments = [self.kind, self.path / "root", self.journal, means, self.document]
        program = "import sys; from tests.registry.chaos import main; main(*sys.argv[1:])"
        return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=-1, stderr=-3)

    def kept(self):
        """Names of the models whose result can be used again."""
        with contextlib.closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)) as connection:
            return {name for (name,) in connection.execute("SELECT identity FROM entries WHERE status = 'audited'")}


def demo_model(path, name, number):
    """A model of the demo that is unlike any other: a note is put behind its end, as metadata may be."""
    note = f"note {number:06}".encode()
    # Field 14 of a model holds pairs of strings; this one holds the pair of ("n", note).
    pair = b"\x0a\x01n\x12" + bytes([len(note)]) + note
    path.write_bytes((DEMO / name).read_bytes() + b"\x72" + bytes([len(pair)]) + pair)


def cheap_room(path, count=240):
    (path / "root" / "deep").mkdir(parents=True)
    (path / "traces").mkdir()
    for number in range(count):
        demo_model(path / "root" / ("deep" if number % 3 else "") / f"m{number}.onnx", "attacked.onnx", number)
    (path / "root" / "empty.onnx").touch()
    (path / "root" / "network.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    return Room(path, "cheap")


def real_room(path, count=24):
    (path / "root").mkdir(parents=True)
    shutil.copytree(DEMO, path / "keys", ignore=shutil.ignore_patterns("*.onnx", "calibration*"))
    for number in range(count):
        demo_model(
            path / "root" / f"m{number}.onnx", ["marked.onnx", "unmarked.onnx", "attacked.onnx"][number % 3], number
        )
    (path / "root" / "cut.onnx").write_bytes((DEMO / "marked.onnx").read_bytes()[:50_000])
    return Room(path, "real")


@pytest.fixture(scope="module", params=[cheap_room, real_room], ids=["cheap", "real"])
def peace(request, tmp_path_factory):
    """How to make a room, and what a scan of it says when nothing happens."""
    room = request.param(tmp_path_factory.mktemp("peace"))
    with room.start() as scan:
        scan.stdout.read()
    assert scan.returncode == 0
    return request.param, told_in(room)


def told_in(room):
    """What the document of a room says, byte for byte, but for where the room is."""
    return room.document.read_text().replace(str(room.path), "")


def killed_at_random(room, rng):
    """One scan that is killed: while it starts, or after some entries; returns what it told of."""
    with room.start() as scan:
        told = []
        if rng.random() < 0.25:
            time.sleep(rng.uniform(0, 0.8))
        else:
            told += [scan.stdout.readline() for _ in range(rng.randrange(1, 25))]
            time.sleep(rng.uniform(0, 0.02))
        scan.kill()
        return told + scan.stdout.readlines()


def test_a_scan_that_is_killed_goes_on_and_says_the_same(peace, tmp_path_factory):
    make, expected = peace
    room = make(tmp_path_factory.mktemp("killed"))
    rng = random.Random(7)
    for _ in range(KILLS):
        audited = {line.split()[1].decode() for line in killed_at_random(room, rng) if line.startswith(b"new")}
        # Nothing that was told of is lost; what is not audited has no result to be used again.
        assert audited - UNREADABLE <= (room.kept() if audited else set())
    with room.start() as scan:
        scan.stdout.read()
    assert scan.returncode == 0
    assert told_in(room) == expected
    if room.kind == "cheap":
        assert_little_was_done_twice(room)


def assert_little_was_done_twice(room):
    tries = Counter({path.name: len(path.read_text()) for path in (room.path / "traces").glob("*.onnx")})
    assert len(tries) == 240
    # A killed scan loses what is in flight: two chunks a worker. A worker that was killed loses its chunk, too.
    n_flying = 2 * 2 * chaos.BATCHING.n_models
    n_killed = 2 * len(tasks.KILLERS) * chaos.BATCHING.n_models
    assert sum(tries.values()) - len(tries) <= KILLS * n_flying + n_killed


def test_no_worker_of_a_killed_scan_goes_on(tmp_path):
    room = cheap_room(tmp_path)
    with room.start() as scan:
        scan.stdout.readline()
        workers = children(scan.pid)
        scan.kill()
    assert workers
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(parent):
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            status = (directory / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(status[1]) == parent and status[0] != "Z":
            found.append(int(directory.name))
    return found


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_workers_that_are_killed_from_outside(tmp_path):
    """By somebody who strikes again and again: what is not audited now is audited by the next run."""
    room = cheap_room(tmp_path)
    over = threading.Event()
    # Earlier tests of this process may have left it a child, such as the tracker of shared memory.
    others = set(children(os.getpid()))

    def strike():
        rng = random.Random(3)
        for _ in range(6):
            if over.wait(0.3):
                return
            workers = sorted(set(children(os.getpid())) - others)
            if workers:
                os.kill(rng.choice(workers), signal.SIGKILL)

    told = []
    killer = threading.Thread(target=strike)
    killer.start()
    arguments = str(room.path / "root"), room.journal, room.path / "traces"
    chaos.cheap(*arguments, told.append)
    over.set()
    killer.join()
    assert len(told) == 242
    problems = {done.result["problem"] for done in told if done.result and done.result["status"] == "failed"}
    assert problems <= {"worker-killed(SIGKILL, as when memory runs out)"}
    again = chaos.cheap(*arguments, told.append)
    room.journal.unlink()
    assert again == chaos.cheap(*arguments, told.append)


# Files that change


def truncating(locations, ring):
    """An audit in whose midst, once the models are open, some are cut short."""
    from onnxmark.registry import auditing

    flagged = auditing._flagged

    def cut(*arguments):
        for location in locations:
            if Path(location).name.startswith("cut"):
                os.truncate(location, 3000)
        return flagged(*arguments)

    auditing._flagged = cut
    try:
        return audit_chunk(locations, ring)
    finally:
        auditing._flagged = flagged


def found_in(folder):
    for path in sorted(folder.iterdir()):
        status = path.stat()
        stamp = Stamp(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)
        yield Found(path.name, "plain", str(path), Outcome.MODEL, status.st_size, stamp)


def test_a_model_that_is_cut_short_while_it_is_read(tmp_path):
    (tmp_path / "root").mkdir()
    for name in ("a.onnx", "cut.onnx", "z.onnx"):
        shutil.copy(DEMO / "marked.onnx", tmp_path / "root" / name)

    with ring_folder([DEMO / "key.npy"]) as folder, open_engine("local", jobs=1, limits=Limits(60.0)) as engine:

        def scanned(task):
            with open_journal(tmp_path / "scan.sqlite", Terms(("k",))) as journal:
                journal.begin(["root"])
                done = list(run_scan(found_in(tmp_path / "root"), task, journal, engine))
                journal.finish()
            return {one.found.identity: one for one in done}

        first = scanned(_With(truncating, folder))
        shutil.copy(DEMO / "marked.onnx", tmp_path / "root" / "cut.onnx")
        second = scanned(_With(audit_chunk, folder))
    assert all(first[name].result["hits"] for name in ("a.onnx", "z.onnx"))
    cut = first["cut.onnx"].result
    assert cut["hits"] == []
    assert "truncated" in (cut["problem"] or cut["layers"]["failed"][0]["problem"])
    # It is noticed that it has changed, whatever the first run had said.
    assert {name: one.reused for name, one in second.items()} == {"a.onnx": True, "cut.onnx": False, "z.onnx": True}
    assert second["cut.onnx"].result["hits"]


@dataclass(frozen=True)
class _With:
    function: object
    ring: Path

    def __call__(self, locations):
        return self.function(locations, self.ring)


# A disk that is full, a journal that is taken, a tree that is hostile


def command(*arguments, **options):
    program = options.pop("before", "") + "import sys; from onnxmark.cli import main; sys.exit(main())"
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "PROGRAM": program}
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
        **options,
    )


UNPRIVILEGED = """
import ctypes, os, sys
# Root may read everything for two capabilities, which no program that is started from here on gets (PR_CAPBSET_DROP).
for capability in (1, 2):
    ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0)
if "again" not in sys.argv:
    os.execv(sys.executable, [sys.executable, "-c", os.environ["PROGRAM"], *sys.argv[1:], "again"])
sys.argv.remove("again")
"""


def scan_command(room, **options):
    means = ["--keys", room.path / "keys", "--db", room.journal, "--format", "json", "--no-progress", "-j", "1"]
    return command("scan", room.path / "root", *means, **options)


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))
"""


def test_a_full_disk_under_the_journal_is_one_line_and_the_scan_goes_on_later(tmp_path):
    room = real_room(tmp_path)
    full = scan_command(room, before=LIMITED)
    assert full.returncode == 2
    assert full.stdout == ""
    assert len(full.stderr.strip().splitlines()) == 1, full.stderr
    assert f"journal {str(room.journal)!r}" in full.stderr
    assert "run the same command again" in full.stderr
    later = scan_command(room)
    room.journal.unlink()
    anew = scan_command(room)
    assert later.returncode == anew.returncode == 3
    assert later.stdout == anew.stdout
    assert json.loads(anew.stdout)["coverage"]["found"] == 25


@contextlib.contextmanager
def tiny_disk(path):
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted: {mounted.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_disk_that_is_really_full(tmp_path):
    room = real_room(tmp_path)
    with tiny_disk(tmp_path / "disk") as disk:
        full = command(
            "scan", room.path / "root", "--keys", room.path / "keys", "--db", disk / "s.sqlite", "--no-progress"
        )
    assert full.returncode == 2
    assert "free some space and run the same command again" in full.stderr or "not full" in full.stderr
    assert len(full.stderr.strip().splitlines()) == 1


def test_two_scans_of_one_journal(tmp_path):
    room = real_room(tmp_path, count=3)
    with open_journal(room.journal, Terms(())):
        second = scan_command(room)
    assert second.returncode == 2
    assert "another scan is writing it" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1


def test_a_hostile_tree(tmp_path):
    """A pipe, a loop of links, a directory without permission, a dangling link: counted, and never waited for."""
    room = real_room(tmp_path, count=3)
    root = tmp_path / "root"
    os.mkfifo(root / "pipe.onnx")
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "snake.onnx").symlink_to(root / "snake.onnx")
    (root / "dangling.onnx").symlink_to(root / "none.onnx")
    (root / "locked").mkdir()
    shutil.copy(DEMO / "marked.onnx", root / "locked" / "hidden.onnx")
    (root / "locked").chmod(0)
    shutil.copy(DEMO / "marked.onnx", root / "secret.onnx")
    (root / "secret.onnx").chmod(0)
    try:
        done = scan_command(room, before=UNPRIVILEGED)
    finally:
        (root / "locked").chmod(0o700)
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    coverage = document["coverage"]
    # Neither the locked directory nor the unreadable file is passed over in silence.
    left_out = json.dumps([coverage["failed"], coverage["skipped"]])
    assert "locked" in left_out
    assert "secret.onnx" in left_out
    assert "hidden" not in json.dumps(document)
    assert document["status"] == "partial"
    assert coverage["audited"] == 3
    assert coverage["found"] == coverage["audited"] + len(coverage["failed"]) + sum(
        one["count"] for one in coverage["skipped"]
    )


def test_an_interrupt_keeps_the_journal(tmp_path):
    """Typed at a terminal, it reaches the whole group: workers leave it to the scan, which ends them."""
    room = cheap_room(tmp_path)
    with room.start() as scan:
        for _ in range(20):
            scan.stdout.readline()
        workers = children(scan.pid)
        scan.send_signal(signal.SIGINT)
        scan.stdout.read()
    assert scan.returncode != 0
    assert not any(is_running(pid) for pid in workers)
    assert len(room.kept()) >= 20 - len(UNREADABLE)
    with read_journal(room.journal) as journal:
        assert not journal.complete


def test_many_runs_of_one_journal_do_not_make_it_grow(tmp_path):
    """A thousand resumptions of a large scan must not fill the disk."""
    found = [Found(f"m{n}", "plain", f"/r/m{n}", Outcome.MODEL, 10, Stamp(10, 1, n, 1)) for n in range(300)]
    sizes = []
    with open_engine("local", jobs=1, limits=Limits(60.0)) as engine:
        for _ in range(6):
            with open_journal(tmp_path / "scan.sqlite", Terms(("k",))) as journal:
                journal.begin(["/r"])
                done = list(run_scan(found, tasks.behave, journal, engine, batching=Batching(100)))
                journal.finish()
            assert len(done) == 300
            sizes.append((tmp_path / "scan.sqlite").stat().st_size)
    assert sizes[-1] <= 1.5 * sizes[0]
