"""The command line as its users meet it: exit codes, streams, one-line errors, formats, and no secrets anywhere."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onnxmark
from onnxmark.cli import run
from onnxmark.keys import load_key
from tests.onnx_models import conv_chain, kernel

DEMO = Path(onnxmark.__file__).parent / "demo_data"
MARKED, KEY, OTHER = (str(DEMO / name) for name in ("marked.onnx", "key.npy", "other_key.npy"))
SHAPE = (16, 8, 3, 3)


@pytest.fixture
def host(tmp_path):
    return conv_chain(tmp_path / "host.onnx", [kernel((8, 3, 3, 3), 1), kernel(SHAPE, 2), kernel((8, 16, 3, 3), 3)])


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")


def call(capsys, *arguments):
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


class TestAudit:
    def test_match(self, capsys):
        code, out, err = call(capsys, "audit", MARKED, "--key", KEY)
        assert code == 0
        assert err == ""
        for words in (
            "MATCH",
            "BER 0.000",
            "conv3.weight",
            "unregistered",
            "L1 pruning 95 %",
            "What this does not prove",
        ):
            assert words in out
        assert "layers: 4 found / 1 audited / 3 skipped (no key fits their shape) / 0 failed" in out

    def test_no_match(self, capsys):
        code, out, _ = call(capsys, "audit", MARKED, "--key", OTHER)
        assert code == 1
        assert "NO MATCH" in out
        assert "Robustness" not in out

    def test_several_keys_and_a_ring(self, capsys, tmp_path):
        for name in (KEY, OTHER):
            (tmp_path / Path(name).name).write_bytes(Path(name).read_bytes())
        for arguments in (("--key", OTHER, "--key", KEY), ("--keys", tmp_path), ("--key", OTHER, "--keys", tmp_path)):
            code, out, _ = call(capsys, "audit", MARKED, *arguments, "--format", "json", "--attacks", "none")
            assert code == 0
            verdicts = {finding["verdict"] for finding in json.loads(out)["findings"]}
            assert verdicts == {"match", "no-match"}

    def test_inconclusive(self, capsys, tmp_path):
        path = conv_chain(tmp_path / "other.onnx", [kernel((8, 3, 3, 3))])
        code, out, _ = call(capsys, "audit", path, "--key", KEY)
        assert code == 3
        assert "INCONCLUSIVE" in out
        assert "no layer fits the key (made for 64x32x3x3)" in out

    def test_json_document(self, capsys):
        code, out, err = call(capsys, "audit", MARKED, "--key", KEY, "--format", "json")
        document = json.loads(out)
        assert code == 0
        assert err == ""
        assert document["schema"] == "onnxmark/audit/v1"
        assert document["status"] == "complete"
        assert document["coverage"] == {"found": 4, "audited": 1, "skipped": 3, "failed": []}
        (finding,) = document["findings"]
        assert finding["verdict"] == "match"
        assert finding["standing"] == "unregistered"
        assert finding["clears_seed_search"] is True
        assert (finding["n_bits"], finding["n_errors"], finding["bit_error_rate"]) == (256, 0, 0.0)
        assert finding["n_hypotheses"] == 2
        assert document["policy"]["log10_alpha"] == pytest.approx(-6)
        assert document["policy"]["log10_seed_search"] == pytest.approx(np.log10(1e-6 / 2**64))
        assert finding["p_value"] == pytest.approx(2 * 2.0**-256)
        assert finding["log10_p_value"] == pytest.approx(np.log10(finding["p_value"]))
        assert finding["carrier"]["name"] == "conv3.weight"
        assert finding["carrier"]["op"] == "Conv"
        assert finding["carrier"]["shape"] == [64, 32, 3, 3]
        assert finding["carrier"]["kind"] == "full"
        assert finding["key"]["commitment"] == load_key(KEY).commitment
        assert finding["embedding_loss"] < 1e-3
        assert sum(finding["margins"]["histogram"]["counts"]) == 256
        for trial in finding["robustness"]:
            assert {"attack", "parameter", "bit_error_rate", "verdict"} <= trial.keys()
        assert {trial["attack"] for trial in finding["robustness"]} == {"prune", "quantize", "cluster", "noise"}

    def test_the_same_audit_gives_the_same_bytes(self, capsys):
        first = call(capsys, "audit", MARKED, "--key", KEY, "--format", "json")
        assert first == call(capsys, "audit", MARKED, "--key", KEY, "--format", "json")
        other_seed = call(capsys, "audit", MARKED, "--key", KEY, "--format", "json", "--seed", "1")
        assert other_seed[1] != first[1]

    def test_files_beside_standard_output(self, capsys, tmp_path):
        code, out, _ = call(
            capsys,
            "audit",
            MARKED,
            "--key",
            KEY,
            "-o",
            f"json={tmp_path / 'a.json'}",
            "-o",
            f"rich={tmp_path / 'a.txt'}",
        )
        assert code == 0
        assert "MATCH" in out
        assert json.loads((tmp_path / "a.json").read_text())["verdict"] == "match"
        assert "MATCH" in (tmp_path / "a.txt").read_text()

    def test_foreign_key_without_message_warns(self, capsys, host, tmp_path):
        np.save(tmp_path / "w.npy", np.random.default_rng(0).standard_normal((72, 32)))
        code, out, err = call(capsys, "audit", host, "--key", tmp_path / "w.npy")
        assert code == 1
        assert "all ones" in err.replace("\n", " ")
        assert "free-form" in out

    def test_registered_and_alpha(self, capsys):
        _, out, _ = call(capsys, "audit", MARKED, "--key", KEY, "--registered", "--alpha", "1e-9", "--format", "json")
        document = json.loads(out)
        assert document["policy"]["alpha"] == 1e-9
        assert document["findings"][0]["standing"] == "registered"


class TestKeygen:
    def test_from_a_model(self, capsys, host, tmp_path):
        code, out, _ = call(
            capsys,
            "keygen",
            "--model",
            host,
            "--layer",
            "conv1.weight",
            "--bits",
            "32",
            "-o",
            tmp_path / "k.npy",
            "--format",
            "json",
        )
        document = json.loads(out)
        key = load_key(tmp_path / "k.npy")
        assert code == 0
        assert document["commitment"] == key.commitment
        assert key.carrier.shape == SHAPE
        assert key.carrier.node == "node_conv_1"
        assert key.premark is not None
        assert (tmp_path / "k.npy").stat().st_mode & 0o777 == 0o600

    def test_the_layer_is_chosen_where_none_is_named(self, capsys, host, tmp_path):
        assert call(capsys, "keygen", "--model", host, "--bits", "64", "-o", tmp_path / "k.npy")[0] == 0
        assert load_key(tmp_path / "k.npy").carrier.name == "conv1.weight"

    @pytest.mark.parametrize("generator", ["rademacher", "gaussian", "direct", "diff"])
    @pytest.mark.parametrize("carrier", ["full", "mean-ihw", "mean-hwi", "fold:1024"])
    def test_from_a_shape(self, capsys, tmp_path, generator, carrier):
        code, out, err = call(
            capsys, "keygen", "--shape", "16,8,3,3", "--bits", "32", "--generator", generator, "--carrier", carrier,
            "-o", tmp_path / "k.npy",
        )  # fmt: skip
        key = load_key(tmp_path / "k.npy")
        assert code == 0
        assert key.parameters == {"generator": generator, "carrier": carrier}
        assert key.commitment in out.replace("\n", "")
        assert ("public knowledge" in err) == carrier.startswith("mean")

    def test_own_bits(self, capsys, tmp_path):
        np.save(tmp_path / "b.npy", np.arange(40) % 2)
        call(capsys, "keygen", "--shape", "16,8,3,3", "--message", tmp_path / "b.npy", "-o", tmp_path / "k.npy")
        assert load_key(tmp_path / "k.npy").payload.tolist() == (np.arange(40) % 2).tolist()

    def test_two_keys_differ(self, capsys, tmp_path):
        for name in ("a", "b"):
            call(capsys, "keygen", "--shape", "16,8,3,3", "-o", tmp_path / f"{name}.npy")
        assert load_key(tmp_path / "a.npy").seed != load_key(tmp_path / "b.npy").seed


class TestEmbedAndInspect:
    def test_the_whole_way(self, capsys, host, tmp_path):
        key, marked = tmp_path / "k.npy", tmp_path / "marked.onnx"
        before = host.read_bytes()
        assert call(capsys, "keygen", "--model", host, "--layer", "conv1.weight", "--bits", "64", "-o", key)[0] == 0
        assert call(capsys, "audit", host, "--key", key)[0] == 1
        code, out, _ = call(capsys, "embed", host, "--key", key, "-o", marked, "--format", "json")
        assert code == 0
        assert json.loads(out)["margin"]["reached"] >= 2.0
        assert call(capsys, "audit", marked, "--key", key)[0] == 0
        assert host.read_bytes() == before

    def test_calibration_spares_the_outputs(self, capsys, tmp_path):
        calibration = DEMO / "calibration.npz"
        moved = {}
        for name, arguments in (("plain", ()), ("metric", ("--calibration", calibration))):
            _, out, _ = call(
                capsys,
                "embed",
                DEMO / "unmarked.onnx",
                "--key",
                KEY,
                "-o",
                tmp_path / f"{name}.onnx",
                "--format",
                "json",
                *arguments,
            )
            moved[name] = json.loads(out)
        assert moved["plain"]["fidelity"] is None
        fidelity = moved["metric"]["fidelity"]
        assert fidelity["n_inputs"] == 256
        assert fidelity["relative_change"] < 0.05
        assert fidelity["decisions_changed"] <= 3
        assert call(capsys, "audit", tmp_path / "metric.onnx", "--key", KEY)[0] == 0

    def test_inspect(self, capsys, host):
        code, out, _ = call(capsys, "inspect", host, MARKED, "--format", "json")
        document = json.loads(out)
        assert code == 0
        assert [model["path"] for model in document["models"]] == [str(host), MARKED]
        layer = document["models"][0]["layers"][1]
        assert (layer["name"], layer["op"], layer["shape"]) == ("conv1.weight", "Conv", list(SHAPE))
        assert layer["capacity"]["ratio"] == pytest.approx(256 / 1152)
        assert "room for 256 bits" in call(capsys, "inspect", host)[1]
        assert layer["folding"]["state"] == "none"
        assert layer["profile"]["n_levels"] > 1000

    def test_inspect_in_detail_and_in_brief(self, capsys):
        out = call(capsys, "inspect", MARKED, "--detail")[1]
        for words in ("a bias and no normalisation after it", "different values", "largest margin", "node_Conv"):
            assert words in out
        brief = json.loads(call(capsys, "inspect", MARKED, "--list", "--format", "json")[1])
        assert brief["models"][0]["layers"][2]["profile"] is None

    def test_inspect_goes_on_past_a_broken_file(self, capsys, host, tmp_path):
        (tmp_path / "broken.onnx").write_bytes(host.read_bytes()[:200])
        code, out, err = call(capsys, "inspect", tmp_path / "broken.onnx", host, "--format", "json")
        assert code == 3
        assert "truncated" in err
        assert json.loads(out)["status"] == "partial"


def bad_inputs(tmp_path, host):
    """Every way to hand over something that is no model or no key: (arguments, exit code, words)."""
    data = host.read_bytes()
    files = {
        "truncated.onnx": (data[: len(data) // 2], 3, "truncated"),
        "empty.onnx": (b"", 3, "empty"),
        "pointer.onnx": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", 3, "git lfs pull"),
        "text.onnx": (b"hello, I am no model\n" * 20, 3, "text.onnx"),
        "html.onnx": (b"<!DOCTYPE html><html></html>", 3, "html.onnx"),
        "torch.onnx": (b"PK\x03\x04" + bytes(100), 3, "torch.onnx"),
        "noise.onnx": (np.random.default_rng(0).bytes(5000), 3, "noise.onnx"),
    }
    for name, (content, code, words) in files.items():
        (tmp_path / name).write_bytes(content)
        yield ("audit", tmp_path / name, "--key", KEY), code, words
    yield ("audit", tmp_path, "--key", KEY), 2, "directory"
    yield ("audit", tmp_path / "missing.onnx", "--key", KEY), 2, "missing.onnx"
    (tmp_path / "hostile.npy").write_bytes(
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1048576, 524288), }".ljust(117)
        + b"\n"
    )
    (tmp_path / "pickled.npy").write_bytes(b"\x80\x04\x95")
    yield ("audit", host, "--key", tmp_path / "hostile.npy"), 2, "damaged or cut short"
    yield ("audit", host, "--key", tmp_path / "pickled.npy"), 2, "not a .npy file"
    yield ("audit", host, "--key", tmp_path / "missing.npy"), 2, "No such file"
    yield ("audit", host), 2, "at least one key"
    yield ("audit", host, "--keys", tmp_path / "nowhere"), 2, "not a directory"
    yield ("audit", host, "--key", KEY, "--alpha", "7"), 2, "between 0 and 1"
    yield ("audit", host, "--key", KEY, "--layer", "conv9"), 2, "no layer 'conv9'"
    yield ("audit", host, "--key", KEY, "-o", "pdf=x"), 2, "FMT=PATH"
    yield ("audit", MARKED, "--key", KEY, "-o", f"json={tmp_path / 'no' / 'where.json'}"), 2, "cannot write"
    yield ("audit", host, "--key", KEY, "--message", KEY), 2, "holds its own message"
    yield ("audit", host, "--no-such-option"), 2, "no-such-option"
    yield ("no-such-command",), 2, "no-such-command"
    yield ("keygen", "-o", tmp_path / "k.npy"), 2, "either --model or --shape"
    yield ("keygen", "--shape", "16,x", "-o", tmp_path / "k.npy"), 2, "not a shape"
    yield ("keygen", "--shape", "16,0,3,3", "-o", tmp_path / "k.npy"), 2, "at least 1"
    yield ("keygen", "--shape", "8,8", "--generator", "diff", "-o", tmp_path / "k.npy"), 2, "take fewer bits"
    yield ("keygen", "--shape", "8,8", "--carrier", "half", "-o", tmp_path / "k.npy"), 2, "unknown carrier 'half'"
    yield ("keygen", "--shape", "8,8", "-o", tmp_path / "no" / "k.npy"), 2, "cannot be written"
    yield ("keygen", "--model", host, "--layer", "conv1.weight", "-o", KEY), 2, "never overwritten"
    yield ("embed", host, "--key", KEY, "-o", tmp_path / "m.onnx"), 2, "no layer fits the key"
    yield ("embed", MARKED, "--key", KEY, "-o", tmp_path / "m.onnx", "--margin", "-1"), 2, "--margin"
    yield ("embed", MARKED, "--key", KEY, "-o", MARKED), 2, "itself"
    yield ("embed", MARKED, "--key", KEY, "--calibration", KEY, "-o", tmp_path / "m.onnx"), 2, "not numbers"
    yield (
        ("embed", MARKED, "--key", KEY, "--calibration", tmp_path / "no.npz", "-o", tmp_path / "m.onnx"),
        2,
        "no such file",
    )


def test_bad_input_ends_in_one_line_and_the_right_code(capsys, tmp_path, host):
    for arguments, expected, words in bad_inputs(tmp_path, host):
        code, out, err = call(capsys, *arguments)
        assert code == expected, (arguments, code, err)
        assert words in err, (arguments, err)
        assert len(err.strip().splitlines()) == 1, (arguments, err)
        assert err.startswith("onnxmark: "), (arguments, err)
        assert out == "", (arguments, out)


def test_an_unreadable_model_still_gives_a_document(capsys, tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")
    code, out, _ = call(capsys, "audit", tmp_path / "empty.onnx", "--key", KEY, "--format", "json")
    document = json.loads(out)
    assert code == 3
    assert (document["status"], document["verdict"], document["findings"]) == ("failed", "inconclusive", [])
    assert "empty" in document["problem"]


def test_a_layer_that_cannot_be_read_makes_the_document_partial(capsys, tmp_path):
    import onnx

    path = conv_chain(tmp_path / "m.onnx", [kernel((64, 32, 3, 3))])
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").unlink()
    code, out, _ = call(capsys, "audit", path, "--key", KEY, "--format", "json")
    document = json.loads(out)
    assert code == 3
    assert (document["status"], document["verdict"]) == ("partial", "inconclusive")
    assert "m.data" in document["coverage"]["failed"][0]["problem"]


def test_debug_shows_the_traceback(tmp_path):
    from onnxmark.errors import OnnxmarkError

    with pytest.raises(OnnxmarkError, match="No such file"):
        run(["--debug", "audit", MARKED, "--key", str(tmp_path / "missing.npy")])


def test_a_bug_is_one_line_too(capsys, monkeypatch):
    monkeypatch.setattr("onnxmark.audit.audit_model", lambda *_, **__: 1 / 0)
    code, _, err = call(capsys, "audit", MARKED, "--key", KEY)
    assert code == 2
    assert err.startswith("onnxmark: internal error: ZeroDivisionError: division by zero; please report it")
    assert len(err.splitlines()) == 1


def test_interruption(capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxmark.audit.audit_model", interrupt)
    assert call(capsys, "audit", MARKED, "--key", KEY)[0] == 130


def test_secrets_stay_in_the_key(capsys, tmp_path, host):
    key = load_key(KEY)
    seed = key.seed.reveal()
    outputs = []
    for arguments in (
        ("audit", MARKED, "--key", KEY),
        ("audit", MARKED, "--key", KEY, "--format", "json", "-o", f"rich={tmp_path / 'r.txt'}"),
        ("audit", MARKED, "--key", OTHER, "--format", "json"),
        ("embed", DEMO / "unmarked.onnx", "--key", KEY, "-o", tmp_path / "m.onnx", "--format", "json"),
        ("audit", host, "--key", KEY, "--format", "json"),
    ):
        outputs.extend(call(capsys, *arguments)[1:])
    text = "\n".join([*outputs, (tmp_path / "r.txt").read_text()])
    message = "".join(map(str, key.message.tolist()))
    for secret in (seed, key.salt, key.master.reveal(), np.packbits(key.message).tobytes()):
        assert secret.hex() not in text
        assert base64.b64encode(secret).decode()[:40] not in text
        assert str(list(secret))[1:-1] not in text
    assert message[:64] not in text
    assert ", ".join(message[:64]) not in text
    assert key.seed.reveal() not in (tmp_path / "m.onnx").read_bytes()


def test_names_from_a_model_are_shown_harmlessly(capsys, tmp_path):
    name = "[bold red]x[/] \x1b[31mred\x07 \u202eevil " + "y" * 10_000
    path = conv_chain(tmp_path / "m.onnx", [kernel((64, 32, 3, 3))], [name])
    for arguments in (("inspect", path), ("audit", path, "--key", KEY)):
        _, out, err = call(capsys, *arguments)
        assert "\x1b" not in out + err
        assert "\x07" not in out
        assert "\u202e" not in out
        assert "[bold red]x[/]" in out.replace("\n", "")
        assert len(out) < 20_000
    _, out, _ = call(capsys, "audit", path, "--key", KEY, "--format", "json")
    assert json.loads(out)["findings"][0]["carrier"]["name"] == name


def process(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "onnxmark", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_json_survives_a_narrow_terminal():
    result = process("audit", MARKED, "--key", KEY, "--format", "json", COLUMNS="20")
    assert result.returncode == 0
    assert json.loads(result.stdout)["verdict"] == "match"


def test_a_narrow_colourless_terminal():
    result = process("audit", MARKED, "--key", KEY, COLUMNS="40", NO_COLOR="1", TERM="dumb")
    assert result.returncode == 0
    assert "\x1b" not in result.stdout


def test_the_demo_tells_its_story():
    result = process("demo", COLUMNS="120")
    assert result.returncode == 0, result.stdout + result.stderr
    assert [line for line in result.stdout.splitlines() if line.startswith("exit code")] == [
        "exit code 0", "exit code 0", "exit code 1", "exit code 1", "exit code 0",
    ]  # fmt: skip


def test_help_has_examples_and_loads_nothing_heavy():
    for arguments in ([], ["audit"], ["embed"], ["keygen"], ["inspect"], ["demo"]):
        code = (
            "import sys; from onnxmark.cli import run; run({!r}); "
            "heavy = ('numpy', 'onnx', 'onnxruntime', 'torch', 'scipy'); "
            "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
        ).format([*arguments, "--help"])
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stderr.strip() == "[]"
        assert not arguments or "Examples:" in result.stdout
    assert (
        "Exit codes"
        in subprocess.run(
            [sys.executable, "-m", "onnxmark", "--help"], capture_output=True, text=True, check=True
        ).stdout
    )


def test_an_audit_loads_neither_onnx_nor_a_framework():
    code = (
        f"import sys; from onnxmark.cli import run; code = run(['audit', {MARKED!r}, '--key', {KEY!r}]); "
        "print([m for m in ('onnx', 'onnxruntime', 'torch', 'scipy') if m in sys.modules], code, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[] 0"
