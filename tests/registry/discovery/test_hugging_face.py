"""The hub's cache: compared with what huggingface_hub itself says of one, and attacked through its links."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from onnxmark.model import open_model
from onnxmark.registry.entries import Outcome
from onnxmark.registry.walking import Tally
from tests.registry.discovery.registries import (
    data_bytes,
    found,
    link,
    model_bytes,
    models,
    only,
    outcomes,
    put,
    snapshot,
)

OLD, NEW = "a" * 40, "0123456789abcdef" + "0" * 24


def test_names_are_repository_revision_and_file(tmp_path: Path):
    snapshot(tmp_path, "org/net", NEW, {"onnx/model.onnx": model_bytes(), "README.md": b"# net"})
    one = only(tmp_path)
    assert one.identity == "org/net@0123456789ab/onnx/model.onnx"
    assert (one.layout, one.outcome) == ("hugging-face", Outcome.MODEL)
    assert one.location == str(tmp_path / "models--org--net" / "snapshots" / NEW / "onnx" / "model.onnx")
    with open_model(one.location) as opened:
        assert opened.size == one.size


def test_the_same_blob_in_several_revisions_is_named_in_each_and_never_as_a_blob(tmp_path: Path):
    for revision in (OLD, NEW):
        snapshot(tmp_path, "org/net", revision, {"m.onnx": model_bytes()})
    tally = Tally()
    one, other = found(tmp_path, tally=tally)
    assert (one.identity, other.identity) == ("org/net@0123456789ab/m.onnx", "org/net@aaaaaaaaaaaa/m.onnx")
    assert one.stamp == other.stamp
    assert tally.again == 1


@pytest.mark.parametrize(
    ("directory", "repository"),
    [
        ("models--gpt2", "gpt2"),
        ("models--org--my-net", "org/my-net"),
        ("datasets--org--net", "datasets/org/net"),
        ("spaces--org--net", "spaces/org/net"),
    ],
)
def test_repositories_of_every_kind(tmp_path: Path, directory: str, repository: str):
    put(tmp_path / directory / "snapshots" / NEW / "m.onnx")
    assert models(tmp_path) == [f"{repository}@0123456789ab/m.onnx"]


def test_revisions_that_are_no_digests_keep_their_names(tmp_path: Path):
    put(tmp_path / "models--a--b" / "snapshots" / "not-a-commit" / "m.onnx")
    assert models(tmp_path) == ["a/b@not-a-commit/m.onnx"]


def test_files_that_are_no_links_as_on_windows(tmp_path: Path):
    put(tmp_path / "models--a--b" / "snapshots" / NEW / "m.onnx")
    put(tmp_path / "models--a--b" / "blobs" / "stray")
    assert models(tmp_path) == ["a/b@0123456789ab/m.onnx", "a/b/blobs/stray"]


def test_blobs_without_a_revision_are_models_too(tmp_path: Path):
    home = snapshot(tmp_path, "org/net", NEW, {"m.onnx": model_bytes(0)})
    put(home / "blobs" / ("b" * 64), model_bytes(1))
    put(home / "blobs" / ("c" * 64 + ".incomplete"), model_bytes(2)[:100])
    assert models(tmp_path) == ["org/net@0123456789ab/m.onnx", "org/net/blobs/" + "b" * 64]


def test_what_the_hub_keeps_beside_is_not_mistaken(tmp_path: Path):
    home = snapshot(tmp_path, "org/net", NEW, {"m.onnx": model_bytes()})
    put(home / ".no_exist" / NEW / "onnx" / "model.onnx", b"")
    put(home / "trees" / f"{NEW}.json", "{}")
    put(tmp_path / ".locks" / "models--org--net" / "x.lock", b"")
    put(tmp_path / "version.txt", "1")
    assert outcomes(tmp_path) == {"org/net@0123456789ab/m.onnx": "model"}


@pytest.mark.parametrize("top", ["cache", "cache/models--org--net", "snapshots", "revision", "folder"])
def test_names_do_not_depend_on_where_the_scan_begins(tmp_path: Path, top: str):
    home = snapshot(tmp_path / "cache", "org/net", NEW, {"onnx/m.onnx": model_bytes()})
    places = {
        "snapshots": home / "snapshots",
        "revision": home / "snapshots" / NEW,
        "folder": home / "snapshots" / NEW / "onnx",
    }
    assert outcomes(places.get(top, tmp_path / top)) == {"org/net@0123456789ab/onnx/m.onnx": "model"}


def test_through_a_link_to_the_cache(tmp_path: Path):
    snapshot(tmp_path / "disk", "org/net", NEW, {"m.onnx": model_bytes()})
    link(tmp_path / "hub", "disk")
    assert models(tmp_path / "hub") == ["org/net@0123456789ab/m.onnx"]


def test_links_that_leave_the_repository(tmp_path: Path):
    home = snapshot(tmp_path / "hub", "org/net", NEW, {"m.onnx": model_bytes(0)})
    other = snapshot(tmp_path / "hub", "org/other", NEW, {"m.onnx": model_bytes(1)})
    put(tmp_path / "secret.onnx")
    (blob,) = (other / "blobs").iterdir()
    link(home / "snapshots" / NEW / "stolen.onnx", str(blob))
    link(home / "snapshots" / NEW / "out.onnx", str(tmp_path / "secret.onnx"))
    link(home / "snapshots" / NEW / "passwd.onnx", "/etc/passwd")
    by_name = {each.identity: each for each in found(tmp_path / "hub")}
    assert {name.partition("/m")[0]: str(each.outcome) for name, each in by_name.items()} == {
        "org/net@0123456789ab": "model",
        "org/net@0123456789ab/out.onnx": "skipped",
        "org/net@0123456789ab/passwd.onnx": "skipped",
        "org/net@0123456789ab/stolen.onnx": "skipped",
        "org/other@0123456789ab": "model",
    }
    assert "leads out of its repository" in (by_name["org/net@0123456789ab/passwd.onnx"].reason or "")


def shared(cache: Path, repository: str, revision: str, name: str, data: bytes) -> None:
    """A file as huggingface_hub 2 keeps those of its chunked storage: link → link in the repository → shared store."""
    digest = hashlib.sha256(data).hexdigest()
    store = put(cache / "blobs" / digest[:2] / digest, data)
    put(cache / "blobs" / ".huggingface-shared-blobs", "1\n")
    put(store.with_name(f"{digest}.refs"), f"models--x/blobs/{digest}\n")
    home = cache / ("models--" + repository.replace("/", "--"))
    blob = home / "blobs" / digest
    link(blob, os.path.relpath(store, blob.parent))
    path = home / "snapshots" / revision / name
    link(path, os.path.relpath(blob, path.parent))


def test_the_shared_store_of_the_second_generation(tmp_path: Path):
    shared(tmp_path, "a/one", NEW, "m.onnx", model_bytes())
    shared(tmp_path, "b/two", OLD, "m.onnx", model_bytes())
    put(tmp_path / "blobs" / "ff" / ("f" * 64), model_bytes(1))
    assert outcomes(tmp_path) == {
        "a/one@0123456789ab/m.onnx": "model",
        "b/two@aaaaaaaaaaaa/m.onnx": "model",
        "blobs/ff/" + "f" * 64: "model",
    }


def test_a_store_without_its_mark_is_none(tmp_path: Path):
    shared(tmp_path, "a/one", NEW, "m.onnx", model_bytes())
    (tmp_path / "blobs" / ".huggingface-shared-blobs").unlink()
    assert outcomes(tmp_path)["a/one@0123456789ab/m.onnx"] == "skipped"


def test_a_store_that_is_a_link_itself(tmp_path: Path):
    """Else a repository could say that all of the machine is its store."""
    shared(tmp_path / "hub", "a/one", NEW, "m.onnx", model_bytes())
    (tmp_path / "hub" / "blobs").rename(tmp_path / "elsewhere")
    link(tmp_path / "hub" / "blobs", "../elsewhere")
    assert outcomes(tmp_path / "hub") == {"a/one@0123456789ab/m.onnx": "skipped", "blobs/": "skipped"}


def test_through_a_link_to_a_revision(tmp_path: Path):
    home = snapshot(tmp_path / "hub", "org/net", NEW, {"m.onnx": model_bytes()})
    link(tmp_path / "current", str(home / "snapshots" / NEW))
    assert outcomes(tmp_path / "current") == {"org/net@0123456789ab/m.onnx": "model"}


def test_external_data_beside_a_link(tmp_path: Path):
    home = snapshot(tmp_path, "org/net", NEW, {"m.onnx": model_bytes(0, "m.onnx_data"), "m.onnx_data": data_bytes(0)})
    one = only(home)
    with open_model(one.location) as opened:
        (site,) = opened.sites()
        assert opened.read(site).values.tobytes() == data_bytes(0)


def test_other_layouts_beside_a_cache_keep_theirs(tmp_path: Path):
    snapshot(tmp_path, "org/net", NEW, {"m.onnx": model_bytes()})
    put(tmp_path / "detector" / "1" / "model.onnx")
    put(tmp_path / "plain.onnx")
    assert {(each.identity, each.layout) for each in found(tmp_path)} == {
        ("org/net@0123456789ab/m.onnx", "hugging-face"),
        ("detector/1 (triton)", "triton"),
        ("plain.onnx", "plain"),
    }


def test_a_number_inside_a_repository_is_no_triton_version(tmp_path: Path):
    snapshot(tmp_path, "org/net", NEW, {"detector/1/model.onnx": model_bytes()})
    assert models(tmp_path) == ["org/net@0123456789ab/detector/1/model.onnx"]


@pytest.mark.parametrize("name", ["models--", "models-a", "model--a--b"])
def test_directories_that_only_look_like_repositories(tmp_path: Path, name: str):
    put(tmp_path / name / "snapshots" / NEW / "m.onnx")
    assert models(tmp_path) == [f"{name}/snapshots/{NEW}/m.onnx"]


def test_a_model_folder_called_like_a_repository_without_snapshots(tmp_path: Path):
    put(tmp_path / "models--a--b" / "m.onnx")
    assert models(tmp_path) == ["models--a--b/m.onnx"]


def test_as_the_hub_lists_its_cache(tmp_path: Path):
    hub = pytest.importorskip("huggingface_hub")
    files = {"m.onnx": model_bytes(0), "onnx/big.onnx": model_bytes(1), "config.json": b"{}"}
    snapshot(tmp_path, "org/net", NEW, files)
    snapshot(tmp_path, "org/net", OLD, files | {"m.onnx": model_bytes(2)}, branch="old")
    snapshot(tmp_path, "single", OLD, files)
    listed = {
        f"{repository.repo_id}@{revision.commit_hash[:12]}/{file.file_path.relative_to(revision.snapshot_path)}": (
            str(file.file_path),
            file.size_on_disk,
        )
        for repository in hub.scan_cache_dir(tmp_path).repos
        for revision in repository.revisions
        for file in revision.files
        if file.file_name.endswith(".onnx")
    }
    assert len(listed) == 6
    assert {each.identity: (each.location, each.size) for each in found(tmp_path)} == listed


def test_as_the_hub_itself_makes_links(tmp_path: Path):
    download = pytest.importorskip("huggingface_hub.file_download")
    home = tmp_path / "models--org--net"
    blob = put(home / "blobs" / ("d" * 40))
    pointer = home / "snapshots" / NEW / "onnx" / "m.onnx"
    pointer.parent.mkdir(parents=True)
    download._create_symlink(str(blob), str(pointer), new_blob=False)
    assert pointer.is_symlink()
    assert outcomes(tmp_path) == {"org/net@0123456789ab/onnx/m.onnx": "model"}
