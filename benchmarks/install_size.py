"""What does it take to install onnxmark, bare and with each framework, and to import it?

Every installation gets a virtual environment of its own: the packages that pip chose, their megabytes on disk, and
whether pip finds them consistent. Importing is timed as whole processes, interleaved, against importing NumPy alone.

    python -m benchmarks.install_size [--extras ,runtime,torch,tf] [--rounds 15] [--json PATH]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from benchmarks.display import progress, wide_console, write_json
from benchmarks.paired import Command, interleaved, ratio, row, shown

_ROOT: Final = Path(__file__).parents[1]
_LARGEST: Final = 6
_SIZES: Final = """
import json
from importlib.metadata import distributions

sizes = {}
for one in distributions():
    size = sum(path.stat().st_size for file in one.files or () if (path := file.locate()).is_file())
    sizes[one.metadata["Name"]] = [one.version, size]
print(json.dumps(sizes))
"""


def installed(extra: str, folder: Path) -> dict[str, Any]:
    """Packages and megabytes of one installation; the environment stays in ``folder``."""
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    constraint = ["--constraint", str(_ROOT / "constraints.txt")]
    if "torch" in extra or extra == "all":
        # A constraint cannot choose between the builds that an index offers once others ask for it.
        subprocess.run([*pip, "install", *constraint, "torch"], check=True)
    target = f"{_ROOT}[{extra}]" if extra else str(_ROOT)
    subprocess.run([*pip, "install", *constraint, target], check=True)
    check = subprocess.run([*pip, "check"], check=False, capture_output=True, text=True)
    listed = subprocess.run([str(python), "-c", _SIZES], check=True, capture_output=True, text=True)
    packages = {name: found for name, found in json.loads(listed.stdout).items() if name not in ("pip", "setuptools")}
    largest = sorted(packages.items(), key=lambda one: -one[1][1])
    return {
        "extra": extra,
        "n_packages": len(packages),
        "megabytes": round(sum(size for _, size in packages.values()) / 1e6),
        "consistent": check.returncode == 0,
        "largest": {name: {"version": version, "megabytes": round(size / 1e6)} for name, (version, size) in largest},
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("pip install", "packages", "MB on disk", "pip check", "largest", title="What is installed")
    for one in rows:
        names = list(one["largest"].items())[:_LARGEST]
        largest = ", ".join(f"{name} {found['version']} ({found['megabytes']})" for name, found in names)
        label = f"onnxmark[{one['extra']}]" if one["extra"] else "onnxmark"
        fine = "consistent" if one["consistent"] else "broken"
        table.add_row(escape(label), str(one["n_packages"]), f"{one['megabytes']:,}", fine, largest)
    return table


def main(
    extras: Annotated[str, typer.Option(help="Installations, comma-separated; + joins extras.")] = (
        ",runtime,torch,tf,runtime+torch+tf"
    ),
    rounds: Annotated[int, typer.Option(min=3, help="Runs of each import.")] = 15,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")] = None,
) -> None:
    """What does it take to install onnxmark, bare and with each framework, and to import it?"""
    names = [name.replace("+", ",") for name in extras.split(",")]
    console, found = wide_console(), []
    with tempfile.TemporaryDirectory() as room, progress("installing", len(names)) as advance:
        for number, name in enumerate(names):
            found.append(installed(name, Path(room) / str(number)))
            advance(1)
        console.print(_table(found))
        python = str(Path(room) / "0" / "bin" / "python")
        commands = {what: Command((python, "-c", f"import {what}")) for what in ("numpy", "onnxmark", "onnx")}
        commands["onnxmark.audit"] = Command((python, "-c", "import onnxmark.audit"))
        runs = interleaved(commands, rounds, "importing")
    table = Table("import", "wall s", "CPU s", "peak MB", title=f"median (min–max) of {rounds} rounds, bare install")
    for name, found_runs in runs.items():
        table.add_row(*row(name, found_runs))
    console.print(table)
    over = {name: ratio(runs[name].seconds, runs["numpy"].seconds) for name in runs if name != "numpy"}
    for name, times in over.items():
        console.print(f"import {name} over import numpy: {shown(times)} wall")
    write_json(out, {"installed": found, "imports": {name: one.as_json() for name, one in runs.items()}, "over": over})


if __name__ == "__main__":
    typer.run(main)
