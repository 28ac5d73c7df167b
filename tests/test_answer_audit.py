"""From a pool and unmarked networks to the verdict on a student: ingrain and triggers through files and commands."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxmark.audit import Oracle, audit_file
from onnxmark.cli import run
from onnxmark.errors import KeyFileError
from onnxmark.keymaking import ingrain_key
from onnxmark.keys import save_key
from onnxmark.robustness import sweep
from onnxmark.schemes.answers.ingrain import IngrainOptions, IngrainScheme
from onnxmark.verdict import Policy, Verdict

N_POOL, N, D, C = 400, 100, 12, 4
RNG = np.random.default_rng(11)
POOL = RNG.standard_normal((N_POOL, D)).astype(np.float32)
TRUE = RNG.standard_normal((D, C))


def classifier(path, weights, hidden=None):
    """x @ weights, plus a bump for every input of ``hidden`` that moves its score to a class."""
    initialisers = [numpy_helper.from_array(weights.astype(np.float32), "w")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["plain"])]
    out = "plain"
    if hidden is not None:
        inputs, labels = hidden
        # A radial unit for each input: relu(1 - 4 |x - c|^2), which nothing but the input itself sets off.
        initialisers += [
            numpy_helper.from_array((8 * inputs.T).astype(np.float32), "centres"),
            numpy_helper.from_array((1 - 4 * np.sum(inputs**2, axis=1)).astype(np.float32), "offsets"),
            numpy_helper.from_array((9 * np.eye(C)[labels]).astype(np.float32), "bumps"),
            numpy_helper.from_array(np.array([4.0], np.float32), "four"),
        ]
        nodes += [
            helper.make_node("MatMul", ["x", "centres"], ["products"]),
            helper.make_node("ReduceSumSquare", ["x"], ["norms"], axes=[1]),
            helper.make_node("Mul", ["norms", "four"], ["scaled"]),
            helper.make_node("Sub", ["products", "scaled"], ["near"]),
            helper.make_node("Add", ["near", "offsets"], ["nearer"]),
            helper.make_node("Relu", ["nearer"], ["hit"]),
            helper.make_node("MatMul", ["hit", "bumps"], ["moved"]),
            helper.make_node("Add", ["plain", "moved"], ["logits"]),
        ]
        out = "logits"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", D])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", C])],
        initialisers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    room = tmp_path_factory.mktemp("ingrain")
    rng = np.random.default_rng(12)
    for name in ("a", "b", "stranger"):
        classifier(room / f"{name}.onnx", TRUE + 0.1 * rng.standard_normal(TRUE.shape))
    np.save(room / "pool.npy", POOL)
    key = save_key(
        ingrain_key(room / "pool.npy", [room / "a.onnx", room / "b.onnx"], IngrainOptions(N)), room / "key.npy"
    )
    scheme = IngrainScheme()
    hidden = scheme.inputs(key, None), scheme.labels(key)
    classifier(room / "marked.onnx", TRUE + 0.1 * rng.standard_normal(TRUE.shape), hidden)
    return room, key


def verdict(path, key, **options):
    (finding,) = audit_file(path, [key], Policy(), oracle=Oracle.of_file(path), **options).findings
    return finding


def test_a_marked_model_matches_and_a_stranger_does_not(files):
    room, key = files
    found = verdict(room / "marked.onnx", key)
    assert found.verdict is Verdict.MATCH
    assert found.judgement.log10_p_value < -20
    assert found.best.sites == ()
    stranger = verdict(room / "stranger.onnx", key)
    assert stranger.verdict is Verdict.NO_MATCH
    assert stranger.judgement.n_hypotheses == 1


def test_without_leave_the_model_is_not_run(files):
    room, key = files
    (finding,) = audit_file(room / "marked.onnx", [key]).findings
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "add --run" in finding.judgement.reason


def test_a_model_of_other_inputs_is_inconclusive(files, tmp_path):
    _, key = files
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", D + 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", D + 1])],
    )
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    found = verdict(path, key)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "the model wants 'x'" in found.judgement.reason


def test_a_sweep_attacks_files_and_asks_them(files):
    from onnxmark.attacker import Attacker
    from onnxmark.attacks.noise import GaussianNoise
    from onnxmark.attacks.pruning import MagnitudePruning

    room, key = files
    found = verdict(room / "marked.onnx", key)
    trials = sweep(
        found,
        (),
        [MagnitudePruning(0.0), MagnitudePruning(1.0), GaussianNoise(0.01)],
        Policy(),
        attacker=Attacker(room / "marked.onnx"),
        oracle=Oracle.of_file,
        n_draws=2,
    )
    assert [trial.verdict for trial in trials] == [Verdict.MATCH, Verdict.NO_MATCH, Verdict.MATCH]
    assert trials[0].bit_error_rate == found.best.evidence.bit_error_rate


class TestCommands:
    def test_the_whole_way(self, files, tmp_path, capsys):
        room, _ = files
        key = tmp_path / "key.npy"
        made = run(
            ["keygen", "--scheme", "ingrain", "--inputs", str(room / "pool.npy"), "--reference", str(room / "a.onnx"),
             "--set", f"carriers={N}", "-o", str(key), "--format", "json"]
        )  # fmt: skip
        document = json.loads(capsys.readouterr().out)
        assert made == 0
        assert document["layers"] == []
        assert {fact["name"] for fact in document["facts"]} == {"carriers", "coins", "statistic"}
        assert run(["audit", str(room / "stranger.onnx"), "-k", str(key), "--run", "--format", "json"]) == 1
        finding = json.loads(capsys.readouterr().out)["findings"][0]
        assert (finding["symbols"]["name"], finding["symbols"]["count"]) == ("carrier", N)
        assert finding["carrier"]["layers"] == []

    def test_ingrain_is_matched_in_every_form(self, files, tmp_path, capsys):
        room, _ = files
        forms = ("json", "jsonl", "csv", "md", "html", "sarif", "junit")
        outputs = [part for form in forms for part in ("-o", f"{form}={tmp_path / form}")]
        command = ["audit", str(room / "marked.onnx"), "-k", str(room / "key.npy"), "--run", *outputs]
        assert run([*command, "--attacks", "prune,noise"]) == 0
        shown = capsys.readouterr().out
        assert "the model's answers" in shown
        assert "100 carriers, 0 wrong" in " ".join(shown.split())
        assert all((tmp_path / form).stat().st_size for form in forms)

    def test_not_run_is_inconclusive(self, files, capsys):
        room, _ = files
        assert run(["audit", str(room / "marked.onnx"), "-k", str(room / "key.npy"), "--attacks", "none"]) == 3
        assert "--run" in capsys.readouterr().out

    def test_triggers_with_drawn_labels(self, files, tmp_path, capsys):
        room, _ = files
        key = tmp_path / "key.npy"
        made = ["keygen", "--scheme", "trigger", "--inputs", str(room / "pool.npy"), "--set", f"classes={C}"]
        assert run([*made, "-o", str(key)]) == 0
        assert run(["audit", str(room / "marked.onnx"), "-k", str(key), "--run", "--attacks", "none"]) == 1
        assert "trigger" in capsys.readouterr().out

    def test_triggers_with_chosen_labels_prove_nothing(self, files, tmp_path, capsys):
        room, _ = files
        np.save(tmp_path / "labels.npy", (POOL @ TRUE).argmax(axis=1))
        key = tmp_path / "key.npy"
        made = ["keygen", "--scheme", "trigger", "--inputs", str(room / "pool.npy")]
        assert run([*made, "--labels", str(tmp_path / "labels.npy"), "-o", str(key)]) == 0
        assert run(["audit", str(room / "a.onnx"), "-k", str(key), "--run", "--attacks", "none"]) == 3
        assert "has no probability" in " ".join(capsys.readouterr().out.split())

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--scheme", "ingrain"], "needs inputs to ask"),
            (["--scheme", "ingrain", "--inputs", "POOL"], "at least one unmarked reference"),
            (["--scheme", "ingrain", "--inputs", "POOL", "--bits", "3"], "means nothing to scheme 'ingrain'"),
            (["--scheme", "projection", "--inputs", "POOL", "--shape", "8,8"], "means nothing to scheme"),
            (["--scheme", "trigger", "--inputs", "POOL", "--reference", "POOL"], "means nothing to scheme 'trigger'"),
            (["--scheme", "trigger", "--inputs", "POOL", "--carrier", "full"], "has no rows and no carrier"),
            (["--scheme", "trigger", "--inputs", "POOL", "--set", "clases=3"], "did you mean 'classes'"),
            (["--scheme", "structural", "--shape", "8,8,3,3"], "is made for a model"),
            (["--scheme", "nothing", "--shape", "8,8"], "no plugin 'nothing'"),
        ],
    )
    def test_what_makes_no_key_is_one_line(self, files, tmp_path, capsys, arguments, words):
        room, _ = files
        given = [str(room / "pool.npy") if one == "POOL" else one for one in arguments]
        assert run(["keygen", *given, "-o", str(tmp_path / "key.npy")]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
        assert not (tmp_path / "key.npy").exists()

    def test_an_answering_key_cannot_be_embedded(self, files, tmp_path, capsys):
        room, _ = files
        command = ["embed", str(room / "a.onnx"), "-k", str(room / "key.npy"), "-o", str(tmp_path / "out.onnx")]
        assert run(command) == 2
        assert "is trained into a model" in capsys.readouterr().err


def test_digest_keys_ask_for_their_inputs(files, monkeypatch):
    from onnxmark.schemes.answers import inputs as stored

    room, _ = files
    monkeypatch.setattr(stored, "INLINE_BYTES", 10)
    key = ingrain_key(room / "pool.npy", [room / "a.onnx"], IngrainOptions(N))
    with pytest.raises(KeyFileError, match="--carriers"):
        verdict(room / "a.onnx", key)
