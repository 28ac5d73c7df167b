"""What a visit to the zoo shows: a row for each species and route, and what a row has no room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich import box
from rich.table import Table

from benchmarks.zoo.marks import Mark
from benchmarks.zoo.visits import TOLERANCE, Twinned, Visit

_HEADINGS: Final = ("model", "route", "kernels", "equal", "unfolded", "scaled", "named", "error", "layers", "untraced")
_FURTHER: Final = ("Δ/σ", "mark", "s", "MB")
_CAPTION: Final = (
    "kernels: across channels + depthwise (dw) + fully connected (fc); equal: bit by bit; unfolded: after dividing by "
    "what was folded in; scaled: but for a factor a filter, as in the container; error: largest relative distance; "
    "Δ/σ: largest difference of answers over their spread; mark: p where the marked file matches, the unmarked not"
)


def table(visits: Sequence[Visit]) -> Table:
    """A row for each species and route; red where something is wrong."""
    shown = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
        title="Kernels of a zoo in its ONNX files",
        caption=_CAPTION,
    )
    for place, heading in enumerate((*_HEADINGS, *_FURTHER)):
        shown.add_column(heading, justify="left" if place < 2 else "right", no_wrap=True)
    for one in visits:
        shown.add_row(*cells(one), style=None if one.is_sound else "red")
    return shown


def cells(visit: Visit) -> tuple[str, ...]:
    """One row as text."""
    known, tracing = (visit.name, visit.route.value, kinds_in_words(visit.kinds)), visit.tracing
    if tracing is None:
        return (*known, "fails")
    return (
        *known,
        *(str(count) for count in (tracing.n_equal, tracing.n_close, tracing.n_scaled, tracing.n_named)),
        f"{tracing.error:.0e}",
        str(tracing.n_layers),
        str(len(tracing.untraced)),
        f"{visit.difference / visit.spread:.0e}",
        mark_in_words(visit.mark),
        f"{visit.seconds:.0f}",
        f"{visit.peak / 1e6:.0f}",
    )


def kinds_in_words(kinds: Mapping[str, int]) -> str:
    """Kernels by kind (``53+1fc``)."""
    others = [f"{kinds[kind]}{short}" for kind, short in (("depthwise", "dw"), ("dense", "fc")) if kinds.get(kind)]
    return "+".join([str(kinds.get("across", 0)), *others])


def mark_in_words(mark: Mark | None) -> str:
    """The p-value of a mark that was told from none, else both verdicts."""
    if mark is None:
        return ""
    return f"1e{mark.log10_p:.0f}" if mark.is_told else f"{mark.marked}, without {mark.unmarked}"


def remarks(visit: Visit) -> list[str]:
    """Why there is no row; else kernels that are missing, layers that are none of the model's, answers put off."""
    where = f"{visit.name} by {visit.route.value}"
    if visit.tracing is None:
        return [f"{where}: {visit.problem}"]
    missing = [f"{where}: kernel {name} is not found" for name in visit.tracing.missing]
    layers = [f"{where}: layer {layer}" for layer in visit.tracing.untraced]
    changed = visit.optimised / visit.spread
    spoilt = (
        [f"{where}: ONNX Runtime's optimisations put the answers off by {changed:.0e} σ"] if changed > TOLERANCE else []
    )
    return missing + layers + spoilt


def twin_in_words(name: str, twin: Twinned) -> str:
    """How a twin compares with its original."""
    shapes = "as many kernels of each shape" if twin.has_same_shapes else "kernels of OTHER shapes"
    return f"{name}: the twin has {shapes}; with the same weights its answers differ by {twin.relative:.0e} σ"
