"""DVC's pointer files: a few lines of YAML beside the place where ``dvc pull`` puts the data.

Only paths are wanted of them, one to a line in the block ``outs``, so no YAML parser is needed, nor its surprises. A
value that is quoted or wrapped in another way than DVC does is taken as it stands, and the pointer is then reported as
one rather than passed. Outputs of pipelines have no such file (``dvc.lock`` lists them) and are found once pulled.
"""

from __future__ import annotations

import os
import re
from typing import Final

from onnxmark.registry.entries import Outcome
from onnxmark.registry.formats import Judgement, named_like_a_model
from onnxmark.registry.layouts.layout import last_part, parent

SUFFIX: Final = ".dvc"
MOST_BYTES: Final = 1 << 16
_OUTS: Final = re.compile(r"^outs:[ \t]*\n((?:[ \t-].*(?:\n|$))+)", re.MULTILINE)
_PATH: Final = re.compile(r"^(?:- | {2})path: *(\S.*?) *$", re.MULTILINE)
_DIRECTORY: Final = re.compile(r"^(?:- | {2})(?:nfiles: |(?:md5|etag|checksum): \S+\.dir *$)", re.MULTILINE)


def dvc_pointer(path: str, text: str) -> Judgement | None:
    """What becomes of a pointer; None if what it stands for is no model, or is here.

    Args:
        path: Of the pointer, ``model.onnx.dvc``.
        text: What it says.
    """
    outs = _OUTS.search(text)
    if outs is None:
        return None
    names = [name.strip("'\"") for name in _PATH.findall(outs[1])]
    directory = _DIRECTORY.search(outs[1]) is not None
    if not (directory or any(named_like_a_model(last_part(name)) for name in names)):
        return None
    if names and all(os.path.lexists(f"{parent(path)}/{name}") for name in names):
        return None
    what = "a directory, which may hold models" if directory else "a model"
    return Judgement(Outcome.POINTER, f"is a DVC pointer to {what}; fetch it: dvc pull")
