"""What an operator leaves out, and that nobody else can."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.registry.entries import Outcome
from onnxmark.registry.filters import Filters, Pattern, ignore_patterns
from onnxmark.registry.walking import Tally
from tests.registry.discovery.registries import found, link, models, only, outcomes, put


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    for name in ("a.onnx", "b.onnx", "old/a.onnx", "old/deep/c.onnx", "new/old/d.onnx", "notes.txt"):
        put(tmp_path / name, "a text" if name.endswith("txt") else None)
    return tmp_path


CASES = [
    ("a.onnx", ["a.onnx", "old/a.onnx"]),
    ("/a.onnx", ["a.onnx"]),
    ("old/a.onnx", ["old/a.onnx"]),
    ("old/", ["old/", "new/old/"]),
    ("old", ["old/", "new/old/"]),
    ("new/old", ["new/old/"]),
    ("**/old", ["old/", "new/old/"]),
    ("old/*", ["old/a.onnx", "old/deep/"]),
    ("*/c.onnx", ["old/deep/c.onnx"]),
    ("?.onnx", ["a.onnx", "b.onnx", "old/a.onnx", "old/deep/c.onnx", "new/old/d.onnx"]),
    ("[ab].onnx", ["a.onnx", "b.onnx", "old/a.onnx"]),
    ("A.onnx", []),
    ("a.onnx/", []),
]


@pytest.mark.parametrize(("pattern", "left_out"), CASES)
def test_excluded(registry: Path, pattern: str, left_out: list[str]):
    everything = found(registry, exclude=[pattern])
    skipped = [each for each in everything if each.outcome is Outcome.SKIPPED]
    assert {each.identity for each in skipped} == set(left_out)
    assert all(each.reason == f"left out by --exclude {pattern!r}" for each in skipped)
    kept = {each.identity for each in everything} - set(left_out)
    assert kept == {
        name for name in models(registry) if not any(name == out or name.startswith(out) for out in left_out)
    }


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        (["a.onnx"], ["a.onnx", "old/a.onnx"]),
        (["old/"], ["new/old/d.onnx", "old/a.onnx", "old/deep/c.onnx"]),
        (["old/deep"], ["old/deep/c.onnx"]),
        (["new/*", "b.onnx"], ["b.onnx", "new/old/d.onnx"]),
        (["nothing"], []),
    ],
)
def test_included(registry: Path, patterns: list[str], kept: list[str]):
    assert models(registry, include=patterns) == kept
    left_out = [each for each in found(registry, include=patterns) if each.outcome is Outcome.SKIPPED]
    assert len(left_out) + len(kept) == 5
    assert {each.reason for each in left_out} <= {"not among --include"}


def test_exclude_wins(registry: Path):
    assert models(registry, include=["old/"], exclude=["deep"]) == ["new/old/d.onnx", "old/a.onnx"]


def test_other_files_left_out_are_only_counted(registry: Path):
    tally = Tally()
    found(registry, exclude=["notes.txt"], tally=tally)
    assert tally.others == 1


@given(st.text("ab*?[]!/.", min_size=1, max_size=8), st.text("ab/.", min_size=1, max_size=8))
def test_patterns_match_as_the_shells_do(text: str, path: str):
    body = text.removeprefix("**/").strip("/")
    if not body or text.startswith("!"):
        return
    whole = path if "/" in text.removeprefix("**/").rstrip("/") else path.rpartition("/")[2]
    assert Pattern(text, "--exclude").matches(path, directory=True) == fnmatchcase(whole, body)


@pytest.mark.parametrize("text", ["", "/", "//", "!keep", "**/"])
def test_no_patterns(text: str):
    with pytest.raises(ValueError, match="is not a pattern"):
        Filters.given(exclude=[text])


def test_negative_size():
    with pytest.raises(ValueError, match="0 or more, found -1"):
        Filters.given(max_size=-1)


def test_sizes(tmp_path: Path):
    size = put(tmp_path / "m.onnx").stat().st_size
    assert only(tmp_path, max_size=size).outcome is Outcome.MODEL
    one = only(tmp_path, max_size=size - 1)
    assert (one.outcome, one.reason, one.size) == (Outcome.SKIPPED, f"larger than --max-size {size - 1}", size)


def test_the_size_of_what_is_no_model_does_not_matter(tmp_path: Path):
    put(tmp_path / "m.tflite", b"\x1c\0\0\0TFL3" + bytes(1000))
    assert only(tmp_path, max_size=10).outcome is Outcome.UNSUPPORTED


def test_the_ignore_file(registry: Path):
    put(registry / ".onnxmarkignore", "# a comment\n\n  old/  \nb.*\r\n")
    left_out = [each for each in found(registry) if each.outcome is Outcome.SKIPPED]
    assert {(each.identity, each.reason) for each in left_out} == {
        ("b.onnx", "left out by .onnxmarkignore 'b.*'"),
        ("old/", "left out by .onnxmarkignore 'old/'"),
        ("new/old/", "left out by .onnxmarkignore 'old/'"),
    }
    assert models(registry) == ["a.onnx"]


def test_an_ignore_file_further_down_hides_nothing(registry: Path):
    put(registry / "old" / ".onnxmarkignore", "*\n")
    assert len(models(registry)) == 5


@pytest.mark.parametrize(
    ("data", "words"), [(b"a\n!b\n", r"'!b' is not a pattern"), (b"\xff\xfe", "is not UTF-8 text")]
)
def test_an_ignore_file_that_cannot_be_honoured_is_told_and_nothing_left_out(registry: Path, data: bytes, words: str):
    put(registry / ".onnxmarkignore", data)
    (problem,) = (each for each in found(registry) if each.outcome is Outcome.FAILED)
    assert problem.identity == ".onnxmarkignore"
    assert words in (problem.reason or "")
    assert len(models(registry)) == 5
    with pytest.raises(ValueError, match=words):
        ignore_patterns(data)


def test_an_ignore_file_that_is_a_directory_or_a_link_nowhere(tmp_path: Path):
    put(tmp_path / "one" / "m.onnx")
    (tmp_path / "one" / ".onnxmarkignore").mkdir()
    put(tmp_path / "two" / "m.onnx")
    link(tmp_path / "two" / ".onnxmarkignore", "nowhere")
    for root in ("one", "two"):
        assert outcomes(tmp_path / root) == {".onnxmarkignore": "failed", "m.onnx": "model"}
