"""Does a watermark in a network's answers outlive distillation? The ingrained one, the plain backdoor, and no mark.

After Yang, Dang, Chang (2019, arXiv 1906.06046; the equations are our reconstruction). For each of some fresh keys an
ingrained host and a plain backdoor with the same carriers, and students of both: same or smaller network, the owner's
images or the thief's own, softened answers or the class alone. Unmarked networks, and students of an unmarked one, are
judged with the same keys. Every network is kept in DIR, so the same command goes on after an interruption.

    python -m benchmarks.ingrain.experiment [--full --cifar PATH --device cuda] [--keys 3] [--resume DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from torch import nn

from benchmarks.display import write_json
from benchmarks.ingrain.laboratory import Laboratory
from benchmarks.ingrain.markings import THEFTS, WEAKEST, Marking, Theft
from benchmarks.ingrain.setting import FULL, SMALL, Parts, Setting
from benchmarks.ingrain.store import Store
from benchmarks.ingrain.tables import Row, comparison, table

OUT: Final = Path(__file__).resolve().parents[1] / "out"
ELSEWHERE: Final = tuple(Theft(disjoint=True, queries=queries) for queries in ("mixed", "inverted", "digits", "noisy"))
"""Students from queries that are not of the task."""
FIRST_KEY: Final = 100
"""Keys of this experiment are this one and the next: none was used to choose anything."""
_TUNED: Final = (Theft(disjoint=True), WEAKEST)
_COPIES: Final = (Theft(), Theft(disjoint=True, hard=True), WEAKEST)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A network to judge.

    Args:
        label: What tables call it.
        name: Its name in the store.
        model: Gives it, trained if need be.
    """

    label: str
    name: str
    model: Callable[[], nn.Module]


def stolen(lab: Laboratory, marking: Marking, *, further: bool) -> Iterator[Suspect]:
    """A host and what thieves make of it; ``further`` adds other queries and training on."""
    yield Suspect("host", marking.host, lambda: lab.host(marking))
    for theft in THEFTS:
        yield _student(lab, marking, theft)
    if not further:
        return
    yield _tuned(lab, "host", marking.host, lambda: lab.host(marking), small=False)
    for theft in _TUNED:
        one = _student(lab, marking, theft)
        yield _tuned(lab, theft.name, one.name, one.model, small=theft.small)
    for theft in ELSEWHERE:
        yield _student(lab, marking, theft)


def unmarked(lab: Laboratory) -> Iterator[Suspect]:
    """Networks that know of no key."""
    for disjoint in (False, True):
        for small in (False, True):
            name = f"control-{'small' if small else 'same'}-{'disjoint' if disjoint else 'owner'}-0"
            label = f"trained, {'small' if small else 'same'}, {'disjoint' if disjoint else 'owner'}"
            yield Suspect(label, name, lambda d=disjoint, s=small: lab.control(0, disjoint=d, small=s))  # type: ignore[misc]
    for theft in _COPIES:
        yield Suspect(theft.name, f"control-same-owner-0--{theft.name}", lambda t=theft: lab.innocent(t))  # type: ignore[misc]


def judged(lab: Laboratory, host: str, marking: Marking, suspect: Suspect) -> Row:
    """One suspect against one key."""
    found = lab.evidence(lab.on_carriers(suspect.model(), marking.choice), marking)
    return Row(host, marking.key, suspect.label, lab.store.records()[suspect.name].accuracy, found)


def rows(lab: Laboratory, keys: range, *, further: bool = True) -> Iterator[Row]:
    """Every suspect, key by key."""
    for key in keys:
        marking = Marking(key)
        for suspect in stolen(lab, marking, further=further):
            yield judged(lab, "ingrained", marking, suspect)
        for suspect in stolen(lab, marking.backdoor, further=False):
            yield judged(lab, "backdoor", marking.backdoor, suspect)
        for suspect in unmarked(lab):
            yield judged(lab, "unmarked", marking, suspect)


def _student(lab: Laboratory, marking: Marking, theft: Theft) -> Suspect:
    return Suspect(theft.name, f"{marking.host}--{theft.name}", lambda: lab.student(marking, theft))


def _tuned(lab: Laboratory, label: str, name: str, model: Callable[[], nn.Module], *, small: bool) -> Suspect:
    return Suspect(f"{label}, fine-tuned", f"{name}-tuned", lambda: lab.tuned(name, model(), small=small))


def laboratory(
    setting: Setting, cifar: Path | None, device: torch.device, folder: Path, console: Console
) -> Laboratory:
    """Where the experiments of a size are done."""
    task = setting.task(cifar)
    store = Store(folder, f"{task.name}, {setting}", device, lambda line: console.print(line, highlight=False))
    return Laboratory(setting, Parts.of(task, setting), store)


def arguments_of(documentation: str | None) -> argparse.ArgumentParser:
    """What all ingrain experiments can be asked."""
    parser = argparse.ArgumentParser(description=(documentation or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="CIFAR-10 and 60 epochs; wants a GPU")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10's binary version, for --full")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; another number, other rounding")
    parser.add_argument("--resume", type=Path, help="folder of networks, made or gone on with (under benchmarks/out)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser


def opened(arguments: argparse.Namespace, console: Console) -> Laboratory:
    """The laboratory that the command line asks for."""
    torch.set_num_threads(arguments.threads)
    setting = FULL if arguments.full else SMALL
    folder = arguments.resume or OUT / f"ingrain-{setting.name}"
    return laboratory(setting, arguments.cifar, torch.device(arguments.device), folder, console)


def main() -> None:
    """Read the command line, train what is left, print the tables."""
    parser = arguments_of(__doc__)
    parser.add_argument("--keys", type=int, default=3, help="how many")
    parser.add_argument("--core", action="store_true", help="only the eight distillations, for half of the time")
    arguments = parser.parse_args()
    console = Console(width=150)
    keys = range(FIRST_KEY, FIRST_KEY + arguments.keys)
    found = list(rows(opened(arguments, console), keys, further=not arguments.core))
    for host in ("ingrained", "backdoor", "unmarked"):
        console.print(table(found, host))
    console.print(comparison(found))
    write_json(arguments.json, {"rows": [row.figures for row in found]})


if __name__ == "__main__":
    main()
