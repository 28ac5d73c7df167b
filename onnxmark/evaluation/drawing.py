"""Payloads, keys and seeds of an evaluation, all drawn from the plan's seed, so that it can be repeated.

That also means that whoever has the plan has its keys: they are for the evaluation and for nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from onnxmark.arrays import BitArray
from onnxmark.errors import LaboratoryError
from onnxmark.evaluation.plan import Plan, SchemePlan
from onnxmark.keymaking import ingrain_key, weight_layers, width_layers
from onnxmark.keys import Key, Secret, premark_signature
from onnxmark.keys.derivation import SEED_BYTES
from onnxmark.model.running.calibration import load_array
from onnxmark.schemes.answers.ingrain import IngrainOptions
from onnxmark.schemes.answers.trigger import TriggerOptions, TriggerScheme
from onnxmark.schemes.scheme import Layer, Reads, Scheme, WeightScheme, WidthScheme
from onnxmark.settings import settings

_SEED_BYTES: Final = 6
"""Seeds of trainings stay below 2^48, which every framework takes."""


def stream(plan: Plan, *parts: object) -> np.random.Generator:
    """Randomness of its own for whatever the parts name."""
    return np.random.default_rng(int.from_bytes(_digest(plan, parts, 16), "little"))


def seed_of(plan: Plan, *parts: object) -> int:
    """A seed of its own for whatever the parts name, from 0 to below 2^48."""
    return int.from_bytes(_digest(plan, parts, _SEED_BYTES), "little")


def payload_of(plan: Plan, number: int, n_bits: int) -> BitArray:
    """One of the D payloads, shape (n_bits,), uint8; a longer one begins like a shorter one."""
    packed = np.frombuffer(_digest(plan, ("payload", number), -(-n_bits // 8)), dtype=np.uint8)
    return np.unpackbits(packed, count=n_bits, bitorder="little")


def options_of(plan: SchemePlan, scheme: Scheme) -> Any:
    """How a scheme's keys are made, as the plan says.

    Raises:
        SettingError: The scheme has no such option, or not this value.
    """
    return settings(scheme.options, [f"{name}={value}" for name, value in plan.settings], f"scheme {plan.name!r}")


def drawn_key(
    plan: Plan,
    entry: SchemePlan,
    scheme: Scheme,
    model: Path,
    names: tuple[object, ...],
    payload: int | None = None,
    asking: tuple[Path, Sequence[Path]] | None = None,
) -> Key:
    """A key for a network, the same every time.

    Args:
        plan: The plan.
        entry: Which scheme's.
        scheme: The scheme.
        model: The file of the network before it is marked.
        names: What the key is called, for its seed.
        payload: Number of the payload; None for a payload of its own.
        asking: For schemes that ask: the inputs to ask, and the files of networks to compare with.

    Raises:
        LaboratoryError: Keys of the scheme cannot be made here.
        OnnxmarkError: The network does not take a key of the scheme.
    """
    made = _made(plan, entry, scheme, model, asking, names, payload)
    seed, salt = (_digest(plan, ("key", part, *names), SEED_BYTES) for part in ("seed", "salt"))
    return replace(
        made,
        seed=Secret(seed),
        salt=salt,
        payload=_bits(plan, names, payload, made.n_bits),
        premark=None if made.premark is None else premark_signature(_first(model, made), Secret(seed)),
    )


def _made(
    plan: Plan,
    entry: SchemePlan,
    scheme: Scheme,
    model: Path,
    asking: tuple[Path, Sequence[Path]] | None,
    names: tuple[object, ...],
    payload: int | None,
) -> Key:
    options, bits = options_of(entry, scheme), _bits(plan, names, payload, entry.bits)
    if scheme.reads is Reads.WEIGHTS:
        layers = weight_layers(model, entry.layers, entry.bits)
        return cast("WeightScheme", scheme).make_key(layers, bits, options)
    if scheme.reads is Reads.WIDTHS:
        return cast("WidthScheme", scheme).make_key(width_layers(model, entry.layers), bits, options)
    if isinstance(options, TriggerOptions) and asking is not None:
        return _triggers(plan, entry, options, asking[0], names)
    if not isinstance(options, IngrainOptions) or asking is None:
        raise LaboratoryError(
            f"keys of scheme {scheme.name!r} ask inputs that an evaluation does not know how to choose"
        )
    pool, references = asking
    if not references:
        raise LaboratoryError("the key compares with unmarked networks other than its own; plan two networks or more")
    return ingrain_key(pool, references, options)


def _triggers(plan: Plan, entry: SchemePlan, options: TriggerOptions, pool: Path, names: tuple[object, ...]) -> Key:
    """A trigger a bit, drawn from the pool."""
    inputs = load_array(pool)
    if len(inputs) < entry.bits:
        raise LaboratoryError(f"{entry.bits:,} triggers are to be drawn from a pool of {len(inputs):,}; raise n_pool")
    chosen = stream(plan, "triggers", *names).choice(len(inputs), entry.bits, replace=False)
    return TriggerScheme().make_key(inputs[np.sort(chosen)], None, options)


def _bits(plan: Plan, names: tuple[object, ...], payload: int | None, n_bits: int) -> BitArray:
    if payload is not None:
        return payload_of(plan, payload, n_bits)
    return stream(plan, "bits", *names).integers(0, 2, n_bits, dtype=np.uint8)


def _first(model: Path, key: Key) -> Any:
    layer: Layer = weight_layers(model, (key.carriers[0].name,), 1)[0]
    assert layer.weights is not None
    return layer.weights.values


def _digest(plan: Plan, parts: tuple[object, ...], n_bytes: int) -> bytes:
    return hashlib.shake_256("|".join(map(str, ("onnxmark evaluation", plan.seed, *parts))).encode()).digest(n_bytes)
