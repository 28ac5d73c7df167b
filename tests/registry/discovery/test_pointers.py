"""Pointers of Git LFS and DVC: counted, with the command that fetches what they stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxmark.registry.entries import Outcome
from onnxmark.registry.pointers import dvc_pointer
from onnxmark.registry.walking import Tally
from tests.registry.discovery.registries import found, link, models, only, outcomes, put

LFS = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 102442450
"""
# As DVC 3 writes them.
DVC_FILE = """outs:
- md5: a304afb96060aad90176268345e10355
  size: 37891850
  hash: md5
  path: {path}
"""
DVC_DIRECTORY = """outs:
- md5: 196a322c107c2572335158503c64bfba.dir
  size: 14445097
  nfiles: 12
  hash: md5
  path: {path}
"""
DVC_IMPORT = """md5: e5d6a2e8e0b1b1f6ac1a5ee7ba5ab1a4
frozen: true
deps:
- path: other/model.onnx
  repo:
    url: https://example.org/registry
    rev_lock: f31f5c4cdae787b4bdeb97a717687d44667d9e62
outs:
- md5: a304afb96060aad90176268345e10355
  size: 37891850
  hash: md5
  path: {path}
"""


@pytest.mark.parametrize("name", ["m.onnx", "m.tflite", "m.safetensors", "saved_model.pb"])
def test_git_lfs(tmp_path: Path, name: str):
    put(tmp_path / "zoo" / name, LFS)
    one = only(tmp_path)
    assert (one.identity, one.outcome) == (f"zoo/{name}", Outcome.POINTER)
    assert one.reason == "is a Git LFS pointer; fetch the model: git lfs pull"


def test_git_lfs_pointers_to_other_things(tmp_path: Path):
    put(tmp_path / "picture.png", LFS)
    assert found(tmp_path) == []


def test_the_objects_of_git_lfs_are_models_that_a_checkout_may_lack(tmp_path: Path):
    put(tmp_path / "m.onnx", LFS)
    put(tmp_path / ".git" / "lfs" / "objects" / "4d" / "7a" / "4d7a2146")
    assert outcomes(tmp_path) == {"m.onnx": "pointer", ".git/lfs/objects/4d/7a/4d7a2146": "model"}


@pytest.mark.parametrize("text", [DVC_FILE, DVC_IMPORT], ids=["added", "imported"])
def test_dvc(tmp_path: Path, text: str):
    put(tmp_path / "m.onnx.dvc", text.format(path="m.onnx"))
    one = only(tmp_path)
    assert (one.identity, one.outcome) == ("m.onnx.dvc", Outcome.POINTER)
    assert one.reason == "is a DVC pointer to a model; fetch it: dvc pull"


def test_dvc_directories_may_hold_anything(tmp_path: Path):
    put(tmp_path / "models.dvc", DVC_DIRECTORY.format(path="models"))
    assert only(tmp_path).reason == "is a DVC pointer to a directory, which may hold models; fetch it: dvc pull"


@pytest.mark.parametrize("text", [DVC_FILE, DVC_IMPORT])
def test_dvc_pointers_to_other_things(tmp_path: Path, text: str):
    put(tmp_path / "data.csv.dvc", text.format(path="data.csv"))
    tally = Tally()
    assert found(tmp_path, tally=tally) == []
    assert tally.others == 1


def test_models_that_were_pulled_are_found_themselves(tmp_path: Path):
    put(tmp_path / "m.onnx.dvc", DVC_FILE.format(path="m.onnx"))
    put(tmp_path / "m.onnx")
    put(tmp_path / "nets.dvc", DVC_DIRECTORY.format(path="nets"))
    put(tmp_path / "nets" / "n.onnx")
    assert outcomes(tmp_path) == {"m.onnx": "model", "nets/n.onnx": "model"}


def test_pointers_to_several_files_count_until_all_are_here(tmp_path: Path):
    put(tmp_path / "x.dvc", DVC_FILE.format(path="a.onnx") + "- md5: 0\n  path: b.onnx\n")
    put(tmp_path / "a.onnx")
    assert outcomes(tmp_path) == {"a.onnx": "model", "x.dvc": "pointer"}
    put(tmp_path / "b.onnx")
    assert outcomes(tmp_path) == {"a.onnx": "model", "b.onnx": "model"}


def test_models_linked_from_the_cache_of_dvc(tmp_path: Path):
    """With ``cache.type = symlink`` the model is a link into ``.dvc/cache``, inside the root; the copy there counts."""
    cached = put(tmp_path / ".dvc" / "cache" / "files" / "md5" / "a3" / "04afb9")
    link(tmp_path / "m.onnx", str(cached))
    put(tmp_path / "m.onnx.dvc", DVC_FILE.format(path="m.onnx"))
    one, other = found(tmp_path)
    assert one.stamp == other.stamp
    assert models(tmp_path, exclude=[".dvc/"]) == ["m.onnx"]


def test_quoted_paths():
    text = DVC_FILE.format(path="'my: model.onnx'")
    judgement = dvc_pointer("/nowhere/x.dvc", text)
    assert judgement is not None
    assert judgement.outcome is Outcome.POINTER


@pytest.mark.parametrize(
    "text",
    ["", "outs:", "outs:\n", "outs: []\n", "outs:\n- md5: x\n", "deps:\n- path: m.onnx\n", "\x00\xff", "path: m.onnx"],
)
def test_files_that_only_end_in_dvc(tmp_path: Path, text: str):
    put(tmp_path / "x.dvc", text)
    assert found(tmp_path) == []


def test_as_a_yaml_library_reads_pointers():
    yaml = pytest.importorskip("yaml")
    for text in (DVC_FILE, DVC_DIRECTORY, DVC_IMPORT):
        for path in ("m.onnx", "data.csv", "a b/c.onnx", "nets"):
            (out,) = yaml.safe_load(text.format(path=path))["outs"]
            wanted = out["path"].endswith(".onnx") or "nfiles" in out
            assert (dvc_pointer("/nowhere/x.dvc", text.format(path=path)) is not None) == wanted


def test_the_directory_of_dvc_is_a_directory(tmp_path: Path):
    put(tmp_path / ".dvc" / "config", "[core]\n")
    put(tmp_path / "odd.dvc" / "m.onnx")
    assert models(tmp_path) == ["odd.dvc/m.onnx"]
