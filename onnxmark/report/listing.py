"""Terminal views of a key, of a model's layers and of a marking, each rendered from its document."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from onnxmark.report.text import byte_size, plain, power_of_ten

Document = dict[str, Any]

_SUITABILITY: Final = {"comfortable": "green", "tight": "yellow", "poor": "red", "over capacity": "red"}


def print_key(document: Document, console: Console) -> None:
    """Print what ``keygen`` made."""
    carrier, capacity = document["carrier"], document["capacity"]
    grid = _grid()
    grid.add_row("key", Text(f"{plain(document['path'], 200)}  (keep it secret; without it the mark cannot be found)"))
    grid.add_row("commitment", Text(f"sha256 {document['commitment']}", style="bold"))
    layer = plain(carrier["name"]) or "any layer of the shape"
    grid.add_row("layer", Text(f"{layer}  ({plain(carrier['op']) or 'shape'} {_shape(carrier['shape'])})"))
    grid.add_row(
        "reads", Text(f"{document['n_bits']} bits from carrier {carrier['kind']}, {document['generator']} rows")
    )
    grid.add_row("capacity", _capacity(capacity))
    signature = "kept in the key" if document["premark_signature"] else "none (made without the model)"
    grid.add_row("pre-mark record", Text(signature))
    note = "Publish or time-stamp the commitment before the model: a registered key needs 2^-64 less to convince."
    console.print(Panel(Group(grid, Text(""), Text(note, style="dim")), title=" key made ", title_align="left"))


def print_layers(document: Document, console: Console, *, detail: bool = False) -> None:
    """Print what ``inspect`` found, a table a model, and with ``detail`` a paragraph a layer."""
    for model in document["models"]:
        console.print(Text(plain(model["path"], 200), style="bold"))
        if model["problem"] is not None:
            console.print(Text(f"  {plain(model['problem'], 400)}", style="yellow"))
            continue
        producer = plain(model["producer"], 40) or "unknown producer"
        console.print(Text(f"  {byte_size(model['bytes'])} · {producer} · opset {model['opset']}", style="dim"))
        console.print(_layer_table(model["layers"], document["bits"]))
        for layer in model["layers"] if detail else ():
            console.print(_layer_detail(layer))
        console.print(_layer_summary(model["layers"], document["bits"]))


def print_marking(document: Document, console: Console) -> None:
    """Print what ``embed`` did."""
    carrier = document["carrier"]
    grid = _grid()
    grid.add_row("marked model", Text(plain(document["output"], 200), style="bold"))
    grid.add_row("key", Text(f"sha256 {document['key']['commitment']}"))
    grid.add_row(
        "carrier",
        Text(f"{plain(carrier['name'])}  ({plain(carrier['op'])} {_shape(carrier['shape'])}, {carrier['kind']})"),
    )
    grid.add_row("metric", Text(document["metric"]))
    margin = document["margin"]
    grid.add_row(
        "margin", Text(f"{margin['reached']:.2f} standard deviations in the written file ({margin['asked']:g} asked)")
    )
    grid.add_row("change", Text(f"{document['relative_change']:.2%} of the layer's norm"))
    grid.add_row(
        "bits",
        Text(f"{document['n_bits']}, {document['n_errors']} wrong; p ≤ {power_of_ten(document['log10_p_value'])}"),
    )
    for line in _fidelity(document["fidelity"]):
        grid.add_row("outputs", Text(line))
    console.print(Panel(grid, title=" mark embedded ", title_align="left", border_style="green"))


def _fidelity(fidelity: Document | None) -> list[str]:
    if fidelity is None:
        return ["not measured; give --calibration inputs.npz to measure (and to spare) the outputs"]
    lines = [f"moved by {fidelity['relative_change']:.2%} on {fidelity['n_inputs']} inputs ({fidelity['provider']})"]
    if fidelity["decisions_changed"] is not None:
        lines.append(f"{fidelity['decisions_changed']} of {fidelity['n_inputs']} top-1 decisions changed")
    if fidelity["accuracy_before"] is not None:
        lines.append(f"accuracy {fidelity['accuracy_before']:.4f} before, {fidelity['accuracy_after']:.4f} after")
    return lines


_COLUMNS: Final = (
    ("#", True, True),
    ("weights", False, False),
    ("op", False, True),
    ("shape", False, True),
    ("stored as", False, False),
    ("BN", False, False),
    ("zeros", True, True),
    ("shared", True, True),
)


def _layer_table(layers: list[Document], bits: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 1), header_style="dim")
    for name, right, whole in (*_COLUMNS, (f"room for {bits} bits", False, True)):
        table.add_column(name, justify="right" if right else "left", no_wrap=whole, overflow="fold")
    for layer in layers:
        table.add_row(*_layer_row(layer))
    return table


def _layer_row(layer: Document) -> tuple[str | Text, ...]:
    problem, looks, folding = layer["problem"], layer["profile"], layer["folding"]
    stored = plain(layer["stored"], 200) if problem is None else f"cannot be read: {plain(problem, 200)}"
    ratio = None if looks is None else looks["mean_filter_ratio"]
    return (
        str(layer["position"]),
        Text(plain(layer["name"], 60)),
        Text(plain(layer["op"], 30)),
        _shape(layer["shape"]) or "?",
        Text(stored, style="" if problem is None else "yellow"),
        "" if folding is None else folding["state"],
        "" if looks is None else f"{looks['sparsity']:.0%}",
        "" if ratio is None else f"{ratio:.2f}",
        _capacity(layer["capacity"]) if problem is None else Text("–"),
    )


def _layer_detail(layer: Document) -> Panel:
    """Nodes, folding evidence and distribution of one layer."""
    grid = _grid()
    grid.add_row("nodes", Text(", ".join(plain(node) for node in layer["nodes"][:8])))
    grid.add_row("stored as", Text(plain(layer["stored"], 400)))
    folding, looks, room = layer["folding"], layer["profile"], layer["capacity"]
    if folding is not None:
        evidence = "; ".join(plain(words, 300) for words in folding["evidence"])
        grid.add_row("batch norm", Text(f"{folding['state']}: {evidence}"))
    if looks is not None:
        levels = f"{looks['n_levels']:,} different values, {looks['sparsity']:.1%} zeros"
        grid.add_row(
            "weights", Text(f"{looks['low']:.4g} to {looks['high']:.4g}, deviation {looks['std']:.4g}; {levels}")
        )
    if room is not None:
        change = room["predicted_relative_change"]
        cost = "out of reach" if change is None else f"would change {change:.1%} of the norm"
        words = f"{room['n_bits']} bits in {room['entries']:,} entries of {layer['carrier']}, largest margin"
        grid.add_row("capacity", Text(f"{words} {room['largest_margin']:.2f}; margin {room['margin']:g} {cost}"))
    title = Text(f" {layer['position']}  {plain(layer['name'], 60)} ")
    return Panel(grid, title=title, title_align="left", border_style="dim")


def _layer_summary(layers: list[Document], bits: int) -> Text:
    readable = [layer for layer in layers if layer["problem"] is None]
    roomy = [layer for layer in readable if layer["capacity"]["suitability"] == "comfortable"]
    counts = f"{len(layers)} found / {len(readable)} readable / {len(roomy)} with comfortable room for {bits} bits"
    return Text(f"  layers: {counts}\n", style="dim")


def _capacity(capacity: Document) -> Text:
    word = capacity["suitability"]
    return Text(f"{word} (T/M {capacity['ratio']:.2g})", style=_SUITABILITY.get(word, ""))


def _shape(sizes: list[int]) -> str:
    return "×".join(map(str, sizes))


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid
