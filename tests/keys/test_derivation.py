"""A key made today must decode in ten years: golden digests of everything derived from a seed."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.keys import Secret
from onnxmark.keys.derivation import (
    GAUSSIAN_SCALE,
    _gaussian_quantiles,
    bits,
    distinct_positions,
    gaussian,
    master_secret,
    signed_buckets,
    signs,
    stream,
)

SEED = Secret(bytes(range(32)))
SALT = bytes(range(32, 64))
MASTER = Secret(bytes.fromhex("00112233445566778899aabbccddeeff" * 2))


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:32]


def test_master_secret_is_scrypt_as_documented():
    expected = hashlib.scrypt(
        bytes(range(32)), salt=b"onnxmark/2|projection|8|2x3|" + SALT, n=32768, r=8, p=1, maxmem=2**26, dklen=32
    )
    assert master_secret(SEED, SALT, "projection|8|2x3").reveal() == expected


def test_master_secret_depends_on_everything():
    reference = master_secret(SEED, SALT, "a").reveal()
    others = [
        master_secret(Secret(bytes(32)), SALT, "a"),
        master_secret(SEED, bytes(32), "a"),
        master_secret(SEED, SALT, "b"),
    ]
    assert len({reference, *(other.reveal() for other in others)}) == 4


def test_stream_is_shake_256_of_secret_label_and_index():
    expected = hashlib.shake_256(MASTER.reveal() + b"row\0" + struct.pack("<I", 7)).digest(100)
    assert stream(MASTER, "row", 7, 100) == expected


def test_bits_are_little_endian_within_bytes():
    raw = stream(MASTER, "row", 0, 2)
    assert list(bits(MASTER, "row", 0, 13)) == [(raw[i // 8] >> (i % 8)) & 1 for i in range(13)]


def test_signs_are_one_where_bits_are_one():
    assert list(signs(MASTER, "row", 3, 50)) == [1 if bit else -1 for bit in bits(MASTER, "row", 3, 50)]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (lambda: signs(MASTER, "row", 0, 1000), "854b1383ffbe0ed56fdf24ddc184f073"),
        (lambda: bits(MASTER, "message", 0, 256), "4d4ee199d2d024786bd2cae02c392e1d"),
        (lambda: gaussian(MASTER, "row", 5, 1000).astype("<i2"), "92d7f0a1d46593cdd84dbaa757d989f9"),
        (lambda: _gaussian_quantiles().astype("<i2"), "1ea009ce409dac97d6bd609266910f80"),
        (lambda: distinct_positions(MASTER, 100, 5000).astype("<i8"), "17c5e7070c5b743745c4954055d3f8e7"),
        (lambda: signed_buckets(MASTER, 70000, 4096)[0].astype("<i4"), "71bc1d55757a66d0ae31986bb6e3e742"),
        (lambda: signed_buckets(MASTER, 70000, 4096)[1], "05ed1e97e93d2df2234c9a1117ecbef8"),
    ],
)
def test_golden_streams(array, expected):
    assert digest(array()) == expected


def test_gaussian_entries_follow_the_normal_law():
    from scipy import stats

    sample = gaussian(MASTER, "row", 0, 200_000) / GAUSSIAN_SCALE
    assert (
        stats.kstest(sample + np.random.default_rng(0).uniform(-0.5, 0.5, sample.size) / GAUSSIAN_SCALE, "norm").pvalue
        > 1e-3
    )
    assert abs(sample.std() - 1) < 0.01


def test_gaussian_table_is_the_normal_quantile_function():
    from scipy.stats import norm

    table = _gaussian_quantiles()
    exact = norm.ppf((np.arange(65536) + 0.5) / 65536) * GAUSSIAN_SCALE
    assert np.abs(table - exact).max() <= 0.5 + 1e-6


@given(st.integers(1, 300), st.integers(0, 300))
def test_positions_are_distinct_and_in_range(count, extra):
    positions = distinct_positions(MASTER, count, count + extra)
    assert len(set(positions.tolist())) == count
    assert positions.min() >= 0
    assert positions.max() < count + extra


def test_too_many_positions_are_refused():
    with pytest.raises(ValueError, match="11 distinct positions do not exist among 10"):
        distinct_positions(MASTER, 11, 10)


def test_fold_is_uniform_over_buckets_and_signs():
    from scipy.stats import chisquare

    buckets, fold_signs = signed_buckets(MASTER, 200_000, 64)
    assert chisquare(np.bincount(buckets, minlength=64)).pvalue > 1e-3
    assert abs(fold_signs.mean()) < 0.01


def test_fold_does_not_depend_on_how_much_is_asked_for():
    short, long = signed_buckets(MASTER, 70_000, 256), signed_buckets(MASTER, 140_000, 256)
    assert np.array_equal(short[0], long[0][:70_000])
    assert np.array_equal(short[1], long[1][:70_000])


@pytest.mark.parametrize("count", [0, 3, 2**25])
def test_bucket_counts_that_are_no_power_of_two_are_refused(count):
    with pytest.raises(ValueError, match="power of two"):
        signed_buckets(MASTER, 10, count)
