"""Every scheme of ours does what an audit relies on, and a scheme that does not is caught."""

from dataclasses import replace

import numpy as np
import pytest

from onnxmark.keys import Carrier
from onnxmark.schemes.answers.ingrain import IngrainOptions, IngrainScheme
from onnxmark.schemes.answers.trigger import TriggerOptions, TriggerScheme
from onnxmark.schemes.constant_weight.scheme import ConstantWeightScheme
from onnxmark.schemes.projection.scheme import ProjectionOptions, ProjectionScheme
from onnxmark.schemes.scheme import Answers, Layer
from onnxmark.schemes.structural.scheme import StructuralScheme
from onnxmark.testing import (
    DUTIES,
    AnswerSubject,
    DutyBroken,
    WeightSubject,
    WidthSubject,
    a_mark_is_found,
    another_key_is_not_found,
    evidence_is_consistent,
    it_is_described,
    keys_survive_their_file,
    reading_is_pure,
    secrets_stay_secret,
    strangers_read_fairly,
    what_bears_no_evidence_gives_none,
)
from onnxmark.weights import Origin, WeightTensor

RNG = np.random.default_rng(7)
N_CARRIERS, N_CLASSES = 200, 10
POOL = RNG.standard_normal((400, 3)).astype(np.float32)
REFERENCES = [RNG.standard_normal((400, N_CLASSES)) for _ in range(3)]
STRANGER = RNG.standard_normal((N_CARRIERS, N_CLASSES))


def layer(name, shape):
    values = (RNG.standard_t(4, shape) * RNG.lognormal(0, 0.5, (shape[0], *(1 for _ in shape[1:])))).astype(np.float32)
    return Layer(Carrier(shape, name), WeightTensor(name, values, Origin(name, "Conv", 0, "raw")))


CONV = layer("conv", (32, 16, 3, 3))
BITS = RNG.integers(0, 2, 64).astype(np.uint8)


def ingrain():
    scheme = IngrainScheme()

    def answer(key):
        labels = scheme.labels(key)
        return Answers(labels, 4.0 * np.eye(N_CLASSES)[labels] + STRANGER * 0.1)

    def make():
        return scheme.make_key(POOL, REFERENCES, IngrainOptions(carriers=N_CARRIERS))

    return AnswerSubject(scheme, make, answer, Answers(STRANGER.argmax(axis=1), STRANGER))


def trigger():
    scheme = TriggerScheme()

    def answer(key):
        labels = scheme.labels(key)
        return Answers(labels, np.eye(N_CLASSES)[labels])

    def make():
        return scheme.make_key(POOL[:N_CARRIERS], None, TriggerOptions(classes=N_CLASSES))

    return AnswerSubject(scheme, make, answer, Answers(STRANGER.argmax(axis=1), STRANGER))


SUBJECTS = {
    "projection": WeightSubject(ProjectionScheme(), (CONV,), BITS),
    "projection, mean, Gaussian rows": WeightSubject(
        ProjectionScheme(), (CONV,), BITS[:32], ProjectionOptions("gaussian", "mean-ihw"), margin=1.0
    ),
    "constant weight": WeightSubject(ConstantWeightScheme(), (CONV,), BITS),
    "constant weight, two layers": WeightSubject(ConstantWeightScheme(), (CONV, layer("other", (16, 32, 3, 3))), BITS),
    "structural": WidthSubject(StructuralScheme(), tuple(layer(f"conv{n}", (128, 8, 3, 3)) for n in range(12))),
    "ingrain": ingrain(),
    "trigger": trigger(),
}


@pytest.fixture(autouse=True)
def _cheap(cheap_stretching):
    """The duties need hundreds of keys, and nothing of what a key costs a forger."""


@pytest.mark.parametrize("duty", DUTIES, ids=lambda duty: duty.__name__)
@pytest.mark.parametrize("name", SUBJECTS)
def test_ours_keep_every_duty(name, duty):
    duty(SUBJECTS[name])


class Careless(ProjectionScheme):
    """One defect at a time."""

    def __init__(self, **defect):
        self.defect = defect

    def extract(self, key, layers, reading):
        if "signs" in self.defect:
            layers = tuple(one.with_values(np.nan_to_num(one.values) + 1) for one in layers)
        evidence = super().extract(key, layers, reading)
        return replace(evidence, **self.defect.get("evidence", {}))

    def facts(self, key):
        return {**super().facts(key), **({"seed": key.seed.reveal().hex()} if "leak" in self.defect else {})}


class Forgetful(ProjectionScheme):
    def __init__(self):
        self.last = None

    def embed(self, key, layers, reading, means):
        found = super().embed(key, layers, reading, means)
        return replace(found, layers=tuple(one.with_values(-one.values) for one in found.layers))


class Drifting(ProjectionScheme):
    calls = 0

    def extract(self, key, layers, reading):
        Drifting.calls += 1
        evidence = super().extract(key, layers, reading)
        return replace(evidence, margins=evidence.margins * Drifting.calls)


class Loud(ProjectionScheme):
    name = "LOUD"


BROKEN = {
    "name": (Loud(), it_is_described, "lower-case name"),
    "turned round": (Forgetful(), a_mark_is_found, "no wrong symbol"),
    "miscounted": (Careless(evidence={"n_errors": 3}), evidence_is_consistent, "errors counted"),
    "impossible probability": (Careless(evidence={"log10_p": 1.0, "tests": ()}), evidence_is_consistent, "at most 1"),
    "not pure": (Drifting(), reading_is_pure, "the same margins twice"),
    "leaks": (Careless(leak=True), secrets_stay_secret, "do not depend on the seed"),
    "always sure": (Careless(evidence={"log10_p": -9.0}), another_key_is_not_found, "no match with another key"),
    "sure of nothing": (
        Careless(evidence={"log10_p": -9.0, "degenerate": None}),
        what_bears_no_evidence_gives_none,
        "no match for zeros",
    ),
    "too sure": (Careless(evidence={"log10_p": -2.5}), strangers_read_fairly, "found 300"),
}


@pytest.mark.parametrize("defect", BROKEN)
def test_a_broken_scheme_is_caught(defect):
    scheme, duty, words = BROKEN[defect]
    with pytest.raises(DutyBroken, match=words):
        duty(WeightSubject(scheme, (CONV,), BITS))


def test_a_key_that_changes_on_its_way_through_the_file_is_caught():
    class Padded(ProjectionScheme):
        def make_key(self, layers, payload, options):
            key = super().make_key(layers, payload, options)
            key.__dict__["message"] = 1 - key.message
            return key

    with pytest.raises(DutyBroken, match="the same reading"):
        keys_survive_their_file(WeightSubject(Padded(), (CONV,), BITS))
