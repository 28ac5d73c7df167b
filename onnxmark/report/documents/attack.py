"""The documents of an attack that was carried out, and of the attacks that there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnxmark.report.documents.models import fidelity_document
from onnxmark.report.documents.plain import head
from onnxmark.report.formats import Document, Kind

if TYPE_CHECKING:
    from onnxmark.attacking import Attacking, Step
    from onnxmark.attacks.attack import Recipe
    from onnxmark.attacks.entropy_coding import Sizes


def attack_document(attacking: Attacking) -> Document:
    """What ``attack`` did, as data."""
    sizes = attacking.sizes
    return {
        **head(Kind.ATTACK),
        "status": "complete",
        "source": str(attacking.source),
        "output": str(attacking.output),
        "bytes": attacking.output.stat().st_size,
        "seed": attacking.seed,
        "anonymous": attacking.anonymous,
        "recipe": [repr(step.recipe) for step in attacking.steps],
        "steps": [_step(step) for step in attacking.steps],
        "coding": None if sizes is None else _coding(sizes),
        "fidelity": fidelity_document(attacking.fidelity),
    }


def attacks_document(attacks: Sequence[Document]) -> Document:
    """The list of attacks, as data."""
    return {
        **head(Kind.ATTACKS),
        "attacks": list(attacks),
    }


def recipe_facts(recipe: Recipe) -> Document:
    """Which attack, and how strong; its ``repr`` makes it again."""
    return {"attack": recipe.name, "parameter": recipe.parameter, "label": recipe.label, "recipe": repr(recipe)}


def _coding(sizes: Sizes) -> Document:
    """What the layers take in Deep Compression's storage."""
    return {"dense_bits": sizes.dense_bits, "coded_bits": sizes.coded_bits, "ratio": sizes.coded_ratio}


def _step(step: Step) -> Document:
    return {
        **recipe_facts(step.recipe),
        "layers": [
            {
                "name": layer.name,
                "shape": list(layer.shape),
                "relative_change": layer.relative_change,
                "sparsity": layer.sparsity,
                "problem": layer.problem,
            }
            for layer in step.layers
        ],
        "notes": list(step.notes),
    }
