"""Opening a Keras file: its configuration read and judged first, then the model built and filled with its weights.

The order matters. Whatever a configuration names is built while Keras loads it, so that a file has to be refused before
Keras sees it.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from onnxmark.conversion import Container, Request
from onnxmark.errors import ConversionError, TrustRequired
from onnxmark_tf.factories import build
from onnxmark_tf.frameworks import first_line, imported
from onnxmark_tf.hdf5 import configuration, is_legacy
from onnxmark_tf.signatures import zeros
from onnxmark_tf.trusting import look_through

_MAX_CONFIGURATION: Final = 1 << 28
"""Bytes of JSON; the largest published models have some megabytes."""


def open_keras(keras: Any, request: Request) -> Any:
    """The Keras model of a file, not compiled; built by the request's factory where it names one.

    Raises:
        ConversionError: The file is damaged, or holds classes that are not Keras's own.
        TrustRequired: It holds code, and the request does not trust it.
        SettingError: There is no such factory.
    """
    if request.factory is not None:
        return _filled(keras, request)
    _judge(_configuration(request), request)
    # Keras finds the class of a regularizer of ours, if the model has one, once it is registered.
    import_module("onnxmark_tf.regularizer")
    with _named_as_keras_wants(request) as path:
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=not request.trust)
        except Exception as error:
            raise _unloadable(request, error, "holds no model that Keras can load") from error
    if not model.built:
        raise ConversionError(
            f"{str(request.source)!r}: the model was saved before it met an input, so it has no weights; "
            "call it once, and save it anew"
        )
    return model


def _judge(config: Any, request: Request) -> None:
    findings, where = look_through(config), repr(str(request.source))
    if findings.dangers and not request.trust:
        raise TrustRequired(
            f"{where} holds {'; '.join(findings.dangers[:3])}: loading it can run code that the file chooses; "
            "pass --trust if you trust whoever made it, or --model with your own code for the model"
        )
    if findings.custom:
        raise ConversionError(
            f"{where} uses {', '.join(findings.custom[:4])}, whose code is not in the file; "
            "name a function of yours that builds the model: --model module:function"
        )


def _filled(keras: Any, request: Request) -> Any:
    """The factory's model with the file's weights."""
    model = build(str(request.factory))
    if not isinstance(model, keras.Model):
        raise ConversionError(f"the factory {request.factory!r} returned {type(model).__name__}, not a keras.Model")
    if not model.built:
        _meet_an_input(keras, model, request)
    with _named_as_keras_wants(request) as path:
        try:
            model.load_weights(path)
        except Exception as error:
            raise _unloadable(request, error, f"its weights do not fit the model of {request.factory!r}") from error
    return model


def _meet_an_input(keras: Any, model: Any, request: Request) -> None:
    """Make a model's weights exist: by the shapes in the archive, else by the request's."""
    config = _configuration(request).get("build_config") if request.container is Container.KERAS else None
    try:
        if config:
            model.build_from_config(config)
        # Building runs the layers without counting as a call of the model, and the exporters ask whether it is built.
        model.built = bool(model.weights)
        if not model.built:
            model(zeros(keras, request))
    except ConversionError:
        raise
    except Exception as error:
        raise _unloadable(request, error, f"the model of {request.factory!r} does not take these inputs") from error


def _configuration(request: Request) -> dict[str, Any]:
    """The configuration of the model, parsed.

    Raises:
        ConversionError: There is none, or it is not JSON.
    """
    try:
        text = _archived(request.source) if request.container is Container.KERAS else configuration(request.source)
        config = json.loads(text or "")
    except (OSError, KeyError, ValueError, RecursionError, NotImplementedError, zipfile.BadZipFile) as error:
        raise _unloadable(request, error, "has no configuration of a model that can be read") from error
    if not isinstance(config, dict):
        raise ConversionError(f"{str(request.source)!r}: its configuration is no JSON object; the file is damaged")
    return config


def _archived(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("config.json").file_size
        if size > _MAX_CONFIGURATION:
            raise ValueError(f"config.json says it has {size} bytes")
        return archive.read("config.json")


@contextmanager
def _named_as_keras_wants(request: Request) -> Iterator[str]:
    """The file under a name from which Keras tells its format, which it does by the ending alone."""
    ending = ".keras"
    if request.container is Container.HDF5:
        ending = ".h5" if is_legacy(request.source) else ".weights.h5"
    name = request.source.name
    if name.endswith(ending) and (ending != ".h5" or not name.endswith(".weights.h5")):
        yield str(request.source)
        return
    with TemporaryDirectory(prefix="onnxmark-") as folder:
        yield str(shutil.copyfile(request.source, Path(folder, f"model{ending}")))


def _unloadable(request: Request, error: Exception, what: str) -> ConversionError:
    version = imported("keras", "tf", "loading").version()
    return ConversionError(f"{str(request.source)!r}: {what} (keras {version}: {first_line(error)})")
