"""Is this key's mark in this model? A pure function of what is read, keys and policy.

What is tried is counted first and corrected for afterwards.
"""

from onnxmark.audit.answers import Oracle
from onnxmark.audit.auditing import audit_file, audit_model, seen_weights
from onnxmark.audit.findings import Audit, Candidate, Finding, ModelFacts
from onnxmark.audit.layers import named_sites
from onnxmark.audit.schemes import Schemes, built_in

__all__ = [
    "Audit",
    "Candidate",
    "Finding",
    "ModelFacts",
    "Oracle",
    "Schemes",
    "audit_file",
    "audit_model",
    "built_in",
    "named_sites",
    "seen_weights",
]
