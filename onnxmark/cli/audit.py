"""``onnxmark audit``: is this key's mark in this model?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxmark.cli.exits import ExitCode
from onnxmark.cli.output import OUTPUT_HELP, Document, Format, check_formats, emit, parse_outputs, progress, remark
from onnxmark.cli.sources import SOURCE_HELP, Backend, Factory, Opening, Shapes, Trust, as_onnx
from onnxmark.errors import ModelError, ModelUnavailable
from onnxmark.report.formats import Kind

if TYPE_CHECKING:
    from onnxmark.attacker import Attacker
    from onnxmark.attacks import Recipe
    from onnxmark.audit import Audit, Finding
    from onnxmark.keys import AnyKey
    from onnxmark.robustness import OracleOf, Trial
    from onnxmark.verdict import Policy
    from onnxmark.weights import WeightTensor


def audit(
    model: Annotated[Path, typer.Argument(help=SOURCE_HELP, show_default=False)],
    key: Annotated[list[Path] | None, typer.Option("--key", "-k", help="Key file; repeatable.")] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="Directory of key files (*.npy).")] = None,
    message: Annotated[
        Path | None, typer.Option("--message", help="Bits of a foreign key: .npy of 0 and 1, any shape.")
    ] = None,
    layer: Annotated[str | None, typer.Option("--layer", help="Read this layer only (weights or node name).")] = None,
    run: Annotated[
        bool, typer.Option("--run", help="Run the model for keys that ask it (ingrain, trigger), with ONNX Runtime.")
    ] = False,
    carriers: Annotated[
        Path | None, typer.Option("--carriers", help="Inputs of a key that holds their digest only (.npy, .npz).")
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", help="Execution provider to run on; by default the best there is.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="A model without the mark, for simulated attacks that need one."),
    ] = None,
    align: Annotated[
        bool,
        typer.Option(
            "--align/--no-align",
            help="Undo what a thief did to channels, by what the key remembers of the layer before marking.",
        ),
    ] = True,
    alpha: Annotated[float, typer.Option("--alpha", help="False-positive rate asked for, after correction.")] = 1e-6,
    registered: Annotated[
        bool, typer.Option("--registered", help="You vouch that the keys were time-stamped before the model appeared.")
    ] = False,
    attacks: Annotated[
        str,
        typer.Option(
            "--attacks",
            help="Simulated attacks on a carrier found: none, quick, full, or names ('onnxmark attack --list').",
        ),
    ] = "quick",
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", help="Inputs (.npz by input name): runs the model to show what each attack costs it."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Class indices of the inputs (.npy): accuracy beside each attack.")
    ] = None,
    spread: Annotated[
        bool, typer.Option("--spread", help="Measure that cost with every layer attacked alike, not the carrier alone.")
    ] = False,
    draws: Annotated[int, typer.Option("--draws", min=1, max=1000, help="Repetitions of a random attack.")] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random attacks.")] = 0,
    trust: Trust = False,
    factory: Factory = None,
    shapes: Shapes = None,
    backend: Backend = None,
    digest: Annotated[bool, typer.Option("--digest", help="Put the model's SHA-256 into the report.")] = False,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    output: Annotated[list[str] | None, typer.Option("-o", "--output", help=OUTPUT_HELP)] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
) -> None:
    """Look for the mark of one or more keys in a model.

    The model is not executed unless --run or --calibration asks for it. Exit code 0: a mark was found. 1: no match. 3:
    inconclusive. 2: error.

    Examples:

      onnxmark audit model.onnx --key key.npy

      onnxmark audit model.onnx --keys ring/ --attacks none --format json

      onnxmark audit model.onnx --key key.npy --attacks full --calibration inputs.npz -o report.html

      onnxmark audit model.onnx --key key.npy --attacks quick,permute,ort-dynamic

      onnxmark audit student.onnx --key ingrain.npy --run

      onnxmark audit model.keras --key key.npy

      onnxmark audit model.onnx --key legacy_w.npy --message legacy_b.npy -o json=result.json
    """
    outputs = parse_outputs(output or [])
    check_formats(Kind.AUDIT, format_, outputs)
    paths = key_files(key, keys)
    if not 0 < alpha < 1:
        raise typer.BadParameter(f"{alpha:g} does not lie between 0 and 1", param_hint="--alpha")

    _calm_blas()
    from onnxmark.report.documents.audit import audit_document, failed_audit_document
    from onnxmark.verdict import Policy

    loaded = _load(paths, message)
    policy = Policy(alpha=alpha, registered=registered)
    asked = _asked(carriers, provider) if run else None
    opening = Opening.of(trust=trust, factory=factory, shapes=shapes, backend=backend)
    document: Document
    try:
        with ExitStack() as stack:
            path, conversion = stack.enter_context(as_onnx(model, opening, quiet=no_progress))
            before = reference and stack.enter_context(as_onnx(reference, opening, quiet=no_progress))[0]
            simulation = _simulation(attacks, path, before, calibration, labels, draws, seed, spread=spread)
            result, trials = _audit(path, loaded, policy, layer, asked, simulation, align=align, quiet=no_progress)
        hashed = digest or Format.SARIF in (format_, *(asked for asked, _ in outputs))
        sha256 = _sha256(model) if hashed and model.is_file() else None
        told = _told(attacks, simulation)
        document = audit_document(result, trials, simulation=told, sha256=sha256, conversion=conversion)
        code = _exit_code(result)
    except ModelUnavailable:
        raise
    except ModelError as error:
        remark(f"onnxmark: inconclusive: {error}")
        if format_ is Format.RICH and not outputs:
            raise typer.Exit(ExitCode.INCONCLUSIVE) from error
        document, code = failed_audit_document(str(model), str(error)), ExitCode.INCONCLUSIVE
    emit(document, format_, outputs)
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class _Simulation:
    """The attacks to simulate on a carrier found, and with what."""

    recipes: tuple[Recipe, ...]
    skipped: tuple[tuple[str, str], ...]
    attacker: Attacker
    draws: int
    seed: int
    spread: bool


def _simulation(
    attacks: str,
    model: Path,
    reference: Path | None,
    calibration: Path | None,
    labels: Path | None,
    draws: int,
    seed: int,
    *,
    spread: bool,
) -> _Simulation | None:
    """What is to be simulated; None where nothing is. An attack that was named and lacks what it needs is an error."""
    if attacks == "none":
        return None
    from onnxmark.attacker import Attacker
    from onnxmark.errors import AttackError
    from onnxmark.recipes import SETS, select

    attacker = Attacker(model, reference, calibration, labels)
    if calibration is not None:
        attacker.inputs()
    chosen = select(attacks)
    named = {word.strip() for word in attacks.split(",")} - set(SETS)
    recipes, skipped = [], dict(chosen.skipped)
    for recipe in chosen.recipes:
        lacking = attacker.lacks(recipe)
        if lacking is None:
            recipes.append(recipe)
        elif recipe.name in named:
            raise AttackError(f"attack {recipe.name!r} {lacking}")
        else:
            skipped[recipe.name] = lacking
    return _Simulation(tuple(recipes), tuple(skipped.items()), attacker, draws, seed, spread)


def _told(attacks: str, simulation: _Simulation | None) -> Document | None:
    from onnxmark.report.documents.audit import simulation_document

    if simulation is None:
        return None
    return simulation_document(
        attacks, simulation.seed, simulation.draws, spread=simulation.spread, skipped=simulation.skipped
    )


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _calm_blas() -> None:
    """One BLAS thread: an audit multiplies small blocks by one vector, and on a busy machine threads only wait.

    Has no effect where NumPy is loaded already, or where the user decided otherwise.
    """
    for library in ("OPENBLAS", "MKL", "OMP"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def key_files(key: list[Path] | None, keys: Path | None) -> list[Path]:
    """The key files of ``--key`` and ``--keys``.

    Raises:
        typer.BadParameter: There is none.
    """
    paths = [*(key or []), *_ring(keys)]
    if not paths:
        raise typer.BadParameter("give at least one key", param_hint="--key or --keys")
    return paths


def _ring(directory: Path | None) -> list[Path]:
    if directory is None:
        return []
    if not directory.is_dir():
        raise typer.BadParameter(f"{str(directory)!r} is not a directory", param_hint="--keys")
    found = sorted(directory.glob("*.npy"))
    if not found:
        raise typer.BadParameter(f"{str(directory)!r} holds no .npy files", param_hint="--keys")
    return found


def _load(paths: Iterable[Path], message: Path | None) -> list[AnyKey]:
    from onnxmark.keys import ForeignKey, load_key

    loaded = {path: load_key(path, message) for path in dict.fromkeys(paths)}
    for path, key in loaded.items():
        if isinstance(key, ForeignKey) and message is None:
            remark(
                f"onnxmark: warning: {str(path)!r} is a bare matrix and no --message was given: reading it as all "
                "ones, a message that a biased layer can match by itself"
            )
    return list(loaded.values())


def _audit(
    path: Path,
    keys: list[AnyKey],
    policy: Policy,
    layer: str | None,
    oracle: OracleOf | None,
    simulation: _Simulation | None,
    *,
    align: bool,
    quiet: bool,
) -> tuple[Audit, dict[int, tuple[Trial, ...]]]:
    from onnxmark.audit import audit_model, seen_weights
    from onnxmark.model import open_model
    from onnxmark.plugins import scheme
    from onnxmark.verdict import Verdict

    trials = {}
    with ExitStack() as stack:
        model = stack.enter_context(open_model(path))
        with progress("reading layers", quiet=quiet) as report:
            result = audit_model(
                model,
                keys,
                policy,
                layer=layer,
                oracle=None if oracle is None else oracle(path),
                align=align,
                schemes=scheme,
                progress=report,
            )
        for index, finding in enumerate(result.findings):
            if simulation is not None and finding.verdict is Verdict.MATCH and finding.best is not None:
                weights = seen_weights(model, finding)
                with progress("simulating attacks", quiet=quiet) as report:
                    trials[index] = _sweep(finding, weights, policy, oracle, simulation, report, align=align)
    return result, trials


def _asked(carriers: Path | None, provider: str | None) -> OracleOf:
    """How a model is run for keys that ask it."""
    from onnxmark.audit import Oracle
    from onnxmark.model.running.calibration import load_array

    inputs = None if carriers is None else load_array(carriers)
    return lambda path: Oracle.of_file(path, inputs=inputs, provider=provider)


def _sweep(
    finding: Finding,
    weights: tuple[WeightTensor, ...],
    policy: Policy,
    oracle: OracleOf | None,
    simulation: _Simulation,
    report: Callable[[int, int], None] | None,
    *,
    align: bool,
) -> tuple[Trial, ...]:
    from onnxmark.plugins import scheme
    from onnxmark.robustness import sweep

    meter = None
    if simulation.attacker.calibration is not None:
        from onnxmark.fidelity import FidelityMeter

        inputs = simulation.attacker.inputs()
        names = tuple(layer.name for layer in weights)
        meter = FidelityMeter(simulation.attacker, inputs, names, spread=simulation.spread, seed=simulation.seed)
    return sweep(
        finding,
        weights,
        simulation.recipes,
        policy,
        attacker=simulation.attacker,
        meter=meter,
        oracle=oracle,
        align=align,
        seed=simulation.seed,
        n_draws=simulation.draws,
        schemes=scheme,
        progress=report,
    )


def _exit_code(result: Audit) -> ExitCode:
    from onnxmark.verdict import Verdict

    return {
        Verdict.MATCH: ExitCode.DONE,
        Verdict.NO_MATCH: ExitCode.NOT_SATISFIED,
        Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
    }[result.verdict]
