"""The audit: every fitting layer is read, everything tried is counted, and nothing unreadable passes for absent."""

from pathlib import Path

import numpy as np
import pytest

import onnxmark
from onnxmark.audit import audit_file
from onnxmark.errors import CarrierError, KeyFileError, ModelUnavailable
from onnxmark.keymaking import carrier_of, make_key, suggest_site
from onnxmark.keys import Carrier, load_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from onnxmark.verdict import Policy, Standing, Verdict
from tests.onnx_models import conv_chain, kernel

DEMO = Path(onnxmark.__file__).parent / "demo_data"
SHAPE = (16, 8, 3, 3)


@pytest.fixture
def key():
    return make_key(Carrier(SHAPE, "conv1.weight", "node_conv_1", "Conv", 1), np.zeros(64, np.uint8))


@pytest.fixture
def host(tmp_path):
    """Three layers, two of them of the key's shape."""
    kernels = [kernel((8, 3, 3, 3), 1), kernel(SHAPE, 2), kernel((8, 16, 3, 3), 3), kernel(SHAPE, 4)]
    return conv_chain(tmp_path / "host.onnx", kernels)


@pytest.fixture
def marked(host, key, tmp_path):
    embed_file(host, key, tmp_path / "marked.onnx")
    return tmp_path / "marked.onnx"


def rewritten(path, out, change, names=None):
    """The model with ``change`` applied to its marked layer."""
    with open_model(path) as model:
        kernels = [model.read(site).values.copy() for site in model.sites()]
    kernels[1] = change(kernels[1])
    return conv_chain(out, kernels, names)


def only(audit):
    (finding,) = audit.findings
    return finding


@pytest.mark.parametrize(
    ("model", "key", "verdict"),
    [
        ("marked", "key", Verdict.MATCH),
        ("marked", "other_key", Verdict.NO_MATCH),
        ("unmarked", "key", Verdict.NO_MATCH),
        ("attacked", "key", Verdict.MATCH),
        ("attacked", "other_key", Verdict.NO_MATCH),
    ],
)
def test_the_trained_demo_network(model, key, verdict):
    finding = only(audit_file(DEMO / f"{model}.onnx", [load_key(DEMO / f"{key}.npy")]))
    assert finding.verdict is verdict
    if verdict is Verdict.MATCH:
        assert finding.best.evidence.n_errors == 0
    else:
        assert 0.4 < finding.best.evidence.bit_error_rate < 0.6


def test_a_closed_form_mark_is_found_and_counted(marked, key):
    finding = only(audit_file(marked, [key]))
    assert finding.verdict is Verdict.MATCH
    assert finding.best.sites[0].name == "conv1.weight"
    assert finding.best.why == "same name and shape"
    assert len(finding.candidates) == 2
    assert finding.judgement.n_hypotheses == 4
    assert finding.judgement.log10_p_value == pytest.approx(-64 * np.log10(2) + np.log10(4))


def test_every_key_and_reading_enters_the_correction(marked, key):
    others = [make_key(Carrier(SHAPE), np.zeros(64, np.uint8), kind=kind) for kind in ("full", "mean-ihw")]
    audit = audit_file(marked, [key, *others])
    assert {finding.judgement.n_hypotheses for finding in audit.findings} == {12}
    assert [finding.verdict for finding in audit.findings] == [Verdict.MATCH, Verdict.NO_MATCH, Verdict.NO_MATCH]
    assert audit.verdict is Verdict.MATCH


def test_names_do_not_matter(marked, key, tmp_path):
    path = rewritten(marked, tmp_path / "renamed.onnx", lambda values: values, ["a", "b", "c", "d"])
    finding = only(audit_file(path, [key]))
    assert finding.verdict is Verdict.MATCH
    assert finding.best.sites[0].name == "b"
    assert finding.best.why == "same node and shape"


def test_an_inverted_mark_is_a_match_and_says_so(marked, key, tmp_path):
    finding = only(audit_file(rewritten(marked, tmp_path / "x.onnx", np.negative), [key]))
    assert finding.verdict is Verdict.MATCH
    assert finding.best.evidence.inverted


@pytest.mark.parametrize(
    ("change", "words"),
    [(np.zeros_like, "all weights are equal"), (lambda values: np.full_like(values, np.nan), "not all finite")],
)
def test_a_destroyed_carrier_is_inconclusive_never_absent(marked, key, tmp_path, change, words):
    finding = only(audit_file(rewritten(marked, tmp_path / "x.onnx", change), [key]))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert words in finding.judgement.reason


