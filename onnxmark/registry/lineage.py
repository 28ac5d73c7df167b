"""Which models of a registry belong together, and what became of them since the last scan.

The same carrier in several places is one copy too many rather than several finds; a key in several models tells which
of them leaked, or that one was made of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnxmark.report.formats import Document

Pair = tuple[str, str]
"""A model's name and the commitment of a key that it matches."""


def groups_of(entries: Sequence[Document]) -> Document:
    """Matches that share a carrier, and matches that share a key.

    Args:
        entries: Of a scan document, each name once.
    """
    return {"copies": list(_copies(entries)), "keys": list(_kin(entries))}


def compared(before: Document, entries: Sequence[Document], commitments: Sequence[str]) -> Document:
    """The matches of this scan against those of an older one.

    Args:
        before: The older scan document.
        entries: Of this scan.
        commitments: Of the keys of this scan.

    Returns:
        The pairs of model and key that are ``new``, ``gone`` (and why) and ``unchanged``, in order.
    """
    old, new = set(_matches(before["entries"])), set(_matches(entries))
    now = {entry["model"]["identity"]: entry for entry in entries}
    tried = set(commitments)
    return {
        "new": [_pair(pair) for pair in sorted(new - old)],
        "gone": [_pair(pair) | {"why": _why(pair, now, tried)} for pair in sorted(old - new)],
        "unchanged": [_pair(pair) for pair in sorted(new & old)],
    }


def _copies(entries: Sequence[Document]) -> Iterator[Document]:
    keys: dict[str, set[str]] = {}
    places: dict[str, dict[str, None]] = {}
    for entry, finding in _matched(entries):
        if finding["digest"] is not None:
            keys.setdefault(finding["digest"], set()).add(finding["key"]["commitment"])
            places.setdefault(finding["digest"], {})[entry["model"]["identity"]] = None
    for digest, found in sorted(places.items(), key=lambda group: (next(iter(group[1])), group[0])):
        if len(found) > 1:
            yield {"digest": digest, "keys": sorted(keys[digest]), "places": list(found)}


def _kin(entries: Sequence[Document]) -> Iterator[Document]:
    models: dict[str, list[str]] = {}
    carriers: dict[str, set[str]] = {}
    for entry, finding in _matched(entries):
        commitment, name = finding["key"]["commitment"], entry["model"]["identity"]
        models.setdefault(commitment, []).append(name)
        # Weights that have no digest are taken for those of their model alone.
        carriers.setdefault(commitment, set()).add(finding["digest"] or f"of {name}")
    for commitment, found in sorted(models.items()):
        if len(found) > 1:
            yield {"commitment": commitment, "models": found, "n_carriers": len(carriers[commitment])}


def _matched(entries: Sequence[Document]) -> Iterator[tuple[Document, Document]]:
    for entry in entries:
        for finding in entry["findings"]:
            if finding["verdict"] == "match":
                yield entry, finding


def _matches(entries: Sequence[Document]) -> Iterator[Pair]:
    for entry, finding in _matched(entries):
        yield entry["model"]["identity"], finding["key"]["commitment"]


def _pair(pair: Pair) -> Document:
    return dict(zip(("identity", "commitment"), pair, strict=True))


def _why(pair: Pair, now: dict[str, Document], tried: set[str]) -> str:
    """A match that is gone has not always left the model."""
    name, commitment = pair
    if name not in now:
        return "the model was not found"
    if commitment not in tried:
        return "the key was not tried"
    if now[name]["problem"] is not None:
        return "the model could not be audited"
    if any(finding["key"]["commitment"] == commitment for finding in now[name]["findings"]):
        return "inconclusive now"
    return "no match any more"
