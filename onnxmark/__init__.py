"""onnxmark: embed, attack and audit ownership watermarks in neural networks stored as ONNX.

    from onnxmark import audit_file, load_key

    audit = audit_file("model.onnx", [load_key("key.npy")])
    print(audit.verdict)

The names below are the public interface; they are imported when they are first used, so that ``import onnxmark`` costs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxmark._version import __version__

if TYPE_CHECKING:
    from onnxmark.attacker import Attacker
    from onnxmark.attacking import Attacking, attack_file
    from onnxmark.audit import Audit, Finding, audit_file, audit_model
    from onnxmark.errors import OnnxmarkError
    from onnxmark.keymaking import make_key
    from onnxmark.keys import Carrier, ForeignKey, Key, load_key, save_key
    from onnxmark.marking import Marking, embed_file
    from onnxmark.model import Model, open_model
    from onnxmark.robustness import Trial, sweep
    from onnxmark.verdict import Policy, Standing, Verdict

_HOME = {
    "Attacker": "onnxmark.attacker",
    "Attacking": "onnxmark.attacking",
    "Audit": "onnxmark.audit",
    "Carrier": "onnxmark.keys",
    "Finding": "onnxmark.audit",
    "ForeignKey": "onnxmark.keys",
    "Key": "onnxmark.keys",
    "Marking": "onnxmark.marking",
    "Model": "onnxmark.model",
    "OnnxmarkError": "onnxmark.errors",
    "Policy": "onnxmark.verdict",
    "Standing": "onnxmark.verdict",
    "Trial": "onnxmark.robustness",
    "Verdict": "onnxmark.verdict",
    "attack_file": "onnxmark.attacking",
    "audit_file": "onnxmark.audit",
    "audit_model": "onnxmark.audit",
    "embed_file": "onnxmark.marking",
    "load_key": "onnxmark.keys",
    "make_key": "onnxmark.keymaking",
    "open_model": "onnxmark.model",
    "save_key": "onnxmark.keys",
    "sweep": "onnxmark.robustness",
}

__all__ = [
    "Attacker",
    "Attacking",
    "Audit",
    "Carrier",
    "Finding",
    "ForeignKey",
    "Key",
    "Marking",
    "Model",
    "OnnxmarkError",
    "Policy",
    "Standing",
    "Trial",
    "Verdict",
    "__version__",
    "attack_file",
    "audit_file",
    "audit_model",
    "embed_file",
    "load_key",
    "make_key",
    "open_model",
    "save_key",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'onnxmark' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
