"""Networks that are trained once and kept, so that an interrupted experiment goes on where it was.

A network asks for those it is made from, as files do in a makefile. One line of JSON for each says how well it does and
what it cost; a network that has no line was not finished.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from onnxmark_torch.history import History
from torch import nn


@dataclass(frozen=True, slots=True)
class Record:
    """One finished training.

    Args:
        name: The network's.
        accuracy: On the test images, 0 to 1.
        seconds: Wall time of its epochs.
    """

    name: str
    accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of networks.

    Args:
        folder: Where they are kept.
        experiment: What all of them were trained with; another experiment's are refused.
        device: Where they are to live.
        say: Told of each training.
    """

    folder: Path
    experiment: str
    device: torch.device
    say: Callable[[str], None]

    def network(self, name: str, fresh: nn.Module, make: Callable[[nn.Module], tuple[nn.Module, History]]) -> nn.Module:
        """The network of a name, in evaluation mode.

        Args:
            name: Everything that tells it from others.
            fresh: Of its architecture, with its initial weights.
            make: Trains it, from ``fresh`` on the store's device; called where it is not there yet.
        """
        path = self.folder / f"{name}.pt"
        if name in self.records() and path.is_file():
            fresh.load_state_dict(torch.load(path, weights_only=True))
            return fresh.to(self.device).eval()
        started = time.perf_counter()
        model, history = make(fresh.to(self.device))
        self._keep(path, model, Record(name, history.score, history.seconds))
        self.say(f"{name}: accuracy {history.score:.4f}, {time.perf_counter() - started:.0f} s")
        return model.eval()

    def records(self) -> dict[str, Record]:
        """What is finished, by name.

        Raises:
            ValueError: The folder holds another experiment.
        """
        if not self._journal.is_file():
            return {}
        # What follows the last newline was being written when a process ended.
        lines = self._journal.read_text(encoding="utf-8").split("\n")[:-1]
        records = [self._record(json.loads(line)) for line in lines]
        return {record.name: record for record in records}

    @property
    def _journal(self) -> Path:
        return self.folder / "networks.jsonl"

    def _keep(self, path: Path, model: nn.Module, record: Record) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, part)
        part.replace(path)
        kept = "".join(self._line(each) for each in self.records().values() if each.name != record.name)
        part = self._journal.with_suffix(".part")
        part.write_text(kept + self._line(record), encoding="utf-8")
        part.replace(self._journal)

    def _line(self, record: Record) -> str:
        return json.dumps({"experiment": self.experiment, **asdict(record)}) + "\n"

    def _record(self, line: dict[str, object]) -> Record:
        found = line.pop("experiment")
        if found != self.experiment:
            raise ValueError(f"{self.folder} holds another experiment ({found}); this one is {self.experiment}")
        return Record(**line)  # type: ignore[arg-type]
