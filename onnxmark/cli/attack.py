"""``onnxmark attack``: what an attacker would leave behind, as a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxmark.cli.output import OUTPUT_HELP, Format, check_formats, emit, parse_outputs, progress
from onnxmark.report.formats import Kind

if TYPE_CHECKING:
    from onnxmark.attacks import Recipe

CONTEXT = {"ignore_unknown_options": True}
"""Every attack is an option, and they apply in order: so they are read from what is left of the command line."""


def attack(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL --ATTACK [VALUE] …", help="ONNX file, and attacks in order.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Attacked model to write.", show_default=False)
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the attacks there are.")] = False,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Attack this layer only (weights or node name); by default all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all randomness.")] = 0,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="A model without the mark, for attacks that need one.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            help="Inputs (.npz by input name), for attacks that need them and to measure what became of the outputs.",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Class indices of the inputs (.npy): measures accuracy.")
    ] = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Do not write the recipe into the model's metadata.")
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="Format on standard output.")] = Format.RICH,
    report: Annotated[list[str] | None, typer.Option("--report", help=OUTPUT_HELP)] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
) -> None:
    """Attack a model and write what is left of it.

    Each attack is an option; --ATTACK VALUE,FIELD=VALUE sets its further fields. They apply in the order given, to
    every layer or to --layer. The original is never changed.

    Examples:

      onnxmark attack --list

      onnxmark attack model.onnx --prune 0.5 --quantize 8,per_channel -o attacked.onnx

      onnxmark attack model.onnx --permute --noise 0.1 --seed 7 -o attacked.onnx

      onnxmark attack model.onnx --shift 1.5 --layer conv3.weight --calibration inputs.npz -o attacked.onnx
    """
    outputs = parse_outputs(report or [])
    if list_only:
        from onnxmark.recipes import catalogue
        from onnxmark.report.documents.attack import attacks_document

        check_formats(Kind.ATTACKS, format_, outputs)
        emit(attacks_document([asdict(facts) for facts in catalogue()]), format_, outputs)
        return
    check_formats(Kind.ATTACK, format_, outputs)
    model, recipes = _parsed(arguments or [])
    if output is None:
        raise typer.BadParameter("name the file to write with -o", param_hint="-o")

    from onnxmark.attacking import attack_file
    from onnxmark.report.documents.attack import attack_document

    with progress("attacking", quiet=no_progress) as told:
        attacking = attack_file(
            model,
            recipes,
            output,
            layer=layer,
            seed=seed,
            reference=reference,
            calibration=calibration,
            labels=labels,
            anonymous=anonymous,
            progress=told,
        )
    emit(attack_document(attacking), format_, outputs)


def _parsed(arguments: list[str]) -> tuple[Path, list[Recipe]]:
    """The model and the recipes in a command line from which the known options are gone.

    Raises:
        typer.BadParameter: There is not exactly one model, or no attack.
        AttackError: An attack is unknown, or its value does not fit.
    """
    from onnxmark.recipes import optional_value, recipe

    recipes: list[Recipe] = []
    models: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            models.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        text: str | None = value if equals else None
        if not equals and waiting and _is_value(name, waiting[0], optional=optional_value(name)):
            text = waiting.pop(0)
        recipes.append(recipe(name, text))
    if len(models) != 1:
        found = ", ".join(map(repr, models)) or "none"
        raise typer.BadParameter(f"give exactly one model, found {found}", param_hint="MODEL")
    if not recipes:
        raise typer.BadParameter(
            "give at least one attack, for example --prune 0.5 ('onnxmark attack --list' lists them)",
            param_hint="--ATTACK",
        )
    return Path(models[0]), recipes


def _is_value(name: str, word: str, *, optional: bool) -> bool:
    """Whether a word belongs to the attack before it: it does if it may, unless it makes no sense there."""
    from onnxmark.errors import AttackError
    from onnxmark.recipes import recipe

    if word.startswith("--"):
        return False
    if not optional:
        return True
    try:
        recipe(name, word)
    except AttackError:
        return False
    return True
