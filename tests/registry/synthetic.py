"""Raw results as workers hand them over, without models or workers: what a real audit found, under other names."""

import hashlib
import json
from functools import cache
from pathlib import Path

import onnxmark
from onnxmark.audit import audit_file
from onnxmark.keys import load_key
from onnxmark.registry.entries import Found, Outcome
from onnxmark.report.documents.findings import finding_document

DEMO = Path(onnxmark.__file__).parent / "demo_data"
VERDICTS = ("verdict", "p_value", "log10_p_value", "n_hypotheses", "standing", "clears_seed_search")
"""What a worker leaves out of a finding."""


@cache
def _real_finding():
    (finding,) = audit_file(DEMO / "marked.onnx", [load_key(DEMO / "key.npy")]).findings
    document = finding_document(finding)
    return json.dumps({name: value for name, value in document.items() if name not in VERDICTS})


def real_finding():
    """What a worker found in the marked model of the demo."""
    return json.loads(_real_finding())


def commitment(number):
    return hashlib.sha256(f"key {number}".encode()).hexdigest()


def digest(word):
    return hashlib.sha256(f"weights {word}".encode()).hexdigest()


def public(number, origin="seed"):
    """The public side of a key."""
    file = {"file": f"matrix{number}.npy"} if origin == "matrix" else {}
    return {"commitment": commitment(number), "scheme": "projection", "origin": origin, **file}


def hit(number, log10_p=-77.0, weights=None, origin="seed"):
    """A reading that was kept."""
    finding = real_finding()
    finding["key"] = public(number, origin)
    return {"finding": finding, "log10_p": log10_p, "digest": None if weights is None else digest(weights)}


def doubt(number, reason="a layer that may be the carrier cannot be read: 'conv9': the data ends early"):
    return {"key": commitment(number), "reason": reason}


def audited(hits=(), doubts=(), unread=(), *, n_keys=10, n_hypotheses=40, size=1_500_000, sha256=None):
    """The result of a model that was audited."""
    return {
        "status": "audited",
        "problem": None,
        "model": {"bytes": size, "producer": "pytorch", "opset": 17, "sha256": sha256},
        "layers": {
            "found": 21,
            "audited": 9,
            "skipped": 12 - len(unread),
            "failed": [{"name": name, "problem": "the data ends early"} for name in unread],
        },
        "n_keys": n_keys,
        "n_hypotheses": n_hypotheses,
        "hits": list(hits),
        "doubts": list(doubts),
    }


def failed(problem="'m.onnx': truncated at byte 7"):
    """The result of a model that could not be audited."""
    return {
        "status": "failed", "problem": problem, "model": None, "layers": None,
        "n_keys": 0, "n_hypotheses": 0, "hits": [], "doubts": [],
    }  # fmt: skip


def model(name, layout="plain", root="/models", size=1_500_000):
    return Found(name, layout, f"{root}/{name}", Outcome.MODEL, size)


def left(name, outcome=Outcome.SKIPPED, reason="excluded by --exclude '*.bak'"):
    return Found(name, "plain", f"/models/{name}", outcome, 134, None, reason)


def mixed():
    """A registry with everything in it: (what was found, its result or None), in no particular order."""
    return [
        (model("zoo/resnet18.onnx"), audited([hit(3, weights="stem")])),
        (model("zoo/copy of resnet18.onnx"), audited([hit(3, weights="stem")])),
        (model("org/net@0123456789ab/onnx/model.onnx", "hugging-face"),
         audited([hit(3, weights="stem"), hit(5, -9.5)])),
        (model("detector/2", "triton"), audited([hit(3, -30.25, weights="pruned")], [doubt(3), doubt(4), doubt(5)])),
        (model("matrix.onnx"), audited([hit(9, -40.0, "matrix", origin="matrix")])),
        (model("near.onnx"), audited([hit(5, -8.0)])),
        (model("half.onnx"), audited((), [doubt(number) for number in range(10)], ["conv9", "conv10"])),
        (model("zeros.onnx"), audited((), [doubt(7, "all weights are zero")])),
        (model("clean.onnx"), audited(size=23_000_000)),
        (model("alike.onnx", root="/a"), audited()),
        (model("alike.onnx", root="/b"), audited()),
        (model("broken.onnx"), failed()),
        (model("hung.onnx"), failed("worker-killed: no answer within 300 s")),
        (model("waiting.onnx"), None),
        (Found("locked.onnx", "plain", "/models/locked.onnx", Outcome.FAILED, 0, None, "permission denied"), None),
        (left("old.onnx.bak"), None),
        (left("older.onnx.bak"), None),
        (left("weights.safetensors", Outcome.UNSUPPORTED, "safetensors: 'onnxmark convert' makes ONNX of it"), None),
        (left("big.onnx", Outcome.POINTER, "Git LFS pointer: run 'git lfs pull'"), None),
    ]  # fmt: skip


def keys(count=10, matrices=(9,)):
    return [public(number, "matrix" if number in matrices else "seed") for number in range(count)]


def large(n_models=10_000, n_keys=200, n_planted=25, n_failed=40, n_doubtful=30):
    """A registry of a realistic size: the planted marks are in every 400th model, two copies of each."""
    stems = ("resnet18", "resnet50", "mobilenet_v2", "wrn_28_10", "efficientnet_b0")
    for number in range(n_models):
        name = f"team{number % 17:02d}/{stems[number % 5]}-run{number:05d}/model.onnx"
        found = model(name, size=500_000 + 9_973 * number)
        step, place = divmod(number, max(1, n_models // (2 * n_planted)))
        size = {"n_keys": n_keys, "n_hypotheses": 8 * n_keys, "size": found.size}
        if place == 0 and step < 2 * n_planted:
            planted = step // 2
            yield found, audited([hit(planted, -20.0 - planted, weights=planted)], **size)
        elif place == 1 and step < n_failed:
            yield found, failed(f"{name!r}: truncated at byte {number}")
        elif place == 2 and step < n_doubtful:
            yield found, audited([], [doubt(one) for one in range(n_keys)], ["features.0.weight"], **size)
        else:
            yield found, audited(**size)
