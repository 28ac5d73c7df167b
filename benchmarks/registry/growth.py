"""How does a scan's cost grow with models and with keys, and what would a million models and ten thousand keys take?

Parts of a registry made by :mod:`benchmarks.registry.scan` are scanned with parts of its ring. Seconds are fitted by
``start + c * keys + models * (a + b * keys)``, least squares on relative errors: ``c`` stretches a key, once; ``a`` is
what a model costs by itself, and ``b`` what each key adds to it.

    python -m benchmarks.registry.growth ROOM [--workers 2] [--html growth.html] [--json PATH]
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from benchmarks.registry.population import Population
from benchmarks.registry.scan import scanned
from onnxmark.report.charts import Estimate, Line, LineChart, LineCharts
from onnxmark.report.html import to_html
from onnxmark.report.page import Headline, Page, Section

_MODELS: Final = (128, 256, 512)
_KEYS: Final = (50, 100, 200)
_LARGE: Final = (1_000_000, 10_000)


def main(
    room: Annotated[Path, typer.Argument(help="Folder of a registry, as benchmarks.registry.scan --room left it.")],
    workers: Annotated[int, typer.Option(help="Workers of each scan.")] = 2,
    html: Annotated[Path | None, typer.Option(help="Draw the figures there.")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures there, too.")] = None,
) -> None:
    """Scan parts of a registry with parts of a ring, and fit the cost."""
    known = json.loads((room / "population.json").read_text())
    whole = Population(room / "models", room / "keys", known["planted"], known["logical"])
    rows: list[dict[str, Any]] = []
    files = sorted(whole.models.rglob("*.onnx"))
    for n_models in _MODELS:
        models = linked(files[:: max(1, len(files) // n_models)][:n_models], room / "some")
        for n_keys in _KEYS:
            ring = linked(sorted(whole.keys.glob("*.npy"))[:n_keys], room / "ring")
            found = scanned(models, replace(whole, keys=ring), f"local:{workers}")
            rows.append({"models": n_models, "keys": n_keys, "seconds": found["seconds"]})
            print(rows[-1], flush=True)
    figures = {"workers": workers, "rows": rows, **_fit(rows, workers)}
    print(json.dumps(figures, indent=2))
    if html is not None:
        html.write_text(to_html(drawn(rows, workers)), encoding="utf-8")
    if out is not None:
        out.write_text(json.dumps(figures, indent=2) + "\n")


def linked(files: list[Path], place: Path) -> Path:
    """A folder of hard links to files, made anew."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for path in files:
        os.link(path, place / path.name)
    return place


def _fit(rows: list[dict[str, Any]], workers: int) -> dict[str, Any]:
    seconds = np.array([row["seconds"] for row in rows])
    sizes = np.array([[1, row["keys"], row["models"], row["models"] * row["keys"]] for row in rows], dtype=np.float64)
    start, stretch, each, by_key = np.linalg.lstsq(sizes / seconds[:, np.newaxis], np.ones(len(rows)), rcond=None)[0]
    models, keys = _LARGE
    fitted = sizes @ np.array([start, stretch, each, by_key])
    return {
        "start_s": round(float(start), 2),
        "ms_per_key": round(1e3 * float(stretch), 2),
        "ms_per_model": round(1e3 * float(each), 2),
        "ms_per_model_and_key": round(1e3 * float(by_key), 4),
        "largest_error_of_the_fit": round(float(np.abs(fitted / seconds - 1).max()), 2),
        "core_hours_of_a_million_models_and_ten_thousand_keys": round(
            workers * models * float(each + by_key * keys) / 3600
        ),
    }


def drawn(rows: Sequence[dict[str, Any]], workers: int) -> Page:
    """Seconds against models for each ring, and against keys for each registry."""
    charts = (
        _chart(rows, "models", "keys", "Growth with the registry"),
        _chart(rows, "keys", "models", "Growth with the ring"),
    )
    note = f"Whole commands with all start-up, {workers} workers; each step on the axis doubles the number."
    return Page(
        kind="benchmark",
        title="cost of a scan",
        subtitle="ResNet-18, MobileNetV2 and wide residual networks",
        headline=Headline("Growth", "Seconds of a scan against the number of models and of keys."),
        sections=tuple(
            Section(chart.title, (LineCharts(chart.title, tuple(_subjects(rows, other)), (chart,), note),))
            for chart, other in zip(charts, ("keys", "models"), strict=True)
        ),
        colophon="benchmarks.registry.growth",
    )


def _subjects(rows: Sequence[dict[str, Any]], what: str) -> list[str]:
    return [f"{number:,} {what}" for number in sorted({row[what] for row in rows})]


def _exact(place: int, seconds: float) -> Estimate:
    """One run: no limits."""
    return Estimate(place, seconds, seconds, seconds, f"{seconds:.1f} s")


def _chart(rows: Sequence[dict[str, Any]], axis: str, lines: str, title: str) -> LineChart:
    ticks, subjects = (sorted({row[what] for row in rows}) for what in (axis, lines))
    seconds = {(row[axis], row[lines]): float(row["seconds"]) for row in rows}
    return LineChart(
        title=title,
        quantity="seconds",
        axis=axis,
        ticks=tuple(f"{tick:,}" for tick in ticks),
        top=max(seconds.values()),
        lines=tuple(
            Line(
                index,
                tuple(
                    _exact(place, seconds[tick, subject])
                    for place, tick in enumerate(ticks)
                    if (tick, subject) in seconds
                ),
            )
            for index, subject in enumerate(subjects)
        ),
    )


if __name__ == "__main__":
    typer.run(main)
