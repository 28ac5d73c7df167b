"""Evidence: right on marks, fair on strangers, silent on layers that cannot bear it."""

import numpy as np
import pytest
from scipy import stats

from onnxmark.schemes.projection.nulls import foreign_null, row_permutation_chances
from onnxmark.schemes.projection.projection import GENERATORS, ProjectionReading, own_projection
from onnxmark.schemes.projection.scheme import ProjectionScheme
from tests.schemes.projection.layers import SHAPE, foreign_key, layer, own_key, weights

SCHEME = ProjectionScheme()


def read(key, tensor):
    return SCHEME.extract(key, (tensor,), SCHEME.readings(key, (tensor.shape,))[0])


def marked(key, strength=3.0):
    """A host pushed along the key's own directions until its bits are right."""
    host = layer()
    projection = own_projection(key, SHAPE)
    wanted = np.where(key.message == 1, 1.0, -1.0)
    shift = np.linalg.lstsq(projection.carrier.gram(projection.rows(0, key.n_bits)), wanted, rcond=None)[0]
    change = projection.adjoint(shift)
    return weights(host.values + strength * projection.unit(host.values) * change)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("carrier", ["full", "fold:256", "mean-ihw", "mean-hwi"])
def test_a_mark_is_read(carrier, generator):
    key = own_key(carrier, generator)
    evidence = read(key, marked(key, 20.0))
    assert evidence.n_errors == 0
    assert not evidence.inverted
    assert evidence.log10_p == pytest.approx(-32 * np.log10(2))
    assert evidence.margins.min() > 0


def test_embedding_loss_is_the_mean_cross_entropy():
    key, host = own_key(), weights(0.05 * layer().values)
    scores = own_projection(key, SHAPE).scores(host.values)
    probability = 1 / (1 + np.exp(-scores))
    expected = -np.mean(key.message * np.log(probability) + (1 - key.message) * np.log(1 - probability))
    assert read(key, host).embedding_loss == pytest.approx(expected, rel=1e-6)


def test_an_inverted_mark_is_evidence_too():
    key = own_key()
    turned = weights(-marked(key, 20.0).values)
    evidence = read(key, turned)
    assert evidence.inverted
    assert evidence.bit_error_rate == 1
    assert evidence.log10_p == pytest.approx(-32 * np.log10(2))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros(SHAPE), "all weights are equal"),
        (np.full(SHAPE, 0.3), "all weights are equal"),
        (np.where(np.arange(1152).reshape(SHAPE) == 7, np.nan, 1.0), "not all finite"),
        (np.where(np.arange(1152).reshape(SHAPE) == 7, np.inf, 1.0), "not all finite"),
    ],
)
def test_degenerate_layers_bear_no_evidence(values, words):
    evidence = read(own_key(), weights(values))
    assert words in evidence.degenerate
    assert evidence.log10_p == 0


def test_filters_that_cancel_bear_no_evidence_in_the_mean():
    values = np.random.default_rng(0).standard_normal(SHAPE)
    values[8:] = -values[:8]
    assert "cancel" in read(own_key("mean-ihw"), weights(values)).degenerate


def test_erasures_count_as_errors():
    key = own_key("mean-ihw", "direct")
    values = marked(key, 20.0).values.copy()
    values[:, :4] = 0
    evidence = read(key, weights(values))
    assert evidence.n_erasures > 0
    assert evidence.n_errors >= evidence.n_erasures


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("carrier", ["full", "fold:256", "mean-ihw"])
def test_strangers_are_read_fairly_however_biased_the_host(carrier, generator, cheap_stretching):
    """The whitened message makes p-values uniform or larger, also where most weights share a sign."""
    host = layer(bias=-0.4)
    estimates, bounds = [], []
    for seed in range(400):
        evidence = read(own_key(carrier, generator, seed=seed + 1000), host)
        straight = {test.name: test.log10_p for test in evidence.tests}
        bounds.append(evidence.log10_p)
        estimates.append(straight["sign-flip (saddle point)"])
    two_sided = np.minimum(1, 2 * 10 ** np.array(estimates))
    assert stats.kstest(two_sided, "uniform").pvalue > 1e-4
    assert np.mean(2 * 10 ** np.array(bounds) <= 0.01) <= 0.025


