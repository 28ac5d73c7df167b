"""Detector and decoder: what they answer, against audits; and that the key stays with them."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from onnxmark.audit import audit_file, built_in
from onnxmark.errors import NotAModel
from onnxmark.evaluation import MODEL, Decoder, Decoding, Detector, roles_of
from onnxmark.evaluation.roles import decoding
from onnxmark.keymaking import weight_layers
from onnxmark.marking import embed_file
from onnxmark.schemes.constant_weight.parameters import Options
from onnxmark.schemes.constant_weight.scheme import ConstantWeightScheme
from onnxmark.schemes.evidence import Decoded, Evidence, no_evidence
from onnxmark.schemes.projection.scheme import ProjectionOptions, ProjectionScheme
from onnxmark.verdict import Policy
from tests.evaluation import toy
from tests.onnx_models import conv_chain, kernel

PAYLOAD = np.array([1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0], dtype=np.uint8)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """An unmarked file, a marked one and the key."""
    room = tmp_path_factory.mktemp("roles")
    toy.write(room, toy.drawn(1))
    key = ProjectionScheme().make_key(weight_layers(room / MODEL, (), PAYLOAD.size), PAYLOAD, ProjectionOptions())
    embed_file(room / MODEL, key, room / "marked.onnx")
    return room / MODEL, room / "marked.onnx", key


def test_the_detector_finds_the_mark_where_it_is(bench):
    unmarked, marked, key = bench
    detector, _ = roles_of(key, Policy(), built_in)
    assert detector.detect(marked) is True
    assert detector.detect(unmarked) is False


def test_the_detector_goes_by_the_policy(bench):
    """24 right signs are a chance of 2^-24 a reading; the audit counts two hypotheses a layer."""
    _, marked, key = bench
    finding = audit_file(marked, [key]).findings[0]
    just = 10**finding.judgement.log10_p_value
    assert roles_of(key, Policy(alpha=1.01 * just), built_in)[0].detect(marked) is True
    assert roles_of(key, Policy(alpha=0.99 * just), built_in)[0].detect(marked) is False


def test_the_decoder_reads_the_payload(bench):
    _, marked, key = bench
    _, decoder = roles_of(key, Policy(), built_in)
    assert decoder.decode(marked) == Decoding(24, 0, "".join(map(str, PAYLOAD)))


def test_the_decoder_reads_something_else_in_an_unmarked_network(bench):
    unmarked, _, key = bench
    _, decoder = roles_of(key, Policy(), built_in)
    found = decoder.decode(unmarked)
    wrong = sum(int(read) != bit for read, bit in zip(found.decoded, PAYLOAD, strict=True))
    assert found == Decoding(24, wrong, found.decoded)
    assert 3 <= wrong <= 21


def test_a_code_word_tells_its_errors_only(bench, tmp_path):
    unmarked, _, _ = bench
    key = ConstantWeightScheme().make_key(weight_layers(unmarked, (), 24), PAYLOAD, Options())
    embed_file(unmarked, key, tmp_path / "marked.onnx")
    _, decoder = roles_of(key, Policy(), built_in)
    assert decoder.decode(tmp_path / "marked.onnx") == Decoding(24, 0)


def test_where_the_layer_is_gone_nothing_is_read_and_nothing_found(bench, tmp_path):
    _, _, key = bench
    conv_chain(tmp_path / MODEL, [kernel((200, 100, 3, 3))])
    detector, decoder = roles_of(key, Policy(), built_in)
    assert detector.detect(tmp_path / MODEL) is False
    assert decoder.decode(tmp_path / MODEL) == Decoding(24, None)


def test_where_half_of_the_layer_is_gone_what_is_left_is_read(bench, tmp_path):
    _, _, key = bench
    values = toy.drawn(1)
    values["body.weight"] = values["body.weight"][:16]
    values["head.weight"] = values["head.weight"][:, :16]
    toy.write(tmp_path, values)
    detector, decoder = roles_of(key, Policy(), built_in)
    assert detector.detect(tmp_path / MODEL) is False
    assert 0 < decoder.decode(tmp_path / MODEL).n_errors < 24


def evidence(margins, **more):
    given = np.asarray(margins, dtype=np.float64)
    return Evidence(given, int((given <= 0).sum()), 0, 0.0, (), **more)


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (None, Decoding(24, None)),
        (no_evidence(24, "nothing there"), Decoding(24, None)),
        (evidence(np.ones(24)), Decoding(24, 0, "".join(map(str, PAYLOAD)))),
        (evidence(-np.ones(24)), Decoding(24, 24, "".join(map(str, 1 - PAYLOAD)))),
        (evidence(np.zeros(24)), Decoding(24, 24, "".join(map(str, 1 - PAYLOAD)))),
        (evidence([1, -1, 1]), Decoding(3, 1)),
        (evidence(np.ones(80), message=Decoded(24, 5)), Decoding(24, 5)),
        (evidence(np.ones(80), message=Decoded(24, 24, rejected=True)), Decoding(24, None)),
    ],
    ids=["no carrier", "degenerate", "right", "complement", "erased", "other symbols", "decoded", "rejected"],
)
def test_what_a_reading_says_of_the_payload(bench, read, expected):
    assert decoding(bench[2], read) == expected


def test_errors_are_counted_and_not_believed(bench):
    liar = replace(evidence(-np.ones(24)), n_errors=0)
    assert decoding(bench[2], liar).n_errors == 24


def test_a_file_that_is_no_model_is_an_error_of_its_own(bench, tmp_path):
    (tmp_path / "text").write_text("hello")
    for role, ask in zip(roles_of(bench[2], Policy(), built_in), ("detect", "decode"), strict=True):
        with pytest.raises(NotAModel, match="text"):
            getattr(role, ask)(tmp_path / "text")


@pytest.mark.parametrize("number", [0, 1])
def test_a_role_shows_nothing_of_its_key(bench, number):
    key = bench[2]
    role = roles_of(key, Policy(), built_in)[number]
    assert repr(role) in ("Detector()", "Decoder()")
    assert not hasattr(role, "__dict__")
    secrets = (key.seed.reveal().hex(), key.salt.hex(), "".join(map(str, key.payload)))
    for name in dir(role):
        shown = repr(getattr(role, name))
        assert not any(secret in shown for secret in secrets)
        assert getattr(role, name) is not key
    for store in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="holds a key and cannot be pickled; make it where it is used"):
            store(role)
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(role)


def test_anybodys_functions_can_play_the_roles(tmp_path):
    assert Detector(lambda path: path.name == "marked").detect(tmp_path / "marked") is True
    assert Decoder(lambda _: Decoding(8, 4)).decode(tmp_path) == Decoding(8, 4)
