"""Models behind URLs: in fsspec's memory, and behind a file system that misbehaves in every way services do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onnxmark.errors import ExternalDataError, MissingExtra, ModelLimitError, ModelUnavailable, NotAModel
from onnxmark.model import open_model
from onnxmark.registry import remote
from onnxmark.registry.discovery import discover
from onnxmark.registry.entries import Outcome
from onnxmark.registry.remote import local_copy, opened
from onnxmark.registry.urls import carries_password, is_remote, public
from onnxmark.registry.walking import Tally
from tests.registry.discovery.registries import (
    data_bytes,
    found,
    model_bytes,
    models,
    only,
    outcomes,
    put,
)

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory", skip_instance_cache=True)
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_models_are_found_as_on_a_disk(memory: Any, tmp_path: Path):
    files = {
        "a/m.onnx": model_bytes(),
        "b.onnx": b"version https://git-lfs.github.com/spec/v1\n",
        "c/d/net.tflite": b"\x1c\0\0\0TFL3",
        "c/empty.onnx": b"",
        "detector/1/model.onnx": model_bytes(1),
        "net/saved_model.pb": b"\x08\x01",
        "page.onnx": b"<html>404</html>",
        "readme.txt": b"text",
        "Z.onnx": model_bytes(2),
    }
    for name, data in files.items():
        memory.pipe(f"/models/{name}", data)
        put(tmp_path / name, data)
    tally, other = Tally(), Tally()
    remotely = found("memory://models", tally=tally)
    locally = found(tmp_path, tally=other)
    compared = [[(e.identity, e.layout, e.outcome, e.reason, e.size) for e in each] for each in (remotely, locally)]
    assert compared[0] == compared[1]
    assert tally == other
    assert len(remotely) == 8


def test_locations_open_again(memory: Any):
    memory.pipe("/models/sub dir/é.onnx", model_bytes())
    one = only("memory://models")
    assert (one.location, one.size) == ("memory:///models/sub dir/é.onnx", len(model_bytes()))
    with fsspec.open(one.location) as file:
        assert file.read() == model_bytes()
    with local_copy(one.location) as path:
        assert path.read_bytes() == model_bytes()


def test_filters(memory: Any):
    for name in ("a.onnx", "old/a.onnx", "old/b.txt"):
        memory.pipe(f"/models/{name}", model_bytes())
    assert outcomes("memory://models", exclude=["old/"]) == {"a.onnx": "model", "old/": "skipped"}
    assert outcomes("memory://models", include=["old/"]) == {"a.onnx": "skipped", "old/a.onnx": "model"}
    assert outcomes("memory://models/old", max_size=10) == {"a.onnx": "skipped"}


def test_a_url_of_one_file(memory: Any):
    memory.pipe("/models/a.onnx", model_bytes())
    memory.pipe("/models/noname", model_bytes())
    assert outcomes("memory://models/a.onnx") == {"a.onnx": "model"}
    assert outcomes("memory://models/noname") == {}


def test_several_roots_of_both_kinds(memory: Any, tmp_path: Path):
    memory.pipe("/models/a.onnx", model_bytes())
    put(tmp_path / "a.onnx")
    assert models("memory://models/", tmp_path) == ["memory://models/a.onnx", f"{tmp_path}/a.onnx"]


def test_stamps_tell_versions_apart(memory: Any):
    memory.pipe("/models/a.onnx", model_bytes())
    before = only("memory://models").stamp
    assert before is not None
    assert only("memory://models").stamp == before
    memory.pipe("/models/a.onnx", model_bytes(1))
    after = only("memory://models").stamp
    assert after is not None
    assert after != before
    assert 0 <= after.inode < 1 << 63


def test_nothing_but_listings_and_the_heads_of_models_is_asked_for(memory: Any, monkeypatch: pytest.MonkeyPatch):
    big = model_bytes(0, None, (64, 64, 3, 3))
    for name in ("a.onnx", "b.bin", "c.txt", "d/e.onnx"):
        memory.pipe(f"/models/{name}", big)
    asked = []
    reading = type(memory).cat_file

    def counting(self: Any, path: str, start: int | None = None, end: int | None = None, **rest: Any) -> bytes:
        asked.append((path, start, end))
        return reading(self, path, start=start, end=end, **rest)

    monkeypatch.setattr(type(memory), "cat_file", counting)
    assert len(models("memory://models")) == 2
    assert asked == [("/models/a.onnx", 0, 512), ("/models/d/e.onnx", 0, 512)]


def test_a_root_that_is_not_there(memory: Any):
    one = only("memory://nowhere")
    assert one.outcome is Outcome.FAILED
    assert "'memory://nowhere': cannot be read" in (one.reason or "")


@pytest.mark.parametrize("url", ["nosuch://bucket/x", "s3a-like://x", "memory::nosuch://x"])
def test_file_systems_there_are_none_of(url: str):
    one = only(url)
    assert (one.outcome, one.location) == (Outcome.FAILED, url)


def test_fsspec_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    wanted = r"reading 's3://bucket/x' needs fsspec, which is not installed; run: pip install 'onnxmark\[remote\]'"
    with pytest.raises(MissingExtra, match=wanted):
        list(discover(["s3://bucket/x"]))
    with pytest.raises(MissingExtra, match="needs fsspec"), local_copy("s3://bucket/x"):
        pass


@pytest.mark.parametrize(
    ("root", "remotely"),
    [
        ("s3://b/k", True),
        ("hf://org/name", True),
        ("simplecache::s3://b/k", True),
        ("/a/b", False),
        ("a:b", False),
        ("C:/models", False),
        ("c://models", False),
        ("./s3://b", False),
        ("", False),
    ],
)
def test_urls_and_paths(root: str, remotely: bool):
    assert is_remote(root) == remotely


def test_what_may_be_secret_is_not_shown():
    assert public("sftp://me@host/p") == "sftp://host/p"
    assert not carries_password("sftp://me@host/p")
    assert public("az://box/m.onnx?sig=abc&sp=r#frag") == "az://box/m.onnx"
    assert public("filecache::s3://key:secret@b/k?x=1") == "filecache::s3://b/k"
    assert public("/srv/what?#name@home.onnx") == "/srv/what?#name@home.onnx"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sftp://me:secret@host/p", "sftp://host/p"),
        ("s3://KEY:secret@bucket", "s3://bucket"),
        ("sftp://me:se@cret@host/p", "sftp://host/p"),
        ("hf://org/name@rev/f:1@x", "hf://org/name@rev/f:1@x"),
    ],
)
def test_passwords_are_neither_used_nor_shown(url: str, shown: str):
    assert public(url) == shown
    assert carries_password(url) == (url != shown)
    if url == shown:
        return
    one = only(url)
    assert (one.outcome, one.identity, one.location) == (Outcome.FAILED, shown, shown)
    assert "carries a password" in (one.reason or "")
    assert "secret" not in repr(one)
    assert "secret" not in repr(found(url, "memory://elsewhere"))
    with pytest.raises(ModelUnavailable, match="carries a password") as caught:
        opened(url)
    assert "secret" not in str(caught.value)


class Services:
    """A file system of canned answers; an exception is raised instead of answered."""

    def __init__(self, listings: dict[str, Any], contents: dict[str, Any] | None = None) -> None:
        self.listings, self.contents = listings, contents or {}

    def info(self, path: str) -> dict[str, Any]:
        return {"name": path, "type": "directory", "size": 0}

    def ls(self, path: str, detail: bool = True) -> list[dict[str, Any]]:
        answer = self.listings.get(path, self.listings.get("*"))
        if isinstance(answer, Exception):
            raise answer
        return answer(path) if callable(answer) else answer

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        answer = self.contents.get(path, model_bytes())
        if isinstance(answer, Exception):
            raise answer
        return answer[start:end]

    def unstrip_protocol(self, name: str) -> str:
        return f"canned://{name}"


def entry(name: str, kind: str = "file", size: int | None = 1000, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "size": size, **more}


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(listings: dict[str, Any], contents: dict[str, Any] | None = None, top: str = "bucket") -> None:
        monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (Services(listings, contents), top))

    return install


class ServiceError(Exception):
    pass


def test_a_directory_that_cannot_be_listed(canned: Any):
    canned(
        {"bucket": [entry("bucket/a", "directory"), entry("bucket/m.onnx")], "bucket/a": ServiceError("403\ndenied")}
    )
    one, other = found("canned://bucket")
    assert (one.identity, one.outcome) == ("a/", Outcome.FAILED)
    assert one.reason == "cannot be listed; check permissions"
    assert other.outcome is Outcome.MODEL


def test_a_model_that_cannot_be_read(canned: Any):
    canned({"bucket": [entry("bucket/m.onnx")]}, {"bucket/m.onnx": ServiceError("gone")})
    assert only("canned://bucket").reason == "cannot be read; check that it is there and may be read"


def test_markers_of_directories_are_none_of_their_files(canned: Any):
    canned({"bucket": [entry("bucket"), entry("bucket/", "file", 0), entry("bucket/m.onnx")]})
    tally = Tally()
    assert [each.identity for each in found("canned://bucket", tally=tally)] == ["m.onnx"]
    assert tally == Tally(directories=1)


def test_links_and_special_files(canned: Any):
    canned({"bucket": [entry("bucket/l.onnx", "link"), entry("bucket/x", "other"), entry("bucket/d", "link")]})
    tally = Tally()
    one = found("canned://bucket", tally=tally)[0]
    assert (one.identity, one.outcome, one.reason) == ("l.onnx", Outcome.SKIPPED, "is a link, not a regular file")
    assert tally.others == 2


def test_a_file_system_that_leads_back_to_itself(canned: Any):
    canned({"*": lambda path: [entry(f"{path}/again", "directory")]})
    one = only("canned://bucket")
    assert (one.outcome, one.reason) == (Outcome.SKIPPED, "is nested more than 128 deep")
    assert one.identity == "again/" * 128


def test_answers_in_any_order_are_found_in_one(canned: Any):
    names = ["bucket/b.onnx", "bucket/a.onnx", "bucket/a", "bucket/é.onnx", "bucket/B.onnx"]
    listing = [entry(name, "file" if name.endswith("onnx") else "directory") for name in names]
    inner = [entry("bucket/a/z.onnx")]
    orders = []
    for each in (listing, listing[::-1]):
        canned({"bucket": each, "bucket/a": inner})
        orders.append(models("canned://bucket"))
    assert orders[0] == orders[1] == ["B.onnx", "a/z.onnx", "a.onnx", "b.onnx", "é.onnx"]


def test_sizes_and_marks_that_a_service_does_not_tell(canned: Any):
    canned({"bucket": [entry("bucket/m.onnx", size=None)]})
    one = only("canned://bucket")
    assert (one.outcome, one.reason, one.stamp) == (Outcome.FAILED, "is empty; get it again", None)
    stamps = set()
    for tag in ("1", "2", "1"):
        canned({"bucket": [entry("bucket/m.onnx", ETag=tag)]})
        stamps.add(only("canned://bucket").stamp)
    assert len(stamps) == 2


def test_names_of_the_hub(canned: Any):
    canned(
        {"org/net": [entry("org/net/onnx", "directory")], "org/net/onnx": [entry("org/net/onnx/m.onnx")]}, top="org/net"
    )
    one = only("hf://org/net")
    assert (one.identity, one.layout) == ("org/net/onnx/m.onnx", "hugging-face")


def test_paths_are_copied_nowhere(tmp_path: Path):
    path = put(tmp_path / "m.onnx")
    with local_copy(str(path), 1) as same:
        assert same == path
    assert path.exists()


def test_a_copy_lives_as_long_as_it_is_looked_at(memory: Any):
    memory.pipe("/r/m.onnx", model_bytes())
    with local_copy("memory://r/m.onnx") as path:
        assert path.is_file()
        folder = path.parent
    assert not folder.exists()


def test_a_copy_goes_when_its_worker_fails(memory: Any):
    memory.pipe("/r/m.onnx", model_bytes())
    seen = []

    def work() -> None:
        with local_copy("memory://r/m.onnx") as path:
            seen.append(path)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        work()
    assert not seen[0].parent.exists()


@pytest.mark.parametrize("location", ["m.onnx_data", "sub/dir/w.bin", "./w"])
def test_external_data_are_fetched_by_name_and_nothing_else(memory: Any, location: str):
    memory.pipe("/r/m.onnx", model_bytes(3, location))
    memory.pipe(f"/r/{location.removeprefix('./')}", data_bytes(3))
    memory.pipe("/r/unrelated.bin", bytes(100))
    with local_copy("memory://r/m.onnx") as path:
        assert sum(1 for each in path.parent.rglob("*") if each.is_file()) == 2
        with open_model(path) as model:
            (site,) = model.sites()
            assert model.read(site).values.tobytes() == data_bytes(3)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "C:\\x", ""])
def test_external_data_elsewhere_are_refused(memory: Any, location: str):
    memory.pipe("/r/m.onnx", model_bytes(0, location))
    memory.pipe("/secret", data_bytes(0))
    with pytest.raises(ExternalDataError, match="external data of tensor 'w'"), local_copy("memory://r/m.onnx"):
        pass


def test_data_that_name_the_model_itself_do_not_overwrite_it(memory: Any):
    memory.pipe("/r/x.onnx", model_bytes(0, "model.onnx"))
    memory.pipe("/r/model.onnx", b"other")
    with pytest.raises(ModelUnavailable, match="File exists"), local_copy("memory://r/x.onnx"):
        pass


def test_data_that_are_missing(memory: Any):
    memory.pipe("/r/m.onnx", model_bytes(0, "w.bin"))
    with (
        pytest.raises(ModelUnavailable, match=r"'memory://r/m\.onnx': cannot be read"),
        local_copy("memory://r/m.onnx"),
    ):
        pass


def test_the_bound_counts_the_model_and_its_data(memory: Any):
    memory.pipe("/r/m.onnx", model_bytes(0, "w.bin"))
    memory.pipe("/r/w.bin", data_bytes(0))
    size = len(model_bytes(0, "w.bin")) + len(data_bytes(0))
    with local_copy("memory://r/m.onnx", size) as path:
        assert path.exists()
    for limit in (size - 1, len(model_bytes(0, "w.bin")), 10, 0):
        with (
            pytest.raises(ModelLimitError, match="more bytes than may be fetched"),
            local_copy("memory://r/m.onnx", limit),
        ):
            pass


def test_a_model_larger_than_a_piece(memory: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "_PIECE", 100)
    memory.pipe("/r/m.onnx", model_bytes())
    with local_copy("memory://r/m.onnx") as path:
        assert path.read_bytes() == model_bytes()


def test_what_is_no_model(memory: Any):
    memory.pipe("/r/m.onnx", b"<html>")
    with pytest.raises(NotAModel, match="HTML page"), local_copy("memory://r/m.onnx"):
        pass
    with pytest.raises(ModelUnavailable, match="cannot be read"), local_copy("memory://r/nothing.onnx"):
        pass


def test_errors_of_a_service_are_one_line(monkeypatch: pytest.MonkeyPatch):
    def broken(url: str) -> None:
        raise ServiceError("first\nsecond\t" + "x" * 1000)

    monkeypatch.setattr("fsspec.core.url_to_fs", broken)
    with pytest.raises(ModelUnavailable, match="first second") as caught:
        opened("canned://x")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
