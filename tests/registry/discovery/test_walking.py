"""Everything a directory may hold: found once, in order, and never an exception."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnxmark.errors import ModelUnavailable
from onnxmark.model import source
from onnxmark.registry import walking
from onnxmark.registry.discovery import discover
from onnxmark.registry.entries import Outcome, Stamp
from onnxmark.registry.walking import Tally
from tests.registry.discovery.registries import found, link, model_bytes, models, only, outcomes, put


def test_a_folder(tmp_path: Path):
    for name in ("b.onnx", "a/z.onnx", "a.onnx", "a/B.onnx", "readme.txt"):
        put(tmp_path / name, "text" if name.endswith("txt") else None)
    tally = Tally()
    assert [each.identity for each in found(tmp_path, tally=tally)] == ["a/B.onnx", "a/z.onnx", "a.onnx", "b.onnx"]
    assert tally == Tally(directories=2, others=1)


def test_all_that_is_known_of_a_model(tmp_path: Path):
    path = put(tmp_path / "sub" / "m.onnx")
    one, status = only(tmp_path), path.stat()
    assert (one.identity, one.layout, one.location) == ("sub/m.onnx", "plain", str(path))
    assert (one.outcome, one.reason, one.size) == (Outcome.MODEL, None, len(model_bytes()))
    assert one.stamp == Stamp(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


def test_the_same_files_as_find_lists(tmp_path: Path):
    names = [f"{a}/{b}/{c}.onnx" for a in "xyz" for b in ("1 2", "é", "-") for c in ("m", "*", "a\nb")]
    for name in names:
        put(tmp_path / name)
    listed = subprocess.run(["find", ".", "-type", "f", "-print0"], cwd=tmp_path, capture_output=True, check=True)
    expected = sorted(Path(os.fsdecode(line)).as_posix() for line in listed.stdout.split(b"\0") if line)
    assert sorted(models(tmp_path)) == expected


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("b", "a", "c/x", "c/y", "é", "Z"):
        put(tmp_path / f"{name}.onnx")
    forwards, listing = models(tmp_path), os.scandir

    class Reversed:
        def __init__(self, path: str) -> None:
            self.path = path

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            with listing(self.path) as entries:
                return iter(list(entries)[::-1])

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(walking.os, "scandir", Reversed)
    assert models(tmp_path) == forwards


def test_it_is_lazy(tmp_path: Path):
    for index in range(5):
        put(tmp_path / str(index) / "m.onnx")
    tally = Tally()
    first = next(discover([str(tmp_path)], tally=tally))
    assert first.identity == "0/m.onnx"
    assert tally.directories == 2
    put(tmp_path / "3" / "late.onnx")
    assert "3/late.onnx" in models(tmp_path)


def test_memory_does_not_grow_with_the_number_of_models(tmp_path: Path):
    def held(directories: int) -> int:
        root = tmp_path / str(directories)
        for index in range(directories):
            put(root / f"{index:04}" / "m.onnx")
        list(discover([str(root)]))
        tracemalloc.start()
        most = max(tracemalloc.get_traced_memory()[0] for _ in discover([str(root)]))
        tracemalloc.stop()
        return most

    # What os.scandir says of the root's own entries is held, of what is below nothing.
    assert held(1000) - held(100) < 900 * 400


def test_roots_that_are_files(tmp_path: Path):
    path = put(tmp_path / "m.onnx")
    assert outcomes(path) == {"m.onnx": "model"}
    put(tmp_path / "t.txt", "text")
    assert found(tmp_path / "t.txt") == []


def test_a_root_that_is_not_there(tmp_path: Path):
    one = only(tmp_path / "nowhere")
    assert (one.outcome, one.reason) == (Outcome.FAILED, "is gone, or was never there")


def test_a_root_that_is_a_link(tmp_path: Path):
    put(tmp_path / "real" / "m.onnx")
    link(tmp_path / "alias", "real")
    one = only(tmp_path / "alias")
    assert (one.identity, one.location) == ("m.onnx", str(tmp_path / "alias" / "m.onnx"))


def test_several_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(tmp_path / "a" / "m.onnx")
    put(tmp_path / "b" / "m.onnx")
    monkeypatch.chdir(tmp_path)
    assert models("b", "a") == ["b/m.onnx", "a/m.onnx"]
    assert models("a/", "./b") == ["a/m.onnx", "./b/m.onnx"]


def test_roots_inside_each_other_are_one(tmp_path: Path):
    put(tmp_path / "a" / "m.onnx")
    put(tmp_path / "ab" / "m.onnx")
    assert models(tmp_path / "a", tmp_path, tmp_path) == ["a/m.onnx", "ab/m.onnx"]
    assert len(models(tmp_path / "a", tmp_path / "ab")) == 2


def test_a_url_of_a_directory_is_a_directory(tmp_path: Path):
    put(tmp_path / "a b" / "m.onnx")
    link(tmp_path / "a b" / "loop", ".")
    assert models((tmp_path / "a b").as_uri()) == ["m.onnx"]


def test_links_to_files(tmp_path: Path):
    put(tmp_path / "outside.onnx")
    put(tmp_path / "root" / "real.onnx")
    link(tmp_path / "root" / "sub" / "inside.onnx", "../real.onnx")
    link(tmp_path / "root" / "absolute.onnx", str(tmp_path / "root" / "real.onnx"))
    link(tmp_path / "root" / "out.onnx", "../outside.onnx")
    link(tmp_path / "root" / "out.txt", "../outside.onnx")
    link(tmp_path / "root" / "passwd.onnx", "/etc/passwd")
    link(tmp_path / "root" / "gone.onnx", "nothing")
    link(tmp_path / "root" / "gone.txt", "nothing")
    link(tmp_path / "root" / "self.onnx", "self.onnx")
    link(tmp_path / "root" / "ping.onnx", "pong.onnx")
    link(tmp_path / "root" / "pong.onnx", "ping.onnx")
    tally = Tally()
    by_name = {each.identity: each for each in found(tmp_path / "root", tally=tally)}
    assert {name: str(each.outcome) for name, each in by_name.items()} == {
        "real.onnx": "model",
        "sub/inside.onnx": "model",
        "absolute.onnx": "model",
        "out.onnx": "skipped",
        "passwd.onnx": "skipped",
        "gone.onnx": "failed",
        "self.onnx": "failed",
        "ping.onnx": "failed",
        "pong.onnx": "failed",
    }
    assert tally.others == 2
    assert "leads out of the registry" in (by_name["passwd.onnx"].reason or "")
    assert by_name["gone.onnx"].reason == "is a link that leads nowhere"
    assert by_name["self.onnx"].reason == "is a link in a loop"
    assert by_name["sub/inside.onnx"].stamp == by_name["real.onnx"].stamp
    assert by_name["out.onnx"].stamp is None


def test_a_neighbour_whose_name_begins_alike_is_outside(tmp_path: Path):
    put(tmp_path / "root-2" / "m.onnx")
    link(tmp_path / "root" / "m.onnx", "../root-2/m.onnx")
    assert outcomes(tmp_path / "root") == {"m.onnx": "skipped"}


def test_links_to_directories_are_never_followed(tmp_path: Path):
    put(tmp_path / "outside" / "m.onnx")
    put(tmp_path / "root" / "real" / "m.onnx")
    link(tmp_path / "root" / "again", "real")
    link(tmp_path / "root" / "real" / "up", "..")
    link(tmp_path / "root" / "here", ".")
    link(tmp_path / "root" / "out", "../outside")
    tally = Tally()
    assert {each.identity: each.outcome for each in found(tmp_path / "root", tally=tally)} == {
        "out/": Outcome.SKIPPED,
        "real/m.onnx": Outcome.MODEL,
    }
    assert tally.again == 3


def test_hard_links_are_files(tmp_path: Path):
    put(tmp_path / "a.onnx")
    os.link(tmp_path / "a.onnx", tmp_path / "b.onnx")
    one, other = found(tmp_path)
    assert one.stamp == other.stamp


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Path]:
    # The address of a socket may have a hundred bytes, fewer than the paths of tests have.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/s.onnx")
        yield Path(folder)


def test_sockets(bound: Path):
    assert only(bound).reason == "is a socket, not a regular file"


def test_pipes(tmp_path: Path):
    for name in ("p.onnx", "p.pkl", "p", "mlflow.db", "x.dvc"):
        os.mkfifo(tmp_path / name)
    link(tmp_path / "to.onnx", "p")
    tally = Tally()
    assert {each.identity: each.reason for each in found(tmp_path, tally=tally)} == {
        "p.onnx": "is a pipe, not a regular file",
        "p.pkl": "is a pipe, not a regular file",
        "to.onnx": "is a pipe, not a regular file",
    }
    assert (tally.others, tally.directories) == (3, 1)


def test_a_device_as_a_root():
    one = only("/dev/null")
    assert (one.outcome, one.reason) == (Outcome.SKIPPED, "is a device, not a regular file")


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[Path]:
    """A directory of somebody whom permissions bind, which they do not bind root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    yield folder
    if root:
        os.seteuid(0)
    for each in (folder, *folder.rglob("*")):
        if not each.is_symlink():
            each.chmod(0o755)
    shutil.rmtree(folder)


