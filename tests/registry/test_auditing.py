"""A chunk of models against a ring finds what an audit of each model with each key finds, and tries as much."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxmark.audit import audit_file
from onnxmark.keymaking import make_key, weight_layers
from onnxmark.keys import Carrier, load_key, save_key
from onnxmark.marking import embed_file
from onnxmark.plugins import scheme
from onnxmark.registry.auditing import audit_chunk
from onnxmark.registry.products import centred, keyed_fold, scores_of
from onnxmark.registry.ring import load_ring, ring_folder
from onnxmark.schemes.constant_weight.scheme import ConstantWeightScheme
from onnxmark.schemes.projection.projection import own_projection

SHAPES = {"a": (16, 8, 3, 3), "b": (16, 16, 3, 3), "c": (32, 16, 3, 3), "d": (32, 32, 1, 1)}
KINDS = [("full", "rademacher"), ("full", "gaussian"), ("fold:1024", "rademacher"), ("mean-ihw", "gaussian"),
         ("mean-hwi", "direct"), ("mean-ihw", "diff")]  # fmt: skip


def network(path, seed, **changes):
    rng = np.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    for name, shape in SHAPES.items():
        values = changes.get(name, (rng.standard_t(4, shape) * 0.1).astype(np.float32))
        weights.append(numpy_helper.from_array(values, f"{name}.weight"))
        pads = [shape[2] // 2] * 4
        nodes.append(helper.make_node("Conv", [last, f"{name}.weight"], [name], name=f"conv_{name}", pads=pads))
        last = name
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 6])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, 32, 6, 6])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Models, keys of every kind, and which key is in which model."""
    room = tmp_path_factory.mktemp("registry")
    (room / "keys").mkdir()
    plain = [network(room / f"model{seed}.onnx", seed) for seed in range(5)]
    planted = {}
    for number, (kind, generator) in enumerate(KINDS):
        (layer,) = weight_layers(plain[0], ["bc"[number % 2] + ".weight"], 32)
        premark = layer.weights if number % 3 == 0 else None
        key = make_key(layer.carrier, np.zeros(32, np.uint8), generator=generator, kind=kind, premark=premark)
        path = room / "keys" / f"{number}.npy"
        key = save_key(key, path)
        if number % 2 == 0:
            target = room / f"marked{number}.onnx"
            embed_file(plain[number % 5], key, target, margin=1.0, layer=layer.carrier.name)
            planted[key.commitment] = target
    coded = ConstantWeightScheme()
    word = coded.make_key(
        weight_layers(plain[0], ["a.weight", "c.weight"], 32), np.zeros(32, np.uint8), coded.options()
    )
    word = save_key(word, room / "keys" / "word.npy")
    embed_file(plain[1], word, room / "coded.onnx", schemes=scheme)
    planted[word.commitment] = room / "coded.onnx"
    return room, planted


def chunk(room, models, **options):
    with ring_folder(sorted((room / "keys").glob("*.npy"))) as ring:
        return audit_chunk([str(model) for model in models], ring, **options)


def test_finds_every_mark_and_nothing_else(registry):
    room, planted = registry
    models = sorted(room.glob("*.onnx"))
    results = chunk(room, models)
    found = {
        (hit["finding"]["key"]["commitment"], model)
        for model, result in zip(models, results, strict=True)
        for hit in result["hits"]
        if hit["log10_p"] < -7
    }
    assert found == set(planted.items())
    assert not any(result["doubts"] for result in results)


def test_agrees_with_an_audit_of_each_model(registry):
    room, _ = registry
    keys = [load_key(path) for path in (room / "keys").glob("*.npy")]
    for model, result in zip(sorted(room.glob("*.onnx")), chunk(room, sorted(room.glob("*.onnx"))), strict=True):
        whole = audit_file(model, keys, align=False, schemes=scheme)
        assert result["n_hypotheses"] == whole.findings[0].judgement.n_hypotheses
        kept = {hit["finding"]["key"]["commitment"]: hit for hit in result["hits"]}
        for finding in whole.findings:
            least = min(one.evidence.log10_p for one in finding.candidates)
            if finding.key.commitment in kept:
                assert kept[finding.key.commitment]["log10_p"] == least
            else:
                assert least > -5


def test_company_changes_nothing(registry):
    room, _ = registry
    models = sorted(room.glob("*.onnx"))
    together = chunk(room, models)
    assert together == [chunk(room, [model])[0] for model in models]
    assert json.loads(json.dumps(together)) == together


