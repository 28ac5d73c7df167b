"""What is half done never bears the name asked for: files are made in a room beside it and moved when complete."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxmark.errors import WriteBackError
from onnxmark.model.external import is_same_file


@contextmanager
def room_beside(output: Path) -> Iterator[Path]:
    """A temporary folder on the same file system as a file that is to be written.

    Raises:
        WriteBackError: Nothing can be written there.
    """
    try:
        room = tempfile.TemporaryDirectory(prefix=".onnxmark-", dir=output.parent)
    except OSError as error:
        raise WriteBackError(
            f"{str(output)!r} cannot be written: {error.strerror}; choose another directory"
        ) from error
    with room as name:
        yield Path(name)


def publish(made: Path, output: Path, source: Path) -> None:
    """Move a model and its data files to where they belong, the model last.

    Args:
        made: The model, in a folder with nothing but its data files.
        output: Where it belongs.
        source: The model it was made from.

    Raises:
        WriteBackError: A data file would overwrite one that stands beside the source.
    """
    data = sorted(file for file in made.parent.rglob("*") if file.is_file() and file != made)
    homes = [output.parent / file.relative_to(made.parent) for file in data]
    if is_same_file(source.parent, output.parent):
        for home in homes:
            if home.exists():
                raise WriteBackError(
                    f"{str(output)!r}: its weights lie in {home.name!r}, which the original has beside it, too; write "
                    "the copy to another directory"
                )
    for file, home in zip(data, homes, strict=True):
        home.parent.mkdir(parents=True, exist_ok=True)
        file.replace(home)
    made.replace(output)
