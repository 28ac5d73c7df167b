"""On what terms a scan is made: what shapes a result, in one fingerprint, and which share of a registry is scanned.

Results made on other terms are never used again: another key, another option or another version of the tool could have
seen something else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from onnxmark._version import __version__
from onnxmark.errors import SettingError

Option = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Terms:
    """Everything that shapes the result of a model.

    Args:
        commitments: The keys' commitments, in any order.
        options: What else decides what is read and kept.
        tool: Version of the tool.
    """

    commitments: tuple[str, ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    tool: str = __version__

    @property
    def text(self) -> str:
        """The terms as JSON; equal terms have equal texts."""
        keys = sorted(set(self.commitments))
        document = {"keys": keys, "options": dict(self.options), "tool": self.tool}
        return json.dumps(document, sort_keys=True, allow_nan=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The terms of a text.

        Raises:
            ValueError: It is not one of ours.
        """
        try:
            document = json.loads(text)
            return cls(tuple(document["keys"]), document["options"], document["tool"])
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"these are no terms of a scan: {text[:80]!r}") from error

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several shares of a registry, told by the models' names: the same on every machine and in any order.

    Args:
        index: From 1.
        count: How many there are.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise SettingError(f"there is no shard {self}; write I/N with I from 1 to N, as in 2/8")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard of ``I/N``.

        Raises:
            SettingError: It is written in another way, or there is no such shard.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise SettingError(f"{text!r} is no shard; write I/N with I from 1 to N, as in 2/8")
        return cls(int(match[1]), int(match[2]))

    def holds(self, identity: str) -> bool:
        """Whether the model of this name belongs to this share."""
        name = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(name[:8]) % self.count == self.index - 1
