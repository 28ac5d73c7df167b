"""Keys that ask the model: it is run on the inputs of the key, and only where the caller allows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onnxmark.arrays import AnyArray
from onnxmark.audit.findings import Candidate
from onnxmark.errors import CalibrationError, MissingExtra, ModelError
from onnxmark.keys import Key
from onnxmark.model.running.asking import ask
from onnxmark.schemes.scheme import Answers, AnswerScheme, PlainReading
from onnxmark.views import View

_READING: Final = PlainReading("answers")
_NOT_RUN: Final = "the key asks the model, which an audit runs only when it is told to: add --run"


@dataclass(frozen=True, slots=True)
class Oracle:
    """The model as something that answers.

    Args:
        ask: From inputs (n, ...) to answers.
        inputs: For keys that hold a digest of their inputs only: the inputs.
    """

    ask: Callable[[AnyArray], Answers]
    inputs: AnyArray | None = None

    @classmethod
    def of_file(cls, path: Path, *, inputs: AnyArray | None = None, provider: str | None = None) -> Oracle:
        """A model run by ONNX Runtime when it is asked, and not before.

        Args:
            path: The model.
            inputs: As above.
            provider: Execution provider, as ONNX Runtime names it; None takes the best there is.
        """

        def answered(asked: AnyArray) -> Answers:
            found = ask(path, asked, provider=provider)
            return Answers(found.decisions, found.scores)

        return cls(answered, inputs)


def read_answers(key: Key, oracle: Oracle | None, scheme: AnswerScheme) -> tuple[Candidate, ...]:
    """The one reading of a key that asks.

    Args:
        key: The key.
        oracle: The model; None where it must not be run.
        scheme: The key's scheme.

    Raises:
        KeyFileError: The key's inputs are not there, or make no sense.
    """
    why = "the model was not run"
    if oracle is None:
        return (Candidate((), View.STORED, _READING, why, problem=_NOT_RUN),)
    inputs = scheme.inputs(key, oracle.inputs)
    try:
        answers = oracle.ask(inputs)
    except (CalibrationError, MissingExtra, ModelError) as error:
        return (Candidate((), View.STORED, _READING, why, problem=str(error)),)
    return (Candidate((), View.STORED, _READING, f"asked {len(inputs):,} inputs", scheme.extract(key, answers)),)
