"""Documents as the commands really make them, one for each situation, made once a session; scans without workers."""

import copy
import io
import json
import sys
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import onnx

import onnxmark
from onnxmark.cli import run
from onnxmark.conversion import Container, Conversion
from onnxmark.conversion.origins import WeightOrigin
from onnxmark.registry.alarms import Alarm
from onnxmark.registry.conclude import conclude
from onnxmark.report.documents.conversion import conversion_document
from onnxmark.verdict import Policy
from tests.onnx_models import conv_chain, kernel
from tests.registry import synthetic
from tests.report import synthetic_evaluations

DEMO = Path(onnxmark.__file__).parent / "demo_data"
MARKED, UNMARKED, KEY, OTHER, INPUTS = (
    str(DEMO / name) for name in ("marked.onnx", "unmarked.onnx", "key.npy", "other_key.npy", "calibration.npz")
)

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\n\n# x",
    "＝1+1",
    "[bold red]x[/]",
    "[x](javascript:alert(1))",
    "{0} %s \\",
    "\x1b[31mred\x07",
    "\x00\x08\x0b\ufffe\uffff",
    "\ud800 alone",
    "\u202eevil\u2066",
    "a,b;c|d`e`\"f'",
    "]]><!-- &amp; &lt;",
    "x" * 10_000,
)
"""What a layer, a file or a producer may be called."""


SITUATIONS = (
    "match",
    "match, answers measured",
    "match, attacks that cannot be tried",
    "match, registered",
    "no match",
    "several keys",
    "no layer fits",
    "degenerate",
    "layer unreadable",
    "model unreadable",
    "foreign key",
    "inspect",
    "inspect, detail",
    "inspect, brief",
    "inspect, layer unreadable",
    "inspect, one unreadable",
    "inspect, none readable",
    "key of a model",
    "key of a shape",
    "marking",
    "marking, measured",
    "attack",
    "attack, measured",
    "attacks",
    "scan",
    "scan, complete",
    "scan, no match",
    "scan, nothing there",
    "conversion",
    "conversion, weights only",
    "evaluation",
    "evaluation, partial",
)


@cache
def real_documents():
    """Every situation: name -> document."""
    with tempfile.TemporaryDirectory() as room:
        commands = situations(Path(room))
        commanded = {name: made(commands[name]) for name in SITUATIONS if name in commands}
        return commanded | scans() | conversions() | evaluations()


def scans():
    """Documents of scans, concluded from results that no worker had to make."""
    older = [pair for pair in synthetic.mixed() if pair[0].identity != "zoo/copy of resnet18.onnx"]
    older.append((synthetic.model("gone.onnx"), synthetic.audited([synthetic.hit(3)])))
    marked = [(synthetic.model("a.onnx"), synthetic.audited([synthetic.hit(1)]))]
    clean = [(synthetic.model(f"{name}.onnx"), synthetic.audited()) for name in "bcd"]
    common = {"roots": ["/models"], "keys": synthetic.keys()}
    baseline = conclude(older, Policy(), **common)
    return {
        "scan": conclude(synthetic.mixed(), Policy(), fail_on=Alarm.MATCH, baseline=baseline, **common),
        "scan, complete": conclude(marked + clean, Policy(registered=True), **common),
        "scan, no match": conclude(clean, Policy(), fail_on=Alarm.NO_MATCH, **common),
        "scan, nothing there": conclude([], Policy(), **common),
    }


def conversions():
    """Documents of conversions that no framework had to make."""
    folded = WeightOrigin("onnx::Conv_89", "stem/kernel", (64, 32, 3, 3), "HWIO", 3e-8, np.ones(64, np.float32))
    close = WeightOrigin("head_quantized", "head/kernel", (10, 64), "IO", 0.012)
    names = ("stem/kernel", "head/kernel")
    common = {"route": "keras 3.15 on tensorflow 2.21, tf2onnx 1.17", "n_layers": 3, "weights": names}
    whole = Conversion(
        Path("m.keras"), Container.KERAS, Path("m.onnx"), has_graph=True, notes=(), origins=(folded, close), **common
    )
    notes = ("Whether a convolution is transposed cannot be told from its weights.",)
    bare = Conversion(
        Path("m.pt"), Container.TORCH, Path("m.onnx"), has_graph=False, notes=notes, origins=(close,), **common
    )
    return {"conversion": conversion_document(whole), "conversion, weights only": conversion_document(bare)}


