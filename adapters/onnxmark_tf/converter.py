"""The converters of Keras models, SavedModels and TensorFlow Lite, as ``onnxmark.adapters`` names them.

Each conversion runs in a process of its own (:mod:`onnxmark_tf.exchange` says why), so that nothing of it is left in
the caller's: no framework, no log line, no environment variable, and no crash.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from onnxmark.conversion import Container, Converted, Request
from onnxmark.errors import ConversionError
from onnxmark_tf.backends import candidates
from onnxmark_tf.exchange import ExportRefused, read_outcome, write_request

_QUIET: Final = MappingProxyType(
    {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # A conversion needs no accelerator, and TensorFlow would reserve all of its memory.
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_PLATFORMS": "cpu",
        "PYTHONIOENCODING": "utf-8",
    }
)


def convert(request: Request) -> Converted:
    """Convert a Keras archive, an HDF5 file of Keras, a SavedModel or a TensorFlow Lite model.

    A Keras model that the exporter of one backend cannot write is tried on the next one installed, unless one was
    asked for.

    Raises:
        ConversionError: It cannot be converted.
        ModelUnavailable: It cannot be opened.
        TrustRequired: It holds code of its own, and ``request.trust`` is not set.
        MissingExtra: A framework is not installed.
        SettingError: There is no such backend.
    """
    refusals: list[ExportRefused] = []
    for backend in _backends(request):
        try:
            return _converted(replace(request, backend=backend))
        except ExportRefused as refusal:
            refusals.append(refusal)
    raise refusals[0]


def _backends(request: Request) -> tuple[str, ...]:
    """What to run on, in the order of trying; only Keras can choose."""
    return candidates(request.backend) if request.container in (Container.KERAS, Container.HDF5) else ("tensorflow",)


def _converted(request: Request) -> Converted:
    """The conversion on one backend, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="onnxmark-") as name:
        folder = Path(name)
        write_request(folder, request)
        # -P: the current directory is no place to find packages in, unless the user names a factory there.
        command = [sys.executable, "-P", "-W", "ignore", "-m", "onnxmark_tf.child", name]
        with (folder / "stderr").open("w+b") as stderr:
            done = subprocess.run(  # noqa: S603  # our own interpreter and module
                command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=_environment(request), check=False
            )
        outcome = read_outcome(folder)
        if outcome is None:
            raise ConversionError(f"{str(request.source)!r}: {_death(done.returncode, folder / 'stderr')}")
        return outcome


def _environment(request: Request) -> dict[str, str]:
    """The caller's, with silence, the backend, and the same places to import from."""
    places = [place for place in sys.path if place]
    chosen = {"KERAS_BACKEND": request.backend} if request.backend else {}
    return {**os.environ, **_QUIET, **chosen, "PYTHONPATH": os.pathsep.join(places)}


def _death(code: int, stderr: Path) -> str:
    """Why a process left nothing, in words."""
    if code < 0:
        return (
            f"the process that read it was ended by {signal.Signals(-code).name}; "
            "the file is damaged, or memory ran out"
        )
    lines = stderr.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    return f"the process that read it failed: {lines[-1][:300]}; report this with the file if you can"
