"""Bytes that must never be shown: a type whose repr, str and pickle give nothing away."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """Secret bytes. Only :meth:`reveal` gives them out, so every place that uses a secret can be searched for."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves, for derivation and for writing a key file."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return f"Secret(<{len(self._value)} bytes>)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        # Workers get keys by reference to their file, never as pickled arguments that end up in logs and caches.
        raise TypeError("a Secret cannot be pickled; pass the path of the key file instead")