def lose_privileges() -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_no_permission(unprivileged: Path):
    put(unprivileged / "closed" / "m.onnx")
    put(unprivileged / "unlisted" / "m.onnx")
    put(unprivileged / "open" / "m.onnx")
    put(unprivileged / "secret.onnx")
    put(unprivileged / "secret.txt")
    (unprivileged / "closed").chmod(0)
    (unprivileged / "unlisted").chmod(0o711)
    for name in ("secret.onnx", "secret.txt"):
        (unprivileged / name).chmod(0)
    tally = Tally()
    lose_privileges()
    by_name = {each.identity: each for each in found(unprivileged, tally=tally)}
    assert {name: str(each.outcome) for name, each in by_name.items()} == {
        "closed/": "failed",
        "open/m.onnx": "model",
        "secret.onnx": "failed",
        "unlisted/": "failed",
    }
    for name in ("closed/", "unlisted/", "secret.onnx"):
        assert "Permission denied" in (by_name[name].reason or "")
        assert str(unprivileged) not in (by_name[name].reason or "")
    assert (tally.others, tally.unreadable) == (1, 1)


def test_a_root_behind_a_closed_door(unprivileged: Path):
    put(unprivileged / "closed" / "inner" / "m.onnx")
    (unprivileged / "closed").chmod(0)
    lose_privileges()
    for name in ("inner", "inner/m.onnx"):
        one = only(unprivileged / "closed" / name)
        assert one.outcome is Outcome.FAILED
        assert "Permission denied" in (one.reason or "")