class TestForeignNulls:
    def vector(self, seed=0, size=300, bias=-0.35):
        return np.random.default_rng(seed).standard_t(4, size) + bias

    def rate(self, make_rows, message, level, bias=-0.35):
        hits = 0
        vector = self.vector(bias=bias)
        for seed in range(1500):
            rows = make_rows(np.random.default_rng(seed + 99))
            n_right = int(np.sum((rows @ vector > 0) == (message == 1)))
            hits += foreign_null(rows, vector, message, n_right).log10_p <= np.log10(level)
        return hits / 1500

    @pytest.mark.parametrize("replace", [False, True])
    @pytest.mark.parametrize("message", [np.ones(40), np.zeros(40), np.arange(40) % 2])
    def test_direct_keys_keep_their_level_on_biased_hosts(self, replace, message):
        def rows(rng):
            matrix = np.zeros((40, 300))
            matrix[np.arange(40), rng.choice(300, 40, replace=replace)] = 1
            return matrix

        assert self.rate(rows, message.astype(np.uint8), 0.05) <= 0.07

    def test_bit_counting_would_not_keep_it(self):
        """The trap this null exists for: a constant message on the bias's side."""
        vector, message = self.vector(), np.zeros(40, np.uint8)
        rng = np.random.default_rng(1)
        rows = np.zeros((40, 300))
        rows[np.arange(40), rng.choice(300, 40, replace=False)] = 1
        n_right = int(np.sum(rows @ vector < 0))
        assert (
            stats.binom.logsf(n_right - 1, 40, 0.5) / np.log(10) < foreign_null(rows, vector, message, n_right).log10_p
        )

    @pytest.mark.parametrize("mean", [0.0, 0.2, 1.0])
    def test_dense_keys_with_a_mean_keep_their_level(self, mean):
        assert self.rate(lambda rng: rng.standard_normal((40, 300)) + mean, np.zeros(40, np.uint8), 0.05) <= 0.07

    def test_diff_keys_are_fair_coins(self):
        def rows(rng):
            matrix = np.zeros((40, 300))
            first, second = rng.choice(300, 80, replace=False).reshape(2, 40)
            matrix[np.arange(40), first], matrix[np.arange(40), second] = 1, -1
            return matrix

        assert foreign_null(rows(np.random.default_rng(0)), self.vector(), np.ones(40, np.uint8), 30).name.startswith(
            "fair"
        )
        assert self.rate(rows, np.ones(40, np.uint8), 0.05) <= 0.07

    def test_row_permutation_chances_agree_with_shuffling(self):
        rng = np.random.default_rng(3)
        rows, vector = rng.standard_normal((6, 300)) + 0.15, self.vector()
        message = np.array([0, 1, 0, 1, 0, 0], np.uint8)
        shuffled = np.array([[rng.permutation(row) @ vector > 0 for row in rows] for _ in range(4000)]).mean(axis=0)
        expected = np.maximum(0.5, np.where(message == 1, shuffled, 1 - shuffled))
        np.testing.assert_allclose(row_permutation_chances(rows, vector, message), expected, atol=0.035)


def test_foreign_reading_of_a_fitted_matrix_still_counts_bits():
    matrix = np.random.default_rng(0).standard_normal((40, 72))
    vector = layer().values.mean(0).ravel()
    fitted = matrix * np.sign(matrix @ vector)[:, None]
    key = foreign_key(fitted)
    evidence = SCHEME.extract(key, (layer(),), ProjectionReading("mean-ihw", SHAPE))
    assert evidence.n_errors == 0
    assert key.origin == "matrix"
