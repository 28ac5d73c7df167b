"""Removal attacks that train: what a thief with images and time does to a network before he passes it on.

They share the vocabulary of :mod:`onnxmark.attacks`, and their outcome is reported in the same document; see
:mod:`onnxmark_torch.attacks.trials`.
"""

from onnxmark_torch.attacks.admm import AdmmClusteringTraining, AdmmPruningTraining, AdmmQuantisationTraining
from onnxmark_torch.attacks.attack import TrainingAttack, TrainingMeans, carry_out, is_training_attack
from onnxmark_torch.attacks.distillation import Distillation, HardDistillation
from onnxmark_torch.attacks.fine_pruning import FinePruning
from onnxmark_torch.attacks.fine_tuning import CrossDomain, FineTuneAll, FineTuneLast, RetrainAll, RetrainLast
from onnxmark_torch.attacks.overwriting import TrainedOverwriting
from onnxmark_torch.attacks.quantisation import QuantisationAwareTraining
from onnxmark_torch.attacks.trials import TrialBench

__all__ = [
    "AdmmClusteringTraining",
    "AdmmPruningTraining",
    "AdmmQuantisationTraining",
    "CrossDomain",
    "Distillation",
    "FinePruning",
    "FineTuneAll",
    "FineTuneLast",
    "HardDistillation",
    "QuantisationAwareTraining",
    "RetrainAll",
    "RetrainLast",
    "TrainedOverwriting",
    "TrainingAttack",
    "TrainingMeans",
    "TrialBench",
    "carry_out",
    "is_training_attack",
]
