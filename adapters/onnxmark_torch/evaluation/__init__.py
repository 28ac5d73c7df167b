"""Where networks of an evaluation after MPAI-NNW (IEEE 3304) are trained with PyTorch; see :mod:`onnxmark.evaluation`.

The entry point ``torch`` of the group ``onnxmark.laboratories`` names :func:`laboratory`.
"""

from onnxmark_torch.evaluation.laboratory import TorchLaboratory, laboratory

__all__ = ["TorchLaboratory", "laboratory"]
