"""Channels find their places again, whatever was done to them; and strangers stay strangers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import linear_sum_assignment

from onnxmark.attacking import attack_file
from onnxmark.attacks import GaussianNoise
from onnxmark.audit import audit_file, audit_model, seen_weights
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.keys import Carrier, Key, Secret, premark_signature
from onnxmark.keys.signature import MAX_CHANNELS
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from onnxmark.recovery import Past, matched, recovered
from onnxmark.robustness import sweep
from onnxmark.schemes.projection.scheme import ProjectionScheme
from onnxmark.symmetries import DummyNeurons, InputPermutation, OutputPermutation, Permutation, Rescaling
from onnxmark.verdict import Policy, Verdict
from onnxmark.views import View
from tests.onnx_models import conv_chain, kernel
from tests.schemes.projection.layers import weights

SEED = Secret(bytes(range(32)))
SHAPE = (24, 20, 3, 3)


def past_of(values, seed=SEED):
    return Past(premark_signature(values, seed), values.shape, seed)


def spread(shape, seed=0):
    """A layer whose channels differ in size, as trained ones do."""
    rng = np.random.default_rng(seed)
    values = rng.standard_t(4, shape) * np.exp(rng.normal(0, 0.3, (shape[0], shape[1], *[1] * (len(shape) - 2))))
    return values.astype(np.float32)


def rescaled(values, rng, strength=1.0):
    """Filters and input channels, each by a factor of its own."""
    rows, columns = (np.exp(rng.normal(0, strength, count)) for count in values.shape[:2])
    ones = (1,) * (values.ndim - 2)
    return (values * rows.reshape(-1, 1, *ones) * columns.reshape(1, -1, *ones)).astype(np.float32)


def shuffled(values, rng):
    return values[rng.permutation(len(values))][:, rng.permutation(values.shape[1])]


SHAPES = [(24, 20, 3, 3), (8, 33, 5, 5), (40, 12, 3), (16, 16, 2, 2, 2), (64, 48), (48, 64, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_order_and_scale_come_back(shape, seed):
    values, rng = spread(shape, seed), np.random.default_rng(seed)
    found = recovered(rescaled(shuffled(values, rng), rng), past_of(values))
    np.testing.assert_allclose(found, values, rtol=2e-3, atol=2e-3 * np.abs(values).max())


@pytest.mark.parametrize("seed", range(3))
def test_so_do_the_signs_of_filters(seed):
    values, rng = spread(SHAPE, seed), np.random.default_rng(seed)
    turned = shuffled(values * rng.choice([-1, 1], len(values)).reshape(-1, 1, 1, 1).astype(np.float32), rng)
    np.testing.assert_allclose(recovered(turned, past_of(values)), values, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("strength", [0.1, 0.3])
def test_noise_stays_noise(strength):
    values, rng = spread((48, 48, 3, 3)), np.random.default_rng(1)
    noisy = (values + strength * values.std() * rng.standard_normal(values.shape)).astype(np.float32)
    found = recovered(shuffled(noisy, rng), past_of(values))
    assert np.linalg.norm(found - values) < 1.2 * strength * np.linalg.norm(values)


def test_channels_that_were_added_are_left_out():
    values, rng = spread(SHAPE), np.random.default_rng(2)
    wider = np.concatenate([values, spread((6, 20, 3, 3), 7)])
    wider = np.concatenate([wider, spread((30, 5, 3, 3), 8)], axis=1)
    found = recovered(shuffled(wider, rng), past_of(values))
    assert found.shape == SHAPE
    # Balancing sees the additions, too.
    assert np.linalg.norm(found - values) < 0.1 * np.linalg.norm(values)


def test_those_that_are_gone_are_zeros():
    values, rng = spread(SHAPE), np.random.default_rng(3)
    found = recovered(shuffled(np.delete(np.delete(values, [3, 7], axis=0), [11], axis=1), rng), past_of(values))
    assert not found[[3, 7]].any()
    assert not found[:, 11].any()
    kept = np.ix_(np.delete(np.arange(24), [3, 7]), np.delete(np.arange(20), 11))
    assert np.linalg.norm(found[kept] - values[kept]) < 0.1 * np.linalg.norm(values)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(SHAPE, np.float32),
        np.ones(SHAPE, np.float32),
        np.full(SHAPE, 3e38, np.float32),
        np.full(SHAPE, 1e-45, np.float32),
        np.eye(24, 20, dtype=np.float32).reshape(24, 20, 1, 1) * np.ones((3, 3), np.float32),
    ],
    ids=["zeros", "ones", "huge", "tiny", "diagonal"],
)
def test_layers_that_tell_nothing_are_borne(values):
    assert np.isfinite(recovered(values, past_of(spread(SHAPE)))).all()
    assert np.isfinite(recovered(spread(SHAPE), past_of(values))).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(bad):
    values = spread(SHAPE)
    values[5, 3, 1, 1] = bad
    assert np.isnan(recovered(values, past_of(spread(SHAPE)))).all()


@pytest.mark.parametrize(
    ("past", "shape", "expected"),
    [
        (SHAPE, SHAPE, True),
        (SHAPE, (48, 10, 3, 3), True),
        (SHAPE, (49, 20, 3, 3), False),
        (SHAPE, (24, 9, 3, 3), False),
        (SHAPE, (24, 20, 5, 5), False),
        (SHAPE, (24, 180), False),
        ((24, 20), (24, 20), True),
        ((24, 20), (24, 21), False),
        ((24, 20, 1, 1), (23, 20, 1, 1), False),
        ((MAX_CHANNELS, 2, 3, 3), (MAX_CHANNELS, 2, 3, 3), True),
        ((MAX_CHANNELS, 2, 3, 3), (MAX_CHANNELS + 1, 2, 3, 3), False),
        ((1, 1, 3, 3), (2, 2, 3, 3), True),
    ],
)
def test_which_layers_may_be_the_layer(past, shape, expected):
    assert past_of(np.zeros(past, np.float32)).may_be(shape) is expected


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.booleans())
def test_pairs_are_those_of_a_greedy_search(rows, columns, seed, tied):
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, 3, (rows, columns)) * 1.0 if tied else rng.standard_normal((rows, columns))
    found = matched(similarity)
    pairs = [(row, column) for row, column in enumerate(found) if column >= 0]
    assert len(pairs) == len({column for _, column in pairs}) == min(rows, columns)
    left, expected = similarity.copy(), []
    for _ in pairs:
        row, column = np.unravel_index(left.argmax(), left.shape)
        expected.append(similarity[row, column])
        left[row], left[:, column] = -np.inf, -np.inf
    assert sorted(similarity[pair] for pair in pairs) == sorted(expected)


def test_where_channels_are_distinct_they_are_those_of_the_best_assignment():
    rng = np.random.default_rng(0)
    order = rng.permutation(200)
    similarity = 0.2 * rng.standard_normal((200, 200))
    similarity[np.arange(200), order] += 2
    assert np.array_equal(matched(similarity), linear_sum_assignment(-similarity)[1])


def key_for(values, number, n_bits=48):
    seed = Secret(number.to_bytes(32, "little"))
    return Key(
        scheme="projection",
        seed=seed,
        salt=bytes(32),
        payload=np.zeros(n_bits, np.uint8),
        carriers=(Carrier(values.shape, "w"),),
        parameters={"generator": "rademacher", "carrier": "full"},
        premark=premark_signature(values, seed),
    )


@pytest.mark.usefixtures("cheap_stretching")
@pytest.mark.parametrize("stranger", ["another layer", "the very layer", "a layer of another size"])
def test_strangers_read_as_fair_coins(stranger):
    """Exact whatever the matching makes of them, the unmarked layer itself included: 800 keys, p uniform."""
    scheme, own = ProjectionScheme(), spread((12, 10, 3, 3))
    layer = {
        "another layer": spread((12, 10, 3, 3), 9),
        "the very layer": own,
        "a layer of another size": spread((15, 8, 3, 3), 9),
    }[stranger]
    errors = []
    for number in range(800):
        key = key_for(own, number)
        seen = weights(recovered(layer, Past.of(key)))
        errors.append(scheme.extract(key, (seen,), scheme.readings(key, (own.shape,))[0]).n_errors)
    counts = np.bincount(errors, minlength=49)
    cut = np.flatnonzero(stats.binom(48, 0.5).pmf(np.arange(49)) * len(errors) > 20)
    expected = [stats.binom(48, 0.5).pmf(cut) * len(errors), counts[cut]]
    inside = stats.chisquare(expected[1] * expected[0].sum() / expected[1].sum(), expected[0])
    assert inside.pvalue > 1e-3
    assert stats.binomtest(int(np.sum(errors)), 48 * len(errors)).pvalue > 1e-3


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """A chain whose middle layer is marked, and the key with its memory."""
    folder = tmp_path_factory.mktemp("marked")
    host = conv_chain(folder / "host.onnx", [spread((20, 3, 3, 3), 1), spread(SHAPE, 2), spread((16, 24, 3, 3), 3)])
    with open_model(host) as model:
        site = model.sites()[1]
        made, values = make_key(carrier_of(site), np.zeros(96, np.uint8)), model.read(site).values
    # From a public seed, so that a test has the same outcome every time.
    key = replace(made, seed=SEED, salt=bytes(32), premark=premark_signature(values, SEED))
    embed_file(host, key, folder / "marked.onnx")
    return folder / "marked.onnx", key


ALL = [DummyNeurons(0.2), Rescaling(0.5), Permutation(), GaussianNoise(0.1)]


@pytest.mark.parametrize(
    "attacks",
    [
        [InputPermutation()],
        [OutputPermutation()],
        [Rescaling(2.5)],
        [Permutation(), Rescaling(1.5)],
        [DummyNeurons(0.2, "dead")],
        [DummyNeurons(0.2, "clique")],
        ALL,
    ],
    ids=["inputs", "outputs", "scales", "order and scales", "dead neurons", "cliques", "all and noise"],
)
def test_a_mark_survives_what_the_network_does_not_notice(marked, attacks, tmp_path):
    path, key = marked
    attack_file(path, attacks, tmp_path / "attacked.onnx", seed=4)
    (plain,) = audit_file(tmp_path / "attacked.onnx", [key], align=False).findings
    (found,) = audit_file(tmp_path / "attacked.onnx", [key]).findings
    (forgetful,) = audit_file(tmp_path / "attacked.onnx", [replace(key, premark=None)]).findings
    assert (found.verdict, found.best.view) == (Verdict.MATCH, View.ALIGNED)
    assert found.best.evidence.n_errors <= 4
    assert plain.judgement.log10_p_value > found.judgement.log10_p_value + 5
    assert forgetful.verdict is not Verdict.MATCH


def swept(path, key, attacks, *, align=True):
    """The finding, the weights attacked and the verdict after each attack."""
    with open_model(path) as model:
        finding = audit_model(model, [key], align=align).findings[0]
        weights = seen_weights(model, finding)
    trials = sweep(finding, weights, attacks, Policy(), n_draws=2, align=align)
    return finding, weights, [trial.verdict for trial in trials]


def test_simulated_attacks_are_read_as_the_audit_reads(marked):
    path, key = marked
    finding, _, verdicts = swept(path, key, [Permutation(), GaussianNoise(0.1)])
    assert finding.best.view is View.STORED
    assert verdicts == [Verdict.MATCH, Verdict.MATCH]
    _, _, plain = swept(path, key, [Permutation(), GaussianNoise(0.1)], align=False)
    assert plain == [Verdict.NO_MATCH, Verdict.MATCH]


def test_a_suspect_whose_channels_were_moved_is_attacked_as_it_is(marked, tmp_path):
    path, key = marked
    attack_file(path, [Permutation()], tmp_path / "moved.onnx", seed=4)
    finding, (weights,), verdicts = swept(tmp_path / "moved.onnx", key, [Permutation(), GaussianNoise(0.1)])
    assert finding.best.view is View.ALIGNED
    with open_model(tmp_path / "moved.onnx") as model:
        np.testing.assert_array_equal(weights.values, model.read(finding.best.sites[0]).values)
    assert verdicts == [Verdict.MATCH, Verdict.MATCH]


def test_layers_of_other_sizes_that_do_not_match_say_little(marked, tmp_path):
    _, key = marked
    path = conv_chain(tmp_path / "stranger.onnx", [spread((30, 18, 3, 3), 11)])
    (finding,) = audit_file(path, [key]).findings
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "those of other sizes do not match" in finding.judgement.reason
    assert [(one.view, one.why) for one in finding.candidates] == [(View.ALIGNED, "another size")]


def test_a_layer_with_a_hole_is_inconclusive(marked, tmp_path):
    _, key = marked
    values = kernel(SHAPE)
    values[0, 0, 0, 0] = np.nan
    (finding,) = audit_file(conv_chain(tmp_path / "hole.onnx", [values]), [key]).findings
    assert finding.verdict is Verdict.INCONCLUSIVE
