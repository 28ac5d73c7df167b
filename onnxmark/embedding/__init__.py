"""Embedding a message into finished weights in closed form: no training, no labels, and a margin that is a promise."""

from onnxmark.embedding.capacity import Capacity, capacity
from onnxmark.embedding.closed_form import Embedding, embed_message
from onnxmark.embedding.metric import ActivationMetric

__all__ = ["ActivationMetric", "Capacity", "Embedding", "capacity", "embed_message"]
