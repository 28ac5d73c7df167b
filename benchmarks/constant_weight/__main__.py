"""Does a constant weight code survive pruning up to the rate it was made for, and what does that cost?

Kuribayashi, Yasui, Malik (J. Imaging 2023, 9(6):117) hide a word of few ones in secretly chosen weights, and pruning
takes small weights first. Two codes for 256 bits, made for three pruning rates, go into the third convolution
(64x64x3x3) of a small network for Fashion-MNIST: into the finished network, and held there through training. The word
must be whole at the rate predicted and broken by one weight more; what pruning leaves of it stands beside what is left
of Uchida's projection in closed form. Networks are kept in ``benchmarks/out``.

    python -m benchmarks.constant_weight [--data DIR] [--seeds 3] [--null 10000] [--json PATH] [--html PATH]
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from onnxmark_torch.data import FASHION_MNIST
from onnxmark_torch.tasks import fashion_mnist

from benchmarks.constant_weight.bench import N_TRAINED_ON, Bench, Figures, host, measure
from benchmarks.constant_weight.null import null_audits, null_tables
from benchmarks.constant_weight.tables import other_table, page, pruning_table
from benchmarks.display import wide_console, write_json
from onnxmark.report.html import to_html

_WIDTH: Final = 200


def main(
    data: Annotated[Path, typer.Option(help="Folder of Fashion-MNIST's IDX files.")] = Path(FASHION_MNIST),
    seeds: Annotated[int, typer.Option(min=1, help="Networks.")] = 3,
    null: Annotated[int, typer.Option(min=0, help="Random keys in layers that hold nothing; 0 for none.")] = 10_000,
    json: Annotated[Path | None, typer.Option(help="Also write the figures here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Draw the curves here.")] = None,
) -> None:
    """Does a constant weight code survive pruning up to the rate it was made for, and what does that cost?"""
    started = time.perf_counter()
    task, console = fashion_mnist(data).smaller(N_TRAINED_ON), wide_console()
    console.width = max(console.width, _WIDTH)
    figures = measure(task, seeds)
    console.print(pruning_table(figures))
    console.print(other_table(figures))
    if null:
        for table in null_tables(null_audits(null, host(Bench(task, 0).unmarked).values)):
            console.print(table)
    if html is not None:
        html.write_text(to_html(page(figures)), encoding="utf-8")
    write_json(json, _plain(figures))
    console.print(f"{time.perf_counter() - started:.0f} s")


def _plain(figures: Figures) -> dict[str, Any]:
    return {
        "runs": {f"{way}: {name}": [asdict(run) for run in runs] for (way, name), runs in figures.runs.items()},
        "fine-tuned by a thief": {name: [asdict(left) for left in one] for name, one in figures.stolen.items()},
        "accuracy after pruning": figures.pruned,
    }


if __name__ == "__main__":
    typer.run(main)
