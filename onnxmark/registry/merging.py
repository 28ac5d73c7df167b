"""Several journals into one: the shards of a registry, scanned on several machines, become one answer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from onnxmark.errors import JournalError
from onnxmark.registry.journal import AUDITED, Journal, Row, open_journal, read_journal
from onnxmark.registry.terms import Shard, Terms


@dataclass(frozen=True, slots=True)
class Merged:
    """What was merged.

    Args:
        terms: On which all the results were made.
        missing: Shards that no journal holds.
        unfinished: Journals whose scan had not come to its end.
    """

    terms: Terms
    missing: tuple[Shard, ...]
    unfinished: tuple[Path, ...]

    @property
    def complete(self) -> bool:
        """Whether the whole registry was scanned."""
        return not self.missing and not self.unfinished


def merge(sources: Sequence[Path], target: Path) -> Merged:
    """Merge journals into a new one.

    An entry that several hold is taken from the one that audited it; otherwise from the first that is named.

    Args:
        sources: Journals of scans on the same terms.
        target: The journal to write.

    Raises:
        JournalError: A journal cannot be used, the terms differ, or shards of different cuts meet.
        ValueError: There is no journal to merge.
    """
    if not sources:
        raise ValueError("there is no journal to merge")
    if target.exists():
        raise JournalError(f"journal {str(target)!r}: exists already; merge into a new file")
    with ExitStack() as stack:
        journals = [stack.enter_context(read_journal(source)) for source in sources]
        terms = _terms(journals)
        present = tuple(dict.fromkeys(shard for journal in journals for shard in journal.shards))
        missing = _missing(present)
        merged = stack.enter_context(open_journal(target, terms))
        merged.begin(sorted({root for journal in journals for root in journal.roots}), present)
        # The last one written stays: failures first, and of equals the first one named last.
        for audited in (False, True):
            for journal in reversed(journals):
                merged.put(row for row in journal.rows() if _is_audited(row) is audited)
        unfinished = tuple(journal.path for journal in journals if not journal.complete)
        if not missing and not unfinished:
            merged.finish()
    return Merged(terms, missing, unfinished)


def _is_audited(row: Row) -> bool:
    return row.result is not None and row.result["status"] == AUDITED


def _terms(journals: Sequence[Journal]) -> Terms:
    terms = journals[0].terms
    for journal in journals[1:]:
        if journal.terms.fingerprint != terms.fingerprint:
            raise JournalError(
                f"journal {str(journal.path)!r}: was made with other keys, options or another version than "
                f"{str(journals[0].path)!r}; scan both on the same terms"
            )
    return terms


def _missing(present: Sequence[Shard]) -> tuple[Shard, ...]:
    counts = {shard.count for shard in present}
    if len(counts) > 1:
        cuts = " and ".join(str(count) for count in sorted(counts))
        raise JournalError(f"shards of different cuts cannot be merged: registries cut into {cuts}; scan one cut")
    return tuple(
        shard for count in counts for index in range(count) if (shard := Shard(index + 1, count)) not in present
    )
