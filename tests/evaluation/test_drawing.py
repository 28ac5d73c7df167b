"""Payloads, keys and seeds: the same for the same plan, unlike each other, fair."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from onnxmark.audit import built_in
from onnxmark.errors import LaboratoryError, SettingError
from onnxmark.evaluation import MODEL, parse_plan
from onnxmark.evaluation.drawing import drawn_key, options_of, payload_of, seed_of, stream
from onnxmark.keymaking import weight_layers
from onnxmark.keys import load_key, premark_signature, save_key
from onnxmark.schemes.projection.scheme import ProjectionOptions
from onnxmark.schemes.scheme import Reads
from tests.evaluation import toy

PLAN = parse_plan(toy.TOML)
FULL, CODE = PLAN.schemes
TRIGGERS = replace(FULL, name="triggers", scheme="trigger", settings=(("classes", 7),))
ASKS = replace(FULL, name="asks", scheme="ingrain", settings=(("carriers", 20),))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    paths = []
    for seed in range(3):
        paths.append(tmp_path_factory.mktemp("network"))
        toy.write(paths[-1], toy.drawn(seed))
    return [path / MODEL for path in paths]


def key_for(entry, model, names=(0,), payload=0, plan=PLAN, asking=None):
    return drawn_key(plan, entry, built_in(entry.scheme), model, names, payload, asking)


def same(one, other):
    return one.seed == other.seed and one.salt == other.salt and np.array_equal(one.payload, other.payload)


@pytest.mark.parametrize("entry", [FULL, CODE], ids=lambda entry: entry.name)
def test_a_key_is_the_same_every_time(models, entry):
    one, again = (key_for(entry, models[0]) for _ in range(2))
    assert same(one, again)
    assert np.array_equal(one.message, again.message)
    assert one.carriers == again.carriers
    assert one.parameters == again.parameters


def test_other_names_and_other_seeds_give_other_keys(models):
    one = key_for(FULL, models[0])
    assert key_for(FULL, models[0], names=(1,)).seed != one.seed
    assert key_for(FULL, models[0], plan=replace(PLAN, seed=6)).seed != one.seed


def test_a_key_keeps_what_the_layer_was_and_sketches_it_with_its_own_seed(models):
    key = key_for(FULL, models[0])
    (layer,) = weight_layers(models[0], (), FULL.bits)
    expected = premark_signature(layer.weights.values, key.seed)
    assert key.premark.sha256 == expected.sha256
    assert np.array_equal(key.premark.output_sketch, expected.output_sketch)


def test_a_key_survives_its_file(models, tmp_path):
    key = key_for(CODE, models[0])
    save_key(key, tmp_path / "key.npy")
    assert same(load_key(tmp_path / "key.npy"), key)


def test_keys_that_ask_compare_with_other_networks(models, tmp_path):
    np.save(tmp_path / "pool.npy", np.random.default_rng(0).standard_normal((60, 8, 6, 6)).astype(np.float32))
    one, again = (key_for(ASKS, models[0], asking=(tmp_path / "pool.npy", models[1:])) for _ in range(2))
    assert same(one, again)
    assert one.n_bits == 20
    assert "".join(map(str, one.payload)) == "".join(map(str, payload_of(PLAN, 0, 20)))
    assert np.array_equal(one.arrays["pairs"], again.arrays["pairs"])
    with pytest.raises(LaboratoryError, match="unmarked networks other than its own; plan two networks or more"):
        key_for(ASKS, models[0], asking=(tmp_path / "pool.npy", []))


def test_triggers_are_drawn_from_the_pool_one_a_bit(models, tmp_path):
    pool = np.random.default_rng(0).standard_normal((60, 8, 6, 6)).astype(np.float32)
    np.save(tmp_path / "pool.npy", pool)
    asking = (tmp_path / "pool.npy", [])
    one, again, other = (key_for(TRIGGERS, models[0], names, asking=asking) for names in ((0,), (0,), (1,)))
    rows = {row.tobytes(): place for place, row in enumerate(pool)}
    chosen = [rows[row.tobytes()] for row in one.arrays["inputs"]]
    assert one.n_bits == len(set(chosen)) == FULL.bits
    assert same(one, again)
    assert np.array_equal(one.arrays["inputs"], again.arrays["inputs"])
    assert not np.array_equal(one.arrays["inputs"], other.arrays["inputs"])
    scheme = built_in("trigger")
    assert not np.array_equal(scheme.labels(one), scheme.labels(other))
    with pytest.raises(LaboratoryError, match="61 triggers are to be drawn from a pool of 60; raise n_pool"):
        key_for(replace(TRIGGERS, bits=61), models[0], asking=asking)


def test_schemes_that_ask_what_nobody_knows_are_refused(models):
    theirs = SimpleNamespace(name="theirs", reads=Reads.ANSWERS, options=ProjectionOptions)
    with pytest.raises(LaboratoryError, match="'theirs' ask inputs that an evaluation does not know how to choose"):
        drawn_key(PLAN, FULL, theirs, models[0], (0,), 0, (models[0], models[1:]))


def test_layers_are_those_of_the_plan(models):
    assert key_for(replace(FULL, layers=("stem.weight",)), models[0]).carrier.name == "stem.weight"
    assert key_for(FULL, models[0]).carrier.name == "body.weight"


def test_options_are_those_of_the_plan():
    entry = replace(FULL, settings=(("carrier", "mean-ihw"), ("generator", "gaussian")))
    found = options_of(entry, built_in("projection"))
    assert (found.generator, found.carrier) == ("gaussian", "mean-ihw")
    code = options_of(replace(CODE, settings=(("length", 560), ("rate", 0.5))), built_in("constant-weight"))
    assert (code.length, code.rate) == (560, 0.5)
    with pytest.raises(SettingError, match=r"scheme 'full' has no setting 'karrier' .*; did you mean 'carrier'"):
        options_of(replace(FULL, settings=(("karrier", "full"),)), built_in("projection"))


def test_payloads_are_prefixes_of_longer_ones_and_differ():
    short, long = payload_of(PLAN, 1, 13), payload_of(PLAN, 1, 200)
    assert np.array_equal(long[:13], short)
    assert not np.array_equal(payload_of(PLAN, 2, 200), long)
    assert long.dtype == np.uint8


def test_payloads_are_fair_and_independent():
    bits = np.stack([payload_of(PLAN, number, 512) for number in range(64)])
    assert stats.binomtest(int(bits.sum()), bits.size).pvalue > 1e-4
    agreements = [(bits[one] == bits[other]).sum() for one in range(64) for other in range(one)]
    assert stats.kstest(agreements, stats.binom(512, 0.5).cdf).pvalue > 1e-6
    assert 256 - 6 * 11.3 < min(agreements) <= max(agreements) < 256 + 6 * 11.3


def test_seeds_and_streams_have_names():
    assert seed_of(PLAN, "network", 0) == seed_of(PLAN, "network", 0)
    assert (
        len({seed_of(PLAN, *names) for names in (("network", 0), ("network", 1), ("thief", 0), ("network", "0", ""))})
        == 4
    )
    assert 0 <= seed_of(PLAN, "network", 0) < 2**48
    assert stream(PLAN, "a").random() == stream(PLAN, "a").random() != stream(PLAN, "b").random()
