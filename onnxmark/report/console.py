"""The audit report for people at a terminal, rendered from the document alone."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from onnxmark.report.text import byte_size, plain, power_of_ten

Document = dict[str, Any]

_STYLE: Final = {"match": "bold green", "no-match": "bold red", "inconclusive": "bold yellow"}
_HEADLINE: Final = {"match": "MATCH", "no-match": "NO MATCH", "inconclusive": "INCONCLUSIVE"}
_RELATION: Final = {"exact": "=", "bound": "≤", "estimate": "≈"}
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_HISTOGRAM_ROWS: Final = 4
_BAR_WIDTH: Final = 40


def print_audit(document: Document, console: Console) -> None:
    """Print an audit document."""
    console.print(_model(document))
    if document["status"] == "failed":
        console.print(Text.assemble(("INCONCLUSIVE", _STYLE["inconclusive"]), f"  {plain(document['problem'], 400)}"))
        return
    for finding in document["findings"]:
        console.print(_finding(finding, document["policy"]))
    console.print(_coverage(document["coverage"]))


def _model(document: Document) -> RenderableType:
    model = document["model"]
    facts = [byte_size(model["bytes"])] if "bytes" in model else []
    if model.get("producer"):
        facts.append(plain(model["producer"], 40))
    if model.get("opset") is not None:
        facts.append(f"opset {model['opset']}")
    return Text.assemble(("model  ", "dim"), (plain(model["path"], 200), "bold"), ("  " + " · ".join(facts), "dim"))


def _finding(finding: Document, policy: Document) -> RenderableType:
    verdict = finding["verdict"]
    parts: list[RenderableType] = [_facts(finding, policy)]
    if finding["margins"] is not None and finding["tests"]:
        parts.append(_section("Margins", _histogram(finding["margins"])))
    if finding["robustness"]:
        parts.append(_section("Robustness: the host weights under simulated compression", _survival(finding, policy)))
    parts.append(_section("What this does not prove", _caveats(finding)))
    title = Text.assemble((f" {_HEADLINE[verdict]} ", _STYLE[verdict]), f"key {finding['key']['commitment'][:16]}… ")
    return Panel(
        Group(*parts), title=title, title_align="left", border_style=_STYLE[verdict].split()[1], padding=(1, 2)
    )


def _section(title: str, body: RenderableType) -> RenderableType:
    return Group(Text(""), Text(title, style="bold"), Padding(body, (0, 0, 0, 2)))


def _facts(finding: Document, policy: Document) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("result", _sentence(finding, policy))
    grid.add_row("key", Text(_key(finding["key"])))
    carrier = finding["carrier"]
    if carrier is not None:
        shape = "×".join(map(str, carrier["shape"]))
        grid.add_row("carrier", Text(f"{plain(carrier['name'])}  ({plain(carrier['op'])} {shape})"))
        tried = len(finding["candidates"])
        chosen = f"{carrier['why']}; {tried} candidate reading{'s' if tried != 1 else ''} tried"
        view = "" if carrier["view"] == "as stored" else f", {carrier['view']}"
        grid.add_row("read as", Text(f"{carrier['reading']}{view}  ({chosen})"))
        grid.add_row("stored as", Text(plain(carrier["stored"], 300)))
    if finding["tests"]:
        grid.add_row("bits", Text(_bits(finding)))
        grid.add_row("embedding loss", Text(f"{finding['embedding_loss']:.4g} (mean over bits)"))
        for test in finding["tests"]:
            grid.add_row(test["name"], Text(f"p {_RELATION[test['kind']]} {_p(test['log10_p'])}  ({test['kind']})"))
    grid.add_row("standing", Text(_standing(finding)))
    return grid


def _sentence(finding: Document, policy: Document) -> Text:
    corrected = f"after correction for {finding['n_hypotheses']} hypotheses; alpha {policy['alpha']:g}"
    if finding["verdict"] == "match":
        inverted = " inverted (every bit turned round)," if finding["inverted"] else ""
        sign = _RELATION["estimate" if finding["tests"][0]["kind"] == "estimate" else "bound"]
        return Text(
            f"consistent with this key,{inverted} p {sign} {_p(finding['log10_p_value'])} {corrected}", style="green"
        )
    if finding["verdict"] == "no-match":
        return Text(f"not detected: p = {_p(finding['log10_p_value'])} {corrected}", style="red")
    return Text(plain(str(finding["reason"]), 400), style="yellow")


def _key(key: Document) -> str:
    made = "grown from a seed" if key["origin"] == "seed" else f"matrix {plain(key['file'])}"
    return f"sha256 {key['commitment']}  ({key['scheme']}, {made})"


def _bits(finding: Document) -> str:
    erased = f", {finding['n_erasures']} of them erased" if finding["n_erasures"] else ""
    return f"{finding['n_bits']} bits, {finding['n_errors']} wrong{erased}: BER {finding['bit_error_rate']:.3f}"


def _standing(finding: Document) -> str:
    standing = finding["standing"]
    if standing == "free-form":
        return "free-form: a bare matrix, never evidence of ownership"
    search = "clears" if finding["clears_seed_search"] else "does not clear"
    note = "" if standing == "registered" else f"; p {search} the bound for a forger who tries 2^64 seeds"
    return f"{standing}{note if finding['verdict'] == 'match' else ''}"


def _p(log10_p: float | None) -> str:
    return "0" if log10_p is None else power_of_ten(log10_p)


def _histogram(margins: Document) -> RenderableType:
    counts, edges = margins["histogram"]["counts"], margins["histogram"]["edges"]
    top = max(counts)
    lines = []
    for row in range(_HISTOGRAM_ROWS - 1, -1, -1):
        line = Text()
        for count, low in zip(counts, edges, strict=False):
            level = count / top * _HISTOGRAM_ROWS * 8 - row * 8
            block = _BLOCKS[max(0, min(8, round(level)))]
            if count and row == 0 and block == " ":
                block = _BLOCKS[1]
            line.append(block * 2, style="green" if low >= -1e-12 else "red")
        lines.append(line)
    width = 2 * len(counts)
    axis = f"{edges[0]:<{width // 2 - 1}.1f}0{edges[-1]:>{width // 2}.1f}"
    note = f"{'wrong':<{width // 2}}{'right':>{width // 2}}"
    summary = f"min {margins['min']:.2f}, mean {margins['mean']:.2f} standard deviations of a random key's score"
    return Group(*lines, Text(axis, style="dim"), Text(note, style="dim"), Text(summary))


def _survival(finding: Document, policy: Document) -> RenderableType:
    """One bar a trial: the evidence left, against the boundary of a match."""
    trials = finding["robustness"]
    strongest = max(-finding["log10_p_value"], *(-trial["log10_p_value"] for trial in trials), 1e-9)
    boundary = -policy["log10_alpha"] / strongest * _BAR_WIDTH
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=True, header_style="dim")
    table.add_column("attack", no_wrap=True)
    table.add_column("evidence left (│ boundary of a match)", no_wrap=True)
    table.add_column("BER", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for trial in trials:
        length = -trial["log10_p_value"] / strongest * _BAR_WIDTH
        verdict = trial["verdict"]
        colour = _STYLE[verdict].split()[1]
        draws = f" {trial['n_survived']}/{trial['n_draws']}" if trial["n_draws"] > 1 else ""
        table.add_row(
            Text(plain(trial["label"], 40)),
            _bar(length, boundary, colour),
            f"{trial['bit_error_rate']:.3f}",
            Text(verdict + draws, style=colour),
        )
    return table


def _bar(length: float, boundary: float, colour: str) -> Text:
    bar = Text()
    for cell in range(_BAR_WIDTH + 1):
        if cell == round(boundary):
            bar.append("│", style="bold")
        else:
            bar.append("█" if cell + 0.5 <= length else " ", style=colour)
    return bar


def _caveats(finding: Document) -> RenderableType:
    return Group(*(Text(f"• {sentence}", style="dim") for sentence in finding["does_not_prove"]))


def _coverage(coverage: Document) -> RenderableType:
    line = (
        f"layers: {coverage['found']} found / {coverage['audited']} audited / "
        f"{coverage['skipped']} skipped (no key fits their shape) / {len(coverage['failed'])} failed"
    )
    failures = [f"\n  {plain(failure['name'])}: {plain(failure['problem'], 300)}" for failure in coverage["failed"]]
    return Text(line + "".join(failures), style="dim")
