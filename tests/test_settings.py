"""Settings as users write them."""

from dataclasses import dataclass
from typing import Literal

import pytest

from onnxmark.errors import SettingError
from onnxmark.settings import settings, typed


@dataclass(frozen=True)
class Options:
    length: int | None = None
    rate: float = 0.5
    way: Literal["up", "down"] = "up"
    loud: bool = False
    name: str = ""

    def __post_init__(self):
        if self.rate > 1:
            raise ValueError("a rate is at most 1")


def test_values_take_the_types_of_their_fields():
    found = settings(Options, ["length=560", "rate = 95%", "way=down", "loud=yes", "name=a=b"], "scheme 'x'")
    assert found == Options(560, 0.95, "down", True, "a=b")
    assert settings(Options, [], "scheme 'x'") == Options()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("length", r"scheme 'x': 'length' is not NAME=VALUE"),
        ("lenght=3", r"no setting 'lenght' \(there are: length, rate, way, loud, name\); did you mean 'length'\?"),
        ("zzz=3", r"no setting 'zzz' \(there are: length, rate, way, loud, name\)$"),
        ("length=much", "length must be a whole number, found 'much'"),
        ("rate=high", "rate must be a number, found 'high'"),
        ("loud=perhaps", "loud must be true or false, found 'perhaps'"),
        ("way=left", "way must be one of up, down, found 'left'"),
        ("rate=2", "scheme 'x': a rate is at most 1"),
    ],
)
def test_what_cannot_be_is_told(given, words):
    with pytest.raises(SettingError, match=words):
        settings(Options, [given], "scheme 'x'")


def test_hyphens_are_underscores_in_names_only():
    @dataclass(frozen=True)
    class Long:
        two_words: str = ""

    assert settings(Long, ["two-words=a-b"], "x") == Long("a-b")


@pytest.mark.parametrize(("hint", "text", "value"), [(float, "5%", 0.05), (int, "7", 7), (bool, "off", False)])
def test_typed(hint, text, value):
    assert typed(hint, text) == value