def evaluations():
    """Documents of evaluations, made by hand: real ones take hours."""
    return {"evaluation": synthetic_evaluations.small(), "evaluation, partial": synthetic_evaluations.partial()}


def of_schema(word):
    """The documents of a kind, by situation."""
    schema = f"onnxmark/{word}/v1"
    return {name: document for name, document in real_documents().items() if document["schema"] == schema}


def audit(situation="match"):
    """A copy of a document, to be changed at will."""
    return copy.deepcopy(real_documents()[situation])


def made(arguments):
    code, out = output_of([*arguments, "--format", "json"])
    assert code in (0, 1, 3), out
    return json.loads(out)


def output_of(arguments):
    """Exit code and standard output of a command, as bytes."""
    with captured() as out:
        code = run([str(argument) for argument in arguments])
    return code, out.getvalue()


@contextmanager
def captured():
    raw, (out, err) = io.BytesIO(), (sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = io.TextIOWrapper(raw, encoding="utf-8", write_through=True), io.StringIO()
    try:
        yield raw
    finally:
        # Closing the wrapper would close what it wraps.
        sys.stdout.detach()
        sys.stdout, sys.stderr = out, err


def situations(room):
    other = conv_chain(room / "other.onnx", [kernel((8, 3, 3, 3))])
    fits = conv_chain(room / "fits.onnx", [kernel((64, 32, 3, 3))])
    flat = conv_chain(room / "flat.onnx", [np.zeros((64, 32, 3, 3), np.float32)])
    (room / "broken.onnx").write_bytes(other.read_bytes()[:200])
    lost = conv_chain(room / "lost.onnx", [kernel((64, 32, 3, 3))])
    onnx.save(onnx.load(lost), lost, save_as_external_data=True, location="lost.data", size_threshold=0)
    (room / "lost.data").unlink()
    np.save(room / "matrix.npy", np.random.default_rng(0).standard_normal((288, 32)))
    fast = ("--attacks", "none")
    few = ("--attacks", "noise,prune", "--draws", "2")
    return {
        "match": ("audit", MARKED, "--key", KEY),
        "match, answers measured": ("audit", MARKED, "--key", KEY, *few, "--calibration", INPUTS, "--digest"),
        "match, attacks that cannot be tried": ("audit", MARKED, "--key", KEY, "--attacks", "ort-int4,prune"),
        "match, registered": ("audit", MARKED, "--key", KEY, "--registered", *fast),
        "no match": ("audit", MARKED, "--key", OTHER),
        "several keys": ("audit", MARKED, "--key", KEY, "--key", OTHER, *fast),
        "no layer fits": ("audit", other, "--key", KEY),
        "degenerate": ("audit", flat, "--key", KEY),
        "layer unreadable": ("audit", lost, "--key", KEY),
        "model unreadable": ("audit", room / "broken.onnx", "--key", KEY),
        "foreign key": ("audit", fits, "--key", room / "matrix.npy"),
        "inspect": ("inspect", MARKED, other),
        "inspect, detail": ("inspect", MARKED, "--detail"),
        "inspect, brief": ("inspect", MARKED, "--list"),
        "inspect, layer unreadable": ("inspect", lost),
        "inspect, one unreadable": ("inspect", room / "broken.onnx", other),
        "inspect, none readable": ("inspect", room / "broken.onnx"),
        "key of a model": ("keygen", "--model", other, "--bits", "16", "-o", room / "key.npy"),
        "key of a shape": ("keygen", "--shape", "64,32,3,3", "-o", room / "shape.npy"),
        "marking": ("embed", UNMARKED, "--key", KEY, "-o", room / "marked.onnx"),
        "marking, measured": ("embed", UNMARKED, "--key", KEY, "--calibration", INPUTS, "-o", room / "measured.onnx"),
        "attack": ("attack", MARKED, "--prune", "0.5", "--noise", "0.1", "-o", room / "attacked.onnx"),
        "attack, measured": (
            ("attack", MARKED, "--quantize", "8", "--calibration", INPUTS, "-o", room / "quantized.onnx")
        ),
        "attacks": ("attack", "--list"),
    }
