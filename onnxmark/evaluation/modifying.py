"""The tester's side of an evaluation: networks are modified by whoever knows the file, the scheme and no key of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnxmark import plugins
from onnxmark.attacking import attack_file
from onnxmark.attacks import Recipe
from onnxmark.errors import AttackError, LaboratoryError
from onnxmark.evaluation.cells import Cell, Change
from onnxmark.evaluation.drawing import seed_of
from onnxmark.evaluation.embedding import UNTRAINABLE, Embedder
from onnxmark.evaluation.laboratory import MODEL
from onnxmark.evaluation.modifications import DISTILLATION, FINE_TUNING, TRANSFER
from onnxmark.evaluation.plan import Training, as_table, setting


@dataclass(frozen=True, slots=True, eq=False)
class Modifier:
    """Modifies networks.

    Args:
        embedder: For marks of the tester's own.
    """

    embedder: Embedder

    def modify(self, cell: Cell, change: Change, source: Path, folder: Path) -> Path:
        """Modify a network.

        Args:
            cell: For which cell; its name decides all that is drawn.
            change: How.
            source: Folder of the network; left as it is.
            folder: Empty; made use of.

        Returns:
            The modified file.

        Raises:
            OnnxmarkError: It cannot be done.
        """
        seed = seed_of(self.embedder.plan, cell.name)
        if change.modification.attack is not None:
            target = folder / MODEL
            attack_file(source / MODEL, [recipe_of(change)], target, seed=seed, anonymous=True)
            return target
        if (source / UNTRAINABLE).is_file():
            raise LaboratoryError((source / UNTRAINABLE).read_text())
        means = change.modification.settings
        if change.modification.name in (FINE_TUNING, TRANSFER):
            self.embedder.laboratory.fine_tune(self._training(change), means, seed, source, folder)
        elif change.modification.name == DISTILLATION:
            self.embedder.laboratory.distil(self._training(change), means, seed, source, folder)
        else:
            return self._overwrite(cell, round(change.value), source, folder) / MODEL
        return folder / MODEL

    def _training(self, change: Change) -> Training:
        plan, row = self.embedder.plan, change.modification
        usual = plan.training.rate if row.name == DISTILLATION else plan.fine_tuning.rate
        rate = float(setting(row.settings, "rate", usual))
        return Training(round(change.value), plan.training.batch_size, rate)

    def _overwrite(self, cell: Cell, marks: int, source: Path, folder: Path) -> Path:
        """One mark after the other; the folder of the last."""
        if cell.scheme is None:
            raise ValueError("overwriting takes a scheme to overwrite with")
        stolen = source
        for mark in range(marks):
            names = ("thief", cell.network, cell.payload, mark)
            # All that a thief can compare with is the network he has stolen.
            key = self.embedder.key(cell.scheme, stolen / MODEL, names, [stolen / MODEL])
            target = folder / str(mark)
            target.mkdir()
            seed = seed_of(self.embedder.plan, *names)
            self.embedder.overwrite(cell.network, cell.scheme, key, stolen, target, seed)
            stolen = target
        return stolen


def recipe_of(change: Change) -> Recipe:
    """The attack on a file that a modification is.

    Raises:
        AttackError: The attack takes no such parameter.
        PluginError: There is no such attack.
    """
    row = change.modification
    found = plugins.attack(str(row.attack))
    try:
        return found(row.strength(change.value), **as_table(row.settings))  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise AttackError(f"modification {row.name!r} at {change.value:g}: {error}") from error
