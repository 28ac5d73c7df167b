"""Keys: what an owner keeps secret, how it grows from a seed, and the file it lives in."""

from onnxmark.keys.container import encode_key, load_key, load_message, save_key
from onnxmark.keys.key import AnyKey, Carrier, ForeignKey, Key, as_bits, check_bits, commitment_of, draw_secret_parts
from onnxmark.keys.secret import Secret
from onnxmark.keys.signature import PremarkSignature, premark_signature, weights_digest

__all__ = [
    "AnyKey",
    "Carrier",
    "ForeignKey",
    "Key",
    "PremarkSignature",
    "Secret",
    "as_bits",
    "check_bits",
    "commitment_of",
    "draw_secret_parts",
    "encode_key",
    "load_key",
    "load_message",
    "premark_signature",
    "save_key",
    "weights_digest",
]
