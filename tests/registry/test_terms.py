"""Terms: everything that shapes a result is in the fingerprint, and nothing else. Shards: every model is in one."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark import __version__
from onnxmark.errors import SettingError
from onnxmark.registry.terms import Shard, Terms

TERMS = Terms(("aa", "bb"), {"level": 1e-5, "registered": False})


@pytest.mark.parametrize(
    "other",
    [
        replace(TERMS, commitments=("aa",)),
        replace(TERMS, commitments=("aa", "bb", "cc")),
        replace(TERMS, commitments=("aab", "b")),
        replace(TERMS, options={"level": 1e-6, "registered": False}),
        replace(TERMS, options={"level": 1e-5, "registered": True}),
        replace(TERMS, options={"level": 1e-5}),
        replace(TERMS, tool="0.0.0"),
    ],
)
def test_whatever_shapes_a_result_changes_the_fingerprint(other):
    assert other.fingerprint != TERMS.fingerprint


def test_neither_the_order_nor_the_repetition_of_keys_matters():
    assert Terms(("bb", "aa", "bb"), {"registered": False, "level": 1e-5}).fingerprint == TERMS.fingerprint


def test_terms_name_this_version():
    assert Terms(()).tool == __version__


def test_terms_come_back_from_their_text():
    assert Terms.parse(TERMS.text) == TERMS
    assert Terms.parse(TERMS.text).fingerprint == TERMS.fingerprint


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"keys": 3, "options": {}, "tool": "1"}', "["])
def test_other_texts_are_no_terms(text):
    with pytest.raises(ValueError, match=r"no terms of a scan|Expecting"):
        Terms.parse(text)


@given(st.text(), st.integers(1, 50))
def test_every_model_is_in_exactly_one_shard(identity, count):
    assert sum(Shard(index + 1, count).holds(identity) for index in range(count)) == 1


@pytest.mark.parametrize(("identity", "remainder"), [("org/a@0123/model.onnx", 3), ("ünï.onnx", 1)])
def test_a_shard_is_told_by_the_name_alone(identity, remainder):
    """The same on every machine: the first 16 digits of what sha256sum says of the name, modulo 7, by a calculator."""
    assert [index for index in range(7) if Shard(index + 1, 7).holds(identity)] == [remainder]


def test_a_name_that_is_no_unicode_has_a_shard():
    assert sum(Shard(index, 3).holds("model-\udcff.onnx") for index in (1, 2, 3)) == 1


def test_shards_share_evenly():
    names = [f"org/model-{number}/model.onnx" for number in range(8000)]
    sizes = Counter(next(i for i in range(1, 9) if Shard(i, 8).holds(name)) for name in names)
    # Binomial(8000, 1/8) has a standard deviation of 29.6.
    assert all(abs(size - 1000) < 5 * 29.6 for size in sizes.values())


@pytest.mark.parametrize("text", ["1/1", "2/8", "8/8"])
def test_a_shard_comes_back_from_its_text(text):
    assert str(Shard.parse(text)) == text


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "0/0"])
def test_there_is_no_such_shard(text):
    with pytest.raises(SettingError, match=f"there is no shard {text}; write I/N"):
        Shard.parse(text)


@pytest.mark.parametrize("text", ["", "1", "1/", "/2", "1/2/3", "a/b", "-1/2", "1.0/2", " 1/2", "1/2\n", "²/3"])
def test_a_shard_is_written_in_one_way(text):
    with pytest.raises(SettingError, match="is no shard; write I/N"):
        Shard.parse(text)
