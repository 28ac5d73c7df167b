"""safetensors: weights without a network, in one file or in several with an index.

The format holds no code. Its library checks the header (length, types, that tensors neither overlap nor leave gaps)
before it hands anything out; names of files in an index are checked here.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Final

from torch import Tensor

from onnxmark.conversion import Converted, Request
from onnxmark.errors import ConversionError, MissingExtra
from onnxmark_torch.conversion.converting import convert_state
from onnxmark_torch.conversion.refusals import first_line, listed, refused
from onnxmark_torch.conversion.state_dicts import without_wrappers

INDEX: Final = ".safetensors.index.json"
"""How the name of an index ends."""
_LARGEST_INDEX: Final = 64 << 20
_AGAIN: Final = "get the file again"


def convert(request: Request) -> Converted:
    """Convert a safetensors file, or an index of several.

    With ``request.factory`` the network is made, filled and exported; without, the file written holds weights only.

    Args:
        request: What to convert.

    Raises:
        ConversionError: The file is damaged, does not fit the network, or the network cannot be exported.
        MissingExtra: safetensors is not installed.
    """
    state = _sharded(request.source) if request.source.name.lower().endswith(INDEX) else _single(request.source)
    return convert_state(request, without_wrappers(state), f"safetensors {_version()}")


def _single(path: Path) -> dict[str, Tensor]:
    return _read(path, None, path)


def _sharded(path: Path) -> dict[str, Tensor]:
    shards: dict[str, list[str]] = defaultdict(list)
    for name, shard in _index(path).items():
        shards[shard].append(name)
    state: dict[str, Tensor] = {}
    for shard, names in shards.items():
        state |= _read(path.parent / shard, names, path)
    return state


def _index(path: Path) -> dict[str, str]:
    """The file that holds each tensor, from an index."""
    try:
        if path.stat().st_size > _LARGEST_INDEX:
            raise refused(path, f"an index of more than {_LARGEST_INDEX >> 20} MiB", "name the safetensors file")
        index = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise refused(path, f"the index cannot be read: {first_line(error)}", _AGAIN) from error
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise refused(path, "the index has no 'weight_map' of tensors and files", _AGAIN)
    for file in files.values():
        # A path would let an index read what lies elsewhere on the machine.
        if file in {"", ".", ".."} or PurePosixPath(file).name != file or "\\" in file or "\0" in file:
            raise refused(path, f"the index names {file!r}, which is no file beside it", "get the model again")
    return files


def _read(path: Path, names: Iterable[str] | None, source: Path) -> dict[str, Tensor]:
    """Tensors of one file: all, or those named."""
    safe_open = _library().safe_open
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            held = list(file.keys())
            _check_names(path)
            missing = sorted(set(names or ()) - set(held))
            if missing:
                raise refused(source, f"{path.name!r} lacks {listed(missing)}, which the index names", _AGAIN)
            return {name: file.get_tensor(name) for name in (held if names is None else names)}
    except (ConversionError, MemoryError):
        raise
    except Exception as error:  # the library raises errors of its own, torch many others
        why = f"{path.name!r} is no sound safetensors file: {first_line(error)}"
        raise refused(source, why, _AGAIN) from error


def _check_names(path: Path) -> None:
    """Refuse a name that stands twice in a header the library took: it has dropped one of the two."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        json.loads(file.read(length), object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"{listed([name for name, _ in pairs])}: one name stands twice")
    return found


def _library() -> Any:
    try:
        import safetensors
    except ModuleNotFoundError as error:
        if error.name != "safetensors":
            raise
        raise MissingExtra("safetensors", "torch", "reading a safetensors file") from None
    return safetensors


def _version() -> str:
    return str(_library().__version__)
