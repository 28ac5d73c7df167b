"""The law F(T1) on synthetic layers, weight by weight, with the library's own pruning."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmark.attacks import GaussianNoise, MagnitudePruning, Means, UniformQuantisation
from onnxmark.errors import EmbeddingError
from onnxmark.schemes.constant_weight.embedding import embedded
from onnxmark.schemes.constant_weight.parameters import parameters_of
from onnxmark.schemes.constant_weight.scheme import ConstantWeightScheme
from onnxmark.schemes.constant_weight.selection import selection_of
from onnxmark.schemes.constant_weight.thresholds import DEFAULT_MARGIN, Population, survival_rate, thresholds
from onnxmark.schemes.scheme import PlainReading
from tests.schemes.constant_weight.words import SHAPE, key, layer, weights


def read(own, *layers):
    return ConstantWeightScheme().extract(own, layers, PlainReading(""))


def pruned(host, count):
    """A layer without its ``count`` smallest weights."""
    return host.with_values(
        MagnitudePruning(count / host.values.size).change(host.values, Means(np.random.default_rng(0)))
    )


def ones_of(own):
    return parameters_of(own).code.encode_bits(own.message) == 1


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_word_survives_up_to_the_rate_predicted_and_not_one_weight_further(rate, seed):
    own, host = key(rate=rate, seed=seed), layer(seed=seed)
    (marked,) = embedded(own, [host])
    magnitudes = np.abs(marked.values)
    smallest = float(np.abs(selection_of(own).take([marked.values]))[ones_of(own)].min())
    limit = round(survival_rate(magnitudes, smallest) * magnitudes.size)
    assert limit == np.sum(magnitudes < smallest)
    assert limit >= round(rate * magnitudes.size)
    assert read(own, pruned(marked, limit)).bit_error_rate == 0
    beyond = read(own, pruned(marked, limit + 1))
    assert beyond.bit_error_rate == 1
    assert beyond.message.rejected
    # The message is gone, the evidence is not: one of 15 ones is missing.
    assert beyond.log10_p < -15


def test_a_rate_between_weights_keeps_what_it_promises():
    """At and below the rate every number of pruned weights leaves the word alone."""
    own, host = key(rate=0.9), layer(seed=4)
    (marked,) = embedded(own, [host])
    for count in range(0, round(0.9 * host.values.size) + 1, 97):
        assert read(own, pruned(marked, count)).n_errors == 0


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_the_promise_holds_for_weights_stored_in_16_bits(dtype):
    own, host = key(rate=0.9), layer(seed=5)
    (marked,) = embedded(own, [host])
    stored = weights(marked.values.astype(dtype).astype(np.float32))
    assert read(own, pruned(stored, round(0.9 * host.values.size))).n_errors == 0


@pytest.mark.parametrize(
    ("attack", "margin"),
    [
        (GaussianNoise(0.1), DEFAULT_MARGIN),
        (GaussianNoise(0.2), 0.5),
        (UniformQuantisation(8), DEFAULT_MARGIN),
        (UniformQuantisation(4), DEFAULT_MARGIN),
    ],
    ids=repr,
)
def test_the_margin_outlasts_what_it_is_made_for(attack, margin):
    own, host = key(rate=0.95), weights(np.random.default_rng(0).standard_normal(SHAPE))
    (marked,) = embedded(own, [host], margin)
    for seed in range(5):
        assert read(own, weights(attack.change(marked.values, Means(np.random.default_rng(seed))))).n_errors == 0


def test_a_margin_is_not_for_ever():
    own, host = key(rate=0.95), weights(np.random.default_rng(0).standard_normal(SHAPE))
    (marked,) = embedded(own, [host])
    noisy = GaussianNoise(1.0).change(marked.values, Means(np.random.default_rng(0)))
    assert read(own, weights(noisy)).n_errors > 5


def test_layers_of_several_scales_survive_one_by_one_and_together():
    shapes = ((16, 8, 3, 3), (40, 60))
    own = key(rate=0.9, shapes=shapes)
    hosts = [layer(shapes[0], 0), layer(shapes[1], 1).with_values(layer(shapes[1], 1).values * np.float32(0.2))]
    marked = embedded(own, hosts)
    assert read(own, *marked).n_errors == 0
    one_by_one = [pruned(host, round(0.9 * host.values.size)) for host in marked]
    assert read(own, *one_by_one).n_errors == 0
    row = np.concatenate([host.values.reshape(-1) for host in marked])
    limit = np.sort(np.abs(row))[round(0.9 * row.size) - 1]
    together = [host.with_values(np.where(np.abs(host.values) <= limit, np.float32(0), host.values)) for host in marked]
    assert read(own, *together).n_errors == 0


def test_the_whole_model_can_set_the_threshold():
    own = np.abs(np.random.default_rng(0).standard_normal(1000)).astype(np.float32)
    model = 3 * own
    alone = thresholds([Population(own, own[:900], 90, 10)], 0.8)
    with_model = thresholds([Population(own, own[:900], 90, 10), Population(model, model)], 0.8)
    assert with_model.one == pytest.approx(np.quantile(model, 0.8), rel=0.02)
    assert alone.one == pytest.approx(np.quantile(own, 0.8), rel=0.02)


@given(
    st.lists(st.floats(0.5, 100, width=32), min_size=30, max_size=60),
    st.integers(0, 10),
    st.integers(1, 10),
    st.floats(0, 0.6),
    st.floats(0.01, 0.95),
)
@settings(max_examples=200)
def test_as_many_lie_below_as_are_pruned(values, n_zeros, n_ones, rate, margin):
    magnitudes = np.array(values, dtype=np.float32)
    untouched = magnitudes[n_zeros + n_ones :]
    limits = thresholds([Population(magnitudes, untouched, n_zeros, n_ones)], rate, margin)
    below = int(np.sum(untouched < limits.one)) + n_zeros
    assert below >= round(rate * magnitudes.size)
    assert limits.one.dtype == limits.zero.dtype == np.float32
    middle = (float(limits.one) + float(limits.zero)) / 2
    assert (float(limits.one) - middle) / middle == pytest.approx(margin, rel=1e-4, abs=1e-6)


def test_a_layer_that_is_pruned_already():
    host = pruned(layer(), round(0.95 * 4608))
    with pytest.raises(EmbeddingError, match="pruning 90 % leaves is 0, which tells no one from a zero"):
        embedded(key(rate=0.9), [host])
    (marked,) = embedded(key(rate=0.97), [host])
    assert read(key(rate=0.97), marked).n_errors == 0


def test_more_pruned_than_ones_can_stand():
    magnitudes = np.ones(100, dtype=np.float32)
    thresholds([Population(magnitudes, magnitudes[:80], 10, 10)], 0.9)
    with pytest.raises(EmbeddingError, match="pruning 91 % of 100 weights leaves fewer than the 10"):
        thresholds([Population(magnitudes, magnitudes[:80], 10, 10)], 0.91)


@pytest.mark.parametrize(("rate", "margin"), [(1.0, 0.3), (-0.1, 0.3), (0.5, 0.0), (0.5, 1.0), (np.nan, 0.3)])
def test_out_of_range(rate, margin):
    magnitudes = np.ones(10, dtype=np.float32)
    with pytest.raises(ValueError, match="a rate is in"):
        thresholds([Population(magnitudes, magnitudes)], rate, margin)
