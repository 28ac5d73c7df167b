"""The three evaluations of MPAI-NNW (IEEE 3304): imperceptibility, robustness, computational cost.

    from onnxmark import plugins
    from onnxmark.evaluation import evaluate, load_plan

    plan = load_plan("plan.toml")
    document = evaluate(plan, plugins.laboratory(plan.laboratory), journal=Path("plan.journal"), jobs=2)

M networks, D payloads, any scheme and any way to embed; what trains them is a laboratory. Detector and decoder see
files, as an auditor would, and whoever modifies networks sees no key.
"""

from onnxmark.evaluation.document import reproducible
from onnxmark.evaluation.estimating import Estimate
from onnxmark.evaluation.evaluating import estimate, evaluate
from onnxmark.evaluation.example import EXAMPLE
from onnxmark.evaluation.laboratory import (
    MODEL,
    Laboratory,
    LaboratoryOf,
    Network,
    Order,
    Rehearsal,
    Score,
    Spent,
    TaskFacts,
)
from onnxmark.evaluation.measuring import Footprint, measured
from onnxmark.evaluation.modifications import ROWS, STANDARD, Modification
from onnxmark.evaluation.plan import Architecture, Embedding, Plan, SchemePlan, TaskPlan, Training
from onnxmark.evaluation.plan_files import load_plan, parse_plan
from onnxmark.evaluation.roles import Decoder, Decoding, Detector, roles_of
from onnxmark.evaluation.running import Progress

__all__ = [
    "EXAMPLE",
    "MODEL",
    "ROWS",
    "STANDARD",
    "Architecture",
    "Decoder",
    "Decoding",
    "Detector",
    "Embedding",
    "Estimate",
    "Footprint",
    "Laboratory",
    "LaboratoryOf",
    "Modification",
    "Network",
    "Order",
    "Plan",
    "Progress",
    "Rehearsal",
    "SchemePlan",
    "Score",
    "Spent",
    "TaskFacts",
    "TaskPlan",
    "Training",
    "estimate",
    "evaluate",
    "load_plan",
    "measured",
    "parse_plan",
    "reproducible",
    "roles_of",
]
