"""The page of an inspection: a table of layers for each model, and each layer in detail."""

from __future__ import annotations

from typing import Final

from onnxmark.report.formats import Document
from onnxmark.report.page import Cell, Column, Fact, Facts, Headline, Notes, Page, Section, Table, Tone
from onnxmark.report.pages.conversion import traced
from onnxmark.report.pages.phrases import PATH, SENTENCE, colophon, counted, layer_of, name_of, room, shape_of
from onnxmark.report.text import byte_size, shortened

_COLUMNS: Final = (
    Column("#", numeric=True),
    Column("weights"),
    Column("op"),
    Column("shape"),
    Column("stored as"),
    Column("BN", detail=True),
    Column("zeros", numeric=True, detail=True),
    Column("shared", numeric=True, detail=True),
)
_NOTE: Final = (
    "BN: whether batch normalisation is folded into the weights. shared: 1 where filters are independent, larger where "
    "they share a shift: an indicator, never a verdict. T/M: bits of the message for each weight that can carry it."
)
_NOTHING: Final = Cell("")


def inspect_page(document: Document) -> Page:
    """The page of an inspection document."""
    models, bits = document["models"], document["bits"]
    read = [model for model in models if model["problem"] is None]
    layers = [layer for model in read for layer in model["layers"]]
    failed = f", {len(models) - len(read)} could not be read" if len(read) < len(models) else ""
    return Page(
        kind="layers that can carry a mark",
        title=shortened(models[0]["path"], PATH) if len(models) == 1 else counted(len(models), "model"),
        subtitle=f"judged for a message of {counted(bits, 'bit')}",
        headline=Headline(
            str(document["status"]).upper(),
            f"{counted(len(layers), 'layer')} in {counted(len(read), 'model')}{failed}",
            Tone.DOUBT if failed else Tone.NEUTRAL,
        ),
        sections=tuple(_model(model, bits, brief=not document.get("detail", False)) for model in models),
        colophon=colophon(document),
    )


def _model(model: Document, bits: int, *, brief: bool) -> Section:
    title = shortened(model["path"], PATH)
    if model["problem"] is not None:
        return Section(title, (Notes((shortened(model["problem"], SENTENCE),)),), badge=Cell("UNREADABLE", Tone.DOUBT))
    producer = shortened(model["producer"], 40) or "unknown producer"
    facts = f"{byte_size(model['bytes'])} · {producer} · opset {model['opset']}"
    conversion = model.get("conversion")
    came = () if conversion is None else (f"converted from {conversion['words']}: {traced(conversion)}",)
    details = tuple(_detail(layer) for layer in model["layers"])
    folded = (Section("Layers in detail", sections=details, detail=brief),) if details else ()
    return Section(
        title, (Notes((facts, *came, _summary(model["layers"], bits))), _table(model["layers"], bits)), folded
    )


def _table(layers: list[Document], bits: int) -> Table:
    columns = (*_COLUMNS, Column(f"room for {bits} bits"))
    return Table("Layers", columns, tuple(_row(layer) for layer in layers), _NOTE)


def _row(layer: Document) -> tuple[Cell, ...]:
    problem, looks, folding = layer["problem"], layer["profile"], layer["folding"]
    stored = shortened(layer["stored"], PATH) if problem is None else f"cannot be read: {shortened(problem, PATH)}"
    ratio = None if looks is None else looks["mean_filter_ratio"]
    return (
        Cell(str(layer["position"])),
        Cell(name_of(layer["name"]), literal=True),
        Cell(shortened(layer["op"], 30)),
        Cell(shape_of(layer["shape"]) or "?"),
        Cell(stored, Tone.NEUTRAL if problem is None else Tone.DOUBT),
        _NOTHING if folding is None else Cell(folding["state"]),
        _NOTHING if looks is None else Cell(f"{looks['sparsity']:.0%}"),
        _NOTHING if ratio is None else Cell(f"{ratio:.2f}"),
        _room(layer),
    )


def _room(layer: Document) -> Cell:
    usable = layer["problem"] is None and layer["capacity"] is not None
    return room(layer["capacity"]) if usable else Cell("–")


def _detail(layer: Document) -> Section:
    """Nodes, folding evidence and distribution of one layer."""
    rows = [
        Fact("layer", layer_of(layer)),
        *(Fact("node", name_of(node), literal=True) for node in layer["nodes"][:8]),
        Fact("stored as", shortened(layer["stored"], SENTENCE)),
    ]
    folding, looks, capacity = layer["folding"], layer["profile"], layer["capacity"]
    if folding is not None:
        evidence = "; ".join(shortened(words, 300) for words in folding["evidence"])
        rows.append(Fact("batch norm", f"{folding['state']}: {evidence}"))
    if looks is not None:
        rows.append(Fact("weights", _distribution(looks)))
    if capacity is not None:
        rows.append(Fact("capacity", _capacity(capacity, layer["carrier"])))
    if (code := layer.get("constant_weight")) is not None:
        rows.append(Fact("constant weight code", f"up to {code['bits']:,} bits that {code['rate']:.0%} pruning leaves"))
    return Section(f"{layer['position']}  {name_of(layer['name'])}", (Facts(tuple(rows)),))


def _distribution(looks: Document) -> str:
    levels = f"{looks['n_levels']:,} different values, {looks['sparsity']:.1%} zeros"
    spread = "" if looks["std"] is None else f", deviation {looks['std']:.4g}"
    return f"{looks['low']:.4g} to {looks['high']:.4g}{spread}; {levels}"


def _capacity(capacity: Document, carrier: str | None) -> str:
    change = capacity["predicted_relative_change"]
    cost = "out of reach" if change is None else f"would change {change:.1%} of the norm"
    words = f"{capacity['n_bits']} bits in {capacity['entries']:,} entries of {carrier}, largest margin"
    return f"{words} {capacity['largest_margin']:.2f}; margin {capacity['margin']:g} {cost}"


def _summary(layers: list[Document], bits: int) -> str:
    readable = [layer for layer in layers if layer["problem"] is None]
    roomy = [layer for layer in readable if layer["capacity"] and layer["capacity"]["suitability"] == "comfortable"]
    counts = f"{len(layers)} found / {len(readable)} readable"
    return f"layers: {counts} / {len(roomy)} with comfortable room for {bits} bits"
