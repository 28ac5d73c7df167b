"""Every error onnxmark raises on purpose, in one tree, so that a caller can catch as widely as it means to.

    OnnxmarkError
    ├── ModelError               the model file cannot serve
    │   ├── ModelUnavailable     missing, a directory, not a regular file, no permission
    │   ├── NotAModel            some other kind of file: empty, text, Git LFS pointer, another format
    │   ├── MalformedModel       starts like a model, then breaks its format: truncated, bad lengths, bad dims
    │   ├── ExternalDataError    external data missing, outside the model's directory, or out of bounds
    │   ├── ModelLimitError      larger or deeper than the limits a reader keeps
    │   ├── WeightsUnresolved    a layer's weights are not constants of the file, or stored in a way we cannot read
    │   ├── WriteBackError       values cannot be put back in the place they came from
    │   └── ConversionError      a model of another framework cannot be converted, or not be put back
    ├── TrustRequired            a container could run code of its own, and nobody said that it may
    ├── KeyFileError             a key file cannot be used: hostile, truncated, of another version
    ├── MessageError             message bits that do not fit the key
    ├── CarrierError             the model has no layer that fits the key or the layer named
    ├── EmbeddingError           the mark does not fit in the carrier
    ├── AttackError              an attack cannot be applied to this layer or model
    ├── CalibrationError         calibration inputs do not fit the model
    ├── SettingError             an option has no such setting, or not this value
    ├── DataError                the files of a data set cannot be used
    ├── ReportError              a saved result cannot be rendered
    ├── JournalError             a journal of finished work cannot be used: torn, foreign, locked, on a full disk
    ├── EngineError              what runs a scan cannot be reached, or went away
    ├── PlanError                the plan of an evaluation cannot be read, or makes no sense
    ├── LaboratoryError          a laboratory cannot do what the plan of an evaluation asks of it
    ├── PluginError              an entry point is missing or broken
    └── MissingExtra             an optional dependency is not installed

A message is one line and says what, where, why and what to do next. Mistakes of the *programmer* stay ``ValueError``.
"""

from __future__ import annotations


class OnnxmarkError(Exception):
    """Root of everything onnxmark raises on purpose."""


class ModelError(OnnxmarkError):
    """The model file cannot serve."""


class ModelUnavailable(ModelError):
    """There is no regular, readable file at the path."""


class NotAModel(ModelError):
    """The file is something else than an ONNX model."""


class MalformedModel(ModelError):
    """The file breaks the ONNX wire format or the rules of a tensor."""


class ExternalDataError(ModelError):
    """External data is missing, escapes the model's directory, or does not fit the file that holds it."""


class ModelLimitError(ModelError):
    """The model is larger or deeper than the reader is willing to follow."""


class WeightsUnresolved(ModelError):
    """A layer's weights are not constants of the file, or pass through an operation we cannot fold."""


class WriteBackError(ModelError):
    """Values cannot be put back in the place they came from."""


class ConversionError(ModelError):
    """A model of another framework cannot be converted to ONNX, or its weights not be put back."""


class TrustRequired(OnnxmarkError):
    """A container could run code of its own when it is opened, and nobody said that it may."""


class KeyFileError(OnnxmarkError):
    """A key file cannot be used."""


class MessageError(OnnxmarkError):
    """The message bits do not fit the key."""


class CarrierError(OnnxmarkError):
    """No layer of the model fits the key, or the layer named does not exist."""


class EmbeddingError(OnnxmarkError):
    """The mark does not fit in the carrier."""


class AttackError(OnnxmarkError):
    """An attack cannot be applied to this layer or model, or lacks what it needs."""


class ReportError(OnnxmarkError):
    """A saved result cannot be rendered."""


class CalibrationError(OnnxmarkError):
    """The calibration inputs do not fit the model."""


class SettingError(OnnxmarkError):
    """There is no such setting, or its value is none it can have."""


class DataError(OnnxmarkError):
    """The files of a data set cannot be used, or their images and labels do not belong together."""


class JournalError(OnnxmarkError):
    """The journal of a scan or an evaluation cannot be used, or not be written any further."""


class EngineError(OnnxmarkError):
    """There is no such engine, it cannot be reached, or it went away in the middle of a scan."""


class PlanError(OnnxmarkError):
    """The plan of an evaluation cannot be read, or makes no sense."""


class LaboratoryError(OnnxmarkError):
    """A laboratory cannot do what the plan of an evaluation asks of it."""


class PluginError(OnnxmarkError):
    """An entry point is missing or broken."""


class MissingExtra(OnnxmarkError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed; run: pip install 'onnxmark[{extra}]'")
        self.package = package
        self.extra = extra
