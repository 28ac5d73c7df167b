"""The figures as tables, and as curves on a page."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

from rich.table import Table

from benchmarks.constant_weight.bench import OTHERS, PRUNED, Figures, Left, Run
from onnxmark.report.page import CurvePoint, Curves, Headline, Page, Panel, Section, Series, Tone

_MATCH: Final = 6.0
"""-log10 p from which on a reading is a match."""


def pruning_table(figures: Figures) -> Table:
    """Cost, prediction, and bit error rates under pruning, means over seeds."""
    title = "Bit error rate after L1 pruning of the layer; (-log10 p) where bits are wrong"
    headings = ("embedding", "cost, points", "change", "predicted", "whole/broken", *(f"{100 * p:g} %" for p in PRUNED))
    table = Table(*headings, title=title, title_justify="left")
    last = ""
    for (way, name), runs in figures.runs.items():
        if way != last:
            table.add_section()
            table.add_row(f"[bold]{way}")
            last = way
        cells = (_cell([run.left[index] for run in runs]) for index in range(len(PRUNED)))
        table.add_row(f"  {name}", *_cost(runs), *_prediction(runs), *cells)
    table.add_section()
    accuracies = (f"{statistics.fmean(rate):.3f}" for rate in zip(*figures.pruned, strict=True))
    unmarked = statistics.fmean(run.unmarked for run in next(iter(figures.runs.values())))
    table.add_row("unmarked network: accuracy", f"{unmarked:.4f}", "", "", "", *accuracies)
    return table


def other_table(figures: Figures) -> Table:
    """What other attacks leave of the marks in closed form."""
    names = (*(attack.label for attack in OTHERS), "an epoch of fine-tuning")
    table = Table("closed form", *names, title="Other attacks on the layer: the same", title_justify="left")
    for (way, name), runs in figures.runs.items():
        if way == "closed form":
            others = (_cell([run.left[len(PRUNED) + index] for run in runs]) for index in range(len(OTHERS)))
            table.add_row(name, *others, _cell(figures.stolen[name]) if name in figures.stolen else "")
    return table


def _cost(runs: Sequence[Run]) -> tuple[str, str]:
    costs = [100 * (run.unmarked - run.accuracy) for run in runs]
    change = statistics.fmean(run.change for run in runs)
    spread = f"{statistics.fmean(costs):+.2f} ({min(costs):+.2f} to {max(costs):+.2f})"
    return spread, f"{change:.3f}" if change else ""


def _prediction(runs: Sequence[Run]) -> tuple[str, str]:
    found = [run.sharp for run in runs if run.sharp is not None]
    if not found:
        return "", ""
    right = sum(sharp.whole_at for sharp in found), sum(sharp.broken_beyond for sharp in found)
    rates = [100 * sharp.rate for sharp in found]
    return f"{min(rates):.2f}–{max(rates):.2f} %", f"{right[0]}/{right[1]} of {len(found)}"


def _cell(left: Sequence[Left]) -> str:
    rate = statistics.fmean(one.bit_error_rate for one in left)
    return f"{rate:.3f} ({abs(statistics.fmean(one.log10_p for one in left)):.0f})" if rate else "0"


def page(figures: Figures) -> Page:
    """Evidence against pruning, a panel a mark in closed form; a disc where it suffices for a match."""
    closed = [(name, runs) for (way, name), runs in figures.runs.items() if way == "closed form"]
    note = "From the worst seed up to the best; -log10 p before correction, on a square-root scale."
    panels = tuple(_panel(name, runs) for name, runs in closed)
    curves = Curves("Evidence left by pruning the layer", panels, "-log10 p", _MATCH, note)
    return Page(
        kind="benchmark",
        title="constant weight code",
        subtitle="ConvNet, Fashion-MNIST, 64x64x3x3, 256 bits",
        headline=Headline("Pruning", "Constant weight codes beside projections, all in closed form."),
        sections=(Section("L1 pruning of the host layer", (curves,)),),
        colophon="benchmarks.constant_weight",
    )


def _panel(name: str, runs: Sequence[Run]) -> Panel:
    points = []
    for index, rate in enumerate(PRUNED):
        evidence = [-run.left[index].log10_p for run in runs]
        errors = statistics.fmean(run.left[index].bit_error_rate for run in runs)
        tone = Tone.GOOD if min(evidence) >= _MATCH else Tone.BAD
        points.append(CurvePoint(index, min(evidence), max(evidence), tone, f"{100 * rate:g} %: BER {errors:.3f}"))
    ticks = tuple(f"{100 * rate:g}" for rate in PRUNED)
    return Panel(name, "% of the layer pruned", ticks, (Series(name, tuple(points)),))