def test_a_carrier_in_missing_external_data_is_inconclusive(marked, key, tmp_path):
    import onnx

    model = onnx.load(marked)
    (tmp_path / "sub").mkdir()
    onnx.save(model, tmp_path / "sub" / "x.onnx", save_as_external_data=True, location="x.data", size_threshold=0)
    assert only(audit_file(tmp_path / "sub" / "x.onnx", [key])).verdict is Verdict.MATCH
    (tmp_path / "sub" / "x.data").unlink()
    finding = only(audit_file(tmp_path / "sub" / "x.onnx", [key]))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "x.data" in finding.judgement.reason


def test_no_layer_of_the_shape_is_inconclusive(host):
    key = make_key(Carrier((16, 9, 3, 3)), np.zeros(64, np.uint8))
    finding = only(audit_file(host, [key]))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "no layer fits the key (made for 16x9x3x3)" in finding.judgement.reason


def test_mean_keys_survive_the_removal_of_filters(host, tmp_path):
    key = make_key(Carrier(SHAPE, "conv1.weight"), np.zeros(16, np.uint8), kind="mean-ihw")
    embed_file(host, key, tmp_path / "marked.onnx", margin=1.5)
    with open_model(tmp_path / "marked.onnx") as model:
        values = [model.read(site).values for site in model.sites()]
    path = conv_chain(tmp_path / "pruned.onnx", [values[0], values[1][:14]])
    assert only(audit_file(path, [key], Policy(alpha=1e-3))).verdict is Verdict.MATCH


def test_layer_limits_what_is_read(marked, key):
    assert only(audit_file(marked, [key], layer="conv3.weight")).verdict is Verdict.NO_MATCH
    finding = only(audit_file(marked, [key], layer="node_conv_1"))
    assert finding.verdict is Verdict.MATCH
    assert finding.judgement.n_hypotheses == 2


def test_an_unknown_layer_gets_a_suggestion(marked, key):
    with pytest.raises(CarrierError, match=r"no layer 'conv1\.wieght' in the model; did you mean 'conv1\.weight'"):
        audit_file(marked, [key], layer="conv1.wieght")


def test_a_key_of_an_unknown_scheme_is_refused(marked, key):
    from dataclasses import replace

    with pytest.raises(CarrierError, match="scheme 'other'"):
        audit_file(marked, [replace(key, scheme="other")])
    with pytest.raises(KeyFileError, match="unknown generator"):
        audit_file(marked, [replace(key, parameters={"generator": "x", "carrier": "full"})])


def test_a_missing_model_is_an_error_not_a_verdict(tmp_path, key):
    with pytest.raises(ModelUnavailable, match="missing"):
        audit_file(tmp_path / "missing.onnx", [key])


class TestStanding:
    def test_unregistered_64_bits_do_not_clear_the_seed_search(self, marked, key):
        finding = only(audit_file(marked, [key]))
        assert finding.standing is Standing.UNREGISTERED
        assert not finding.judgement.clears_seed_search

    def test_unregistered_256_bits_do(self):
        finding = only(audit_file(DEMO / "marked.onnx", [load_key(DEMO / "key.npy")]))
        assert finding.judgement.clears_seed_search

    def test_registered_is_the_callers_word(self, marked, key):
        assert only(audit_file(marked, [key], Policy(registered=True))).standing is Standing.REGISTERED

    def test_a_fitted_matrix_matches_and_is_free_form(self, host, tmp_path):
        with open_model(host) as model:
            vector = model.read(model.sites()[1]).values.mean(axis=0).ravel()
        rows = np.random.default_rng(0).standard_normal((64, 72))
        np.save(tmp_path / "fitted.npy", rows * np.sign(rows @ vector)[:, None])
        finding = only(audit_file(host, [load_key(tmp_path / "fitted.npy")], Policy(registered=True)))
        assert finding.verdict is Verdict.MATCH
        assert finding.standing is Standing.FREE_FORM


@pytest.mark.parametrize("alpha", [0, 1, -1, 2])
def test_an_alpha_that_is_no_probability_is_refused(alpha):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Policy(alpha=alpha)


def test_progress_is_reported(marked, key):
    seen = []
    audit_file(marked, [key], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


class TestSuggestion:
    def test_the_largest_inner_layer(self, host):
        with open_model(host) as model:
            assert suggest_site(model.sites(), 64).name == "conv1.weight"

    def test_depthwise_and_last_layers_only_where_there_is_nothing_else(self, tmp_path):
        path = conv_chain(tmp_path / "one.onnx", [kernel((64, 16, 3, 3))])
        with open_model(path) as model:
            assert suggest_site(model.sites(), 64).position == 0

    def test_no_room(self, host):
        with open_model(host) as model, pytest.raises(CarrierError, match="no layer has room for 4000 bits"):
            suggest_site(model.sites(), 4000)

    def test_the_record_is_the_layers(self, host):
        with open_model(host) as model:
            carrier = carrier_of(model.sites()[1])
        assert carrier == Carrier(SHAPE, "conv1.weight", "node_conv_1", "Conv", 1)