def test_a_cache_whose_store_is_closed(unprivileged: Path):
    home = unprivileged / "models--a--b"
    link(home / "snapshots" / "r" / "m.onnx", "../../../blobs/ab/x")
    put(unprivileged / "blobs" / "ab" / "x")
    put(unprivileged / "blobs" / ".huggingface-shared-blobs", "1\n")
    (unprivileged / "blobs").chmod(0)
    lose_privileges()
    assert outcomes(unprivileged) == {"a/b@r/m.onnx": "failed", "blobs/": "failed"}


def test_directories_that_may_be_listed_but_not_entered(unprivileged: Path):
    home = unprivileged / "models--a--b"
    put(home / "snapshots" / "r" / "m.onnx")
    put(home / "snapshots" / "r" / "notes.txt", "text")
    (home / "snapshots" / "r").chmod(0o744)
    lose_privileges()
    assert outcomes(unprivileged) == {"a/b@r/m.onnx": "failed"}


def test_names_that_are_not_utf8(tmp_path: Path):
    for name in (b"\xff.onnx", b"\xff.txt", b"\xfe"):
        put(tmp_path / os.fsdecode(name), b"text" if name.endswith(b"txt") else model_bytes())
    (tmp_path / os.fsdecode(b"\xfd")).mkdir()
    put(tmp_path / "good.onnx")
    by_name = {each.identity: each for each in found(tmp_path)}
    assert {name: str(each.outcome) for name, each in by_name.items()} == {
        "good.onnx": "model",
        "\\xff.onnx": "failed",
        "\\xfe": "failed",
        "\\xfd/": "failed",
    }
    for each in by_name.values():
        f"{each.identity}{each.location}{each.reason}".encode()
    assert by_name["\\xff.onnx"].reason == "has a name that is not UTF-8; rename it"


def test_files_that_vanish_between_listing_and_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.onnx", "b.onnx", "c", "d.onnx"):
        put(tmp_path / name)
    opening = os.open

    def vanishing(path: str | Path, *rest: int) -> int:
        if Path(path).name in ("b.onnx", "c"):
            Path(path).unlink()
        return opening(path, *rest)

    monkeypatch.setattr(source.os, "open", vanishing)
    tally = Tally()
    by_name = {each.identity: each for each in found(tmp_path, tally=tally)}
    assert {name: str(each.outcome) for name, each in by_name.items()} == {
        "a.onnx": "model",
        "b.onnx": "failed",
        "d.onnx": "model",
    }
    assert "No such file" in (by_name["b.onnx"].reason or "")
    assert tally.unreadable == 1


def test_a_directory_that_vanishes(tmp_path: Path):
    for name in ("a/m.onnx", "b/m.onnx", "c/m.onnx"):
        put(tmp_path / name)
    everything = []
    for each in discover([str(tmp_path)]):
        everything.append((each.identity, each.outcome))
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
    assert everything == [("a/m.onnx", Outcome.MODEL), ("b/", Outcome.FAILED), ("c/m.onnx", Outcome.MODEL)]


def test_a_file_that_cannot_be_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(tmp_path / "a.onnx")

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(source.os, "pread", broken)
    one = only(tmp_path)
    assert one.outcome is Outcome.FAILED
    assert "Input/output error" in (one.reason or "")
    with pytest.raises(ModelUnavailable, match="Input/output error"), source.Source(tmp_path / "a.onnx") as opened:
        opened.upto(0, 1)


def test_directories_deeper_than_a_stack_of_python(tmp_path: Path):
    depth = 1100
    subprocess.run(["mkdir", "-p", "d/" * depth], cwd=tmp_path, check=True)
    try:
        put(tmp_path / ("d/" * depth + "m.onnx"))
        assert models(tmp_path) == ["d/" * depth + "m.onnx"]
    finally:
        # pytest's own way to remove directories is recursive.
        subprocess.run(["rm", "-rf", "d"], cwd=tmp_path, check=True)


def test_paths_longer_than_the_system_takes(tmp_path: Path):
    """Such a directory can be made from inside, and a stranger's archive may hold one."""
    put(tmp_path / "b.onnx")
    back = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(20):
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
        put(Path("m.onnx"))
        found_here = found(tmp_path)
    finally:
        os.chdir(tmp_path)
        subprocess.run(["rm", "-rf", "d" * 250], check=True)
        os.chdir(back)
    assert [each.outcome for each in found_here] == [Outcome.MODEL, Outcome.FAILED]
    assert "File name too long" in (found_here[1].reason or "")
