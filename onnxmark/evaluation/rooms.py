"""Where an evaluation keeps its networks and keys while it runs.

The owner's keys lie in a folder of their own that only he can read, and nothing that modifies networks is told of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onnxmark.evaluation.cells import Cell, Kind

POOL: Final = "pool.npy"
_UNFINISHED: Final = ".unfinished-"


@dataclass(frozen=True, slots=True)
class Room:
    """A folder of one evaluation.

    Args:
        root: The folder.
    """

    root: Path

    def network(self, number: int) -> Path:
        """Folder of an unmarked network."""
        return self.root / "networks" / str(number)

    def marked(self, network: int, scheme: int, payload: int) -> Path:
        """Folder of a marked network."""
        return self.root / "marked" / str(scheme) / f"{network}-{payload}"

    def key(self, network: int, scheme: int, payload: int) -> Path:
        """File of the key of a marked network."""
        return self.root / "keys" / str(scheme) / f"{network}-{payload}.npy"

    @property
    def pool(self) -> Path:
        """File of the images kept apart."""
        return self.root / POOL

    def subject(self, cell: Cell) -> Path:
        """Folder of the network that a cell makes, or looks at."""
        if cell.scheme is None or cell.payload is None:
            return self.network(cell.network)
        return self.marked(cell.network, cell.scheme, cell.payload)

    def holds(self, cell: Cell) -> bool:
        """Whether what a cell makes for others is there."""
        if cell.kind is Kind.TRAIN:
            return self.network(cell.network).is_dir()
        if cell.kind is Kind.EMBED and cell.scheme is not None and cell.payload is not None:
            return self.key(cell.network, cell.scheme, cell.payload).is_file() and self.subject(cell).is_dir()
        return True

    @contextmanager
    def bench(self) -> Iterator[Path]:
        """An empty folder for what is half done, gone afterwards."""
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=self.root) as name:
            yield Path(name)


def place(made: Path, home: Path) -> None:
    """Move a finished folder to where it belongs, in the place of an older one."""
    home.parent.mkdir(parents=True, exist_ok=True)
    if home.is_dir():
        home.rename(made.with_name(f"{made.name}-old"))
    made.rename(home)