def test_a_folded_and_scaled_copy_is_found_through_the_norms_the_key_remembers(registry, tmp_path):
    room, planted = registry
    commitment = load_key(room / "keys" / "0.npy").commitment
    marked = onnx.load(planted[commitment])
    name = "b.weight"
    tensor = next(one for one in marked.graph.initializer if one.name == name)
    values = numpy_helper.to_array(tensor)
    factors = np.exp(1.5 * np.random.default_rng(0).standard_normal(len(values))).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values * factors[:, None, None, None], name))
    onnx.save(marked, tmp_path / "scaled.onnx")
    (result,) = chunk(room, [tmp_path / "scaled.onnx"])
    (hit,) = (hit for hit in result["hits"] if hit["finding"]["key"]["commitment"] == commitment)
    assert hit["finding"]["carrier"]["view"] == "filter norms restored"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"not a model at all, just text\n" * 9, "not an ONNX model"), (None, "no such file|cannot")],
)
def test_what_is_no_model_is_a_result(registry, tmp_path, content, words):
    room, _ = registry
    bad = tmp_path / "bad.onnx"
    if content is not None:
        bad.write_bytes(content)
    results = chunk(room, [room / "model0.onnx", bad, room / "model1.onnx"])
    assert [result["status"] for result in results] == ["audited", "failed", "audited"]
    import re

    assert re.search(words, results[1]["problem"], re.IGNORECASE)
    assert [results[0], results[2]] == chunk(room, [room / "model0.onnx", room / "model1.onnx"])


def test_layers_that_cannot_bear_evidence_are_doubts(registry, tmp_path):
    room, _ = registry
    path = network(tmp_path / "flat.onnx", 9, b=np.zeros(SHAPES["b"], np.float32))
    (result,) = chunk(room, [path])
    assert result["layers"]["failed"] == [{"name": "b.weight", "problem": "all weights are equal"}]
    touching = {load_key(room / "keys" / f"{n}.npy").commitment for n in (0, 2, 4)}
    assert touching <= {doubt["key"] for doubt in result["doubts"]}
    assert all("all weights are equal" in doubt["reason"] for doubt in result["doubts"])


@pytest.mark.parametrize(("kind", "generator"), KINDS)
def test_scores_are_those_of_the_projection(kind, generator):
    key = make_key(Carrier(SHAPES["b"]), np.zeros(32, np.uint8), generator=generator, kind=kind)
    values = np.random.default_rng(1).standard_normal((3, *SHAPES["b"])).astype(np.float32)
    own = own_projection(key, SHAPES["b"])
    vectors = np.stack([own.carrier.fold(one) for one in values], axis=1).astype(np.float32)
    wanted = np.stack([own.scores(one) for one in values], axis=1)
    np.testing.assert_allclose(scores_of(key, vectors), wanted, rtol=1e-4, atol=1e-3 * np.abs(wanted).max())


def test_a_digest_tells_copies_of_a_layer(registry, tmp_path):
    room, planted = registry
    model = next(iter(planted.values()))
    copy = onnx.load(model)
    copy.graph.node[0].name = "renamed"
    onnx.save(copy, tmp_path / "copy.onnx")
    first, second = chunk(room, [model, tmp_path / "copy.onnx"], digest=True)
    assert [hit["digest"] for hit in first["hits"]] == [hit["digest"] for hit in second["hits"]] != []
    assert first["model"]["sha256"] != second["model"]["sha256"]


class TestRing:
    def test_is_gone_afterwards_and_private_before(self, registry):
        room, _ = registry
        with ring_folder([room / "keys" / "0.npy"]) as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir() if file.suffix == ".npy")
            assert len(load_ring(folder)) == 1
        assert not folder.exists()

    def test_the_same_key_twice_counts_once(self, registry, tmp_path):
        room, _ = registry
        copy = tmp_path / "copy.npy"
        copy.write_bytes((room / "keys" / "0.npy").read_bytes())
        with ring_folder([room / "keys" / "0.npy", copy]) as folder:
            assert len(load_ring(folder)) == 1

    def test_secrets_are_those_of_the_keys(self, registry):
        room, _ = registry
        paths = sorted((room / "keys").glob("*.npy"))
        with ring_folder(paths) as folder:
            loaded = {key.commitment: key for key in load_ring(folder).keys}
        for path in paths:
            key = load_key(path)
            assert loaded[key.commitment].master.reveal() == key.master.reveal()
            assert key.seed.reveal().hex() not in repr(loaded[key.commitment])


def test_paths_are_only_read(registry):
    room, _ = registry
    before = {path: path.stat().st_mtime_ns for path in Path(room).rglob("*")}
    chunk(room, sorted(room.glob("*.onnx")))
    assert before == {path: path.stat().st_mtime_ns for path in Path(room).rglob("*")}


@pytest.mark.parametrize("buckets", [16, 1024, 65536])
def test_many_layers_fold_as_one_does(buckets):
    key = make_key(Carrier(SHAPES["c"]), np.zeros(32, np.uint8), kind=f"fold:{buckets}")
    carrier = own_projection(key, SHAPES["c"]).carrier
    layers = list(np.random.default_rng(2).standard_normal((3, *SHAPES["c"])).astype(np.float32) + 0.5)
    wanted = np.stack([carrier.fold(one) for one in layers], axis=1)
    np.testing.assert_allclose(keyed_fold(carrier, centred(layers)), wanted, atol=2e-3)
