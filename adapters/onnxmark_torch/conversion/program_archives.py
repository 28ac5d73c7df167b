"""A ``.pt2`` archive rewritten so that ``torch.export.load`` finds nothing in it to unpickle, import or run.

The archives that PyTorch 2.9 and later write keep weights as plain bytes and the program as JSON; only the inputs it
was traced with are pickled, and nobody needs those. Weights of tensor subclasses, constants that are objects, compiled
libraries and everything that older versions wrote are pickles or machine code, and left to users who trust the file.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final, Self

from onnxmark_torch.conversion.program_rules import UnsafeProgram, plain

_PROGRAM: Final = "models/model.json"
_INPUTS: Final = "data/sample_inputs/model.pt"
_FOLDERS: Final = ("weights", "constants")
_VERSIONS: Final = ("archive_version", ".data/version", "version")
_LARGEST: Final = 256 << 20
"""Bytes of JSON that are parsed at most; the program of a large language model has a few million."""


def write_plain_copy(source: Path, target: Path) -> None:
    """Copy the program and the weights of an archive, and nothing else.

    Args:
        source: The archive.
        target: The copy, which may be loaded without trust.

    Raises:
        UnsafeProgram: Something in it could run code.
        BadZipFile: It is no archive, or torn.
        ValueError: Its content is damaged.
        OSError: It cannot be read, or the copy not be written.
    """
    with zipfile.ZipFile(source) as file, zipfile.ZipFile(target, "w") as copy:
        archive = _Archive.checked(file)
        for name, content in _records(archive):
            copy.writestr(f"program/{name}", content)


@dataclass(frozen=True, slots=True)
class _Archive:
    """An archive whose members are what PyTorch 2.9 writes.

    Args:
        file: The zip file.
        members: Its members by their name below the archive's own folder.
    """

    file: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]

    @classmethod
    def checked(cls, file: zipfile.ZipFile) -> Self:
        members = {member.filename.partition("/")[2]: member for member in file.infolist()}
        if "serialized_exported_program.json" in file.namelist():
            raise UnsafeProgram("PyTorch before 2.8 wrote it and pickled the weights")
        for name, member in members.items():
            if name.startswith("data/aotinductor"):
                raise UnsafeProgram("it holds a compiled library")
            if name in {f"data/{folder}/model.pt" for folder in _FOLDERS}:
                raise UnsafeProgram("PyTorch before 2.9 wrote it and pickled the weights")
            if member.compress_type != zipfile.ZIP_STORED:
                raise UnsafeProgram(f"{name[:60]!r} is compressed, which PyTorch's archives are not")
        return cls(file, members)

    def read(self, name: str) -> bytes:
        """A member."""
        if name not in self.members:
            raise ValueError(f"it lacks {name!r}")
        return self.file.read(self.members[name])

    def json(self, name: str) -> Any:
        """A member that is JSON."""
        if name in self.members and self.members[name].file_size > _LARGEST:
            raise ValueError(f"{name!r} has more than {_LARGEST >> 20} MiB")
        return json.loads(self.read(name))


def _records(archive: _Archive) -> Iterator[tuple[str, bytes]]:
    """The members of the copy."""
    yield "archive_format", b"pt2"
    for name in _VERSIONS:
        if name in archive.members:
            yield name, archive.read(name)
    yield _PROGRAM, json.dumps(plain(archive.json(_PROGRAM))).encode()
    yield _INPUTS, b""
    for folder in _FOLDERS:
        config = f"data/{folder}/model_{folder}_config.json"
        payloads = _payloads(archive, folder, archive.json(config))
        yield config, json.dumps({"config": payloads}).encode()
        for name in sorted({payload["path_name"] for payload in payloads.values()}):
            yield f"data/{folder}/{name}", archive.read(f"data/{folder}/{name}")


def _payloads(archive: _Archive, folder: str, config: Any) -> dict[str, dict[str, Any]]:
    """What is said of each tensor in a folder."""
    try:
        payloads: dict[str, dict[str, Any]] = plain(config["config"])
        for name, payload in payloads.items():
            _check_payload(archive, folder, name, payload)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"its list of {folder} is damaged") from None
    return payloads


def _check_payload(archive: _Archive, folder: str, name: str, payload: dict[str, Any]) -> None:
    if payload["use_pickle"] is not False or payload["tensor_meta"] is None:
        raise UnsafeProgram(f"{name!r} is pickled")
    member = archive.members.get(f"data/{folder}/{payload['path_name']}")
    sizes = [size["as_int"] for size in payload["tensor_meta"]["sizes"]]
    if member is None or (not member.file_size and prod(sizes)):
        # An empty member would be read as zeros of any size it likes.
        raise ValueError(f"{name!r} has no bytes for its shape {sizes}")
