"""What every attack promises, held against every attack that is installed under our name."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from importlib.metadata import entry_points
from typing import ClassVar

import numpy as np
import pytest

from onnxmark import attacks, symmetries
from onnxmark.attacks import QUICK, Attack, Need, apply_attack
from onnxmark.errors import AttackError, CarrierError, PluginError

from .subjects import LAYERS, RECIPES, generator, layer, means

INSTALLED = {
    entry.name: entry
    for entry in entry_points(group="onnxmark.attacks")
    if entry.dist is not None and entry.dist.name == "onnxmark" and hasattr(entry.load(), "change")
}
FRONT_DOORS = {name: getattr(package, name) for package in (attacks, symmetries) for name in package.__all__}
EVERY_RECIPE = [pytest.param(attack, id=attack.label) for recipes in RECIPES.values() for attack in recipes]
every_recipe = pytest.mark.parametrize("attack", EVERY_RECIPE)


def on_every_layer(test):
    """One test of an attack instead of dozens, each of which would take longer to report than to run."""

    def over_all(attack):
        for name, values in LAYERS.items():
            try:
                test(attack, values)
            except Exception as error:
                error.add_note(f"on the layer {name!r}")
                raise

    over_all.__doc__ = test.__doc__
    return over_all


SUPPLIED_BY = {
    Need.REFERENCE: ".*give --reference MODEL",
    Need.SECOND_MOMENT: ".*give --calibration INPUTS.npz",
    Need.MAGNITUDES: "all layers of the model",
}


def test_every_installed_attack_has_recipes_to_be_tested_with():
    assert set(INSTALLED) == set(RECIPES)


@pytest.mark.parametrize("name", sorted(INSTALLED))
def test_entry_point_leads_to_the_class_of_that_name(name):
    found = INSTALLED[name].load()
    assert found.name == name
    assert {type(attack) for attack in RECIPES[name]} == {found}


@pytest.mark.parametrize("name", sorted(INSTALLED))
def test_class_describes_itself_in_one_line(name):
    found = INSTALLED[name].load()
    assert isinstance(found.random, bool)
    assert isinstance(found.keeps_shape, bool)
    assert found.summary
    assert found.summary == found.summary.strip()
    assert "\n" not in found.summary
    assert ";" in found.summary, "what it does; unit and range of the main parameter"


@every_recipe
def test_recipe_is_a_frozen_value_that_its_repr_and_pickle_reproduce(attack):
    main = fields(attack)[0].name if fields(attack) else "name"
    assert eval(repr(attack), FRONT_DOORS) == attack
    assert pickle.loads(pickle.dumps(attack)) == attack
    assert len({attack, type(attack)(**{field.name: getattr(attack, field.name) for field in fields(attack)})}) == 1
    with pytest.raises(FrozenInstanceError, match=main):
        setattr(attack, main, 1)


@every_recipe
def test_parameter_is_the_first_field_as_a_number(attack):
    main = getattr(attack, fields(attack)[0].name) if fields(attack) else 1
    assert isinstance(attack.parameter, int | float)
    assert isinstance(main, str) or attack.parameter == main


def test_labels_tell_recipes_apart():
    for recipes in (QUICK, [attack for some in RECIPES.values() for attack in some]):
        labels = [attack.label for attack in recipes]
        assert len(set(labels)) == len(labels)


@every_recipe
@on_every_layer
def test_result_is_finite_float32_of_the_same_shape_read_only_and_keeps_its_origin(attack, values):
    host = layer(values)
    result = apply_attack(attack, host, means(0, values))
    assert result.values.dtype == np.float32
    assert result.shape == host.shape
    assert np.isfinite(result.values).all()
    assert not result.values.flags.writeable
    assert (result.name, result.origin) == (host.name, host.origin)


@every_recipe
@on_every_layer
def test_input_is_left_alone(attack, values):
    host = layer(values)
    apply_attack(attack, host, means(0, values))
    np.testing.assert_array_equal(host.values, values, strict=True)


@every_recipe
@on_every_layer
def test_same_seed_gives_the_same_bits(attack, values):
    first, second = (apply_attack(attack, layer(values), means(7, values)).values for _ in range(2))
    assert first.tobytes() == second.tobytes()


@every_recipe
@on_every_layer
def test_memory_layout_does_not_matter(attack, values):
    plain = apply_attack(attack, layer(np.ascontiguousarray(values)), means(0, values)).values
    fortran = apply_attack(attack, layer(np.asfortranarray(values)), means(0, values)).values
    np.testing.assert_array_equal(plain, fortran, strict=True)


@every_recipe
def test_only_random_attacks_draw_from_the_generator(attack):
    values = LAYERS["normal kernel"]
    given = means(0, values)
    apply_attack(attack, layer(values), given)
    is_fresh = given.rng.bit_generator.state == generator().bit_generator.state
    assert is_fresh != attack.random


@pytest.mark.parametrize("name", [name for name, recipes in RECIPES.items() if recipes[0].random])
def test_random_attacks_depend_on_the_seed(name):
    attack, values = RECIPES[name][1], LAYERS["linear"]
    one, other = (apply_attack(attack, layer(values), means(seed, values)).values for seed in (1, 2))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("name", sorted(INSTALLED))
def test_every_strength_of_a_sweep_is_a_recipe_with_a_label_of_its_own(name):
    found = INSTALLED[name].load()
    assert found.strengths
    assert len({found(strength).label for strength in found.strengths}) == len(found.strengths)


@pytest.mark.parametrize(
    ("attack", "need"),
    [pytest.param(some[0], need, id=f"{name} {need}") for name, some in RECIPES.items() for need in some[0].needs],
)
def test_a_missing_need_is_refused_with_what_would_supply_it(attack, need):
    values = LAYERS["linear"]
    with pytest.raises(AttackError, match=rf"'{attack.name}' on 'conv\.weight' needs {SUPPLIED_BY[need]}"):
        apply_attack(attack, layer(values), replace(means(0, values), **{need.value: None}))


def test_a_reference_of_another_shape_is_refused():
    with pytest.raises(
        AttackError, match=r"the reference of 'conv\.weight' has shape \(8, 4, 3, 3\), expected \(10, 16\)"
    ):
        apply_attack(RECIPES["prune"][0], layer(LAYERS["linear"]), means(0, LAYERS["normal kernel"]))


def test_quick_sweep_is_the_documented_grid():
    grid = {}
    for attack in QUICK:
        grid.setdefault(attack.name, []).append(attack.parameter)
    assert grid == {
        "prune": [0.10, 0.30, 0.50, 0.65, 0.80, 0.90, 0.95],
        "quantize": [8, 6, 4, 3, 2],
        "cluster": [8, 5, 4, 3, 2],
        "noise": [0.1, 0.25, 0.5, 1.0],
    }


def test_front_door_lists_every_installed_class():
    assert {entry.load().__name__ for entry in INSTALLED.values()} < set(FRONT_DOORS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(np.float32([[1, np.nan]]), r"'conv\.weight' are not all finite", id="NaN"),
        pytest.param(np.float32([[1, np.inf]]), r"'conv\.weight' are not all finite", id="infinity"),
        pytest.param(np.zeros((0, 3), np.float32), r"'conv\.weight' of shape \(0, 3\) are empty", id="empty"),
    ],
)
@pytest.mark.parametrize("name", RECIPES)
def test_layers_that_cannot_be_attacked_are_refused(name, values, message):
    with pytest.raises(CarrierError, match=message):
        apply_attack(RECIPES[name][0], layer(values), means())


@dataclass(frozen=True)
class Misbehaving:
    """An attack that breaks its promise in one way."""

    way: str
    name: ClassVar[str] = "misbehaving"
    summary: ClassVar[str] = "break the promise"
    random: ClassVar[bool] = False
    keeps_shape: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    parameter: ClassVar[float] = 0.0
    label: ClassVar[str] = "misbehaving"

    def change(self, values, means):
        if self.way == "input":
            values.flags.writeable = True
            values[:] = 0
            return values
        return {
            "dtype": values.astype(np.float64),
            "type": values.tolist(),
            "shape": values[:1],
            "axes": values.reshape(-1),
            "NaN": np.full_like(values, np.nan),
        }[self.way]


class Shrinking(Misbehaving):
    """An attack that declares that it removes filters."""

    keeps_shape: ClassVar[bool] = False


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("input", "changed its input"),
        ("dtype", "returned float64, expected a float32 array"),
        ("type", "returned list, expected a float32 array"),
        ("shape", r"returned shape \(1, 16\), expected \(10, 16\)"),
        ("NaN", "returned values that are not finite"),
    ],
)
def test_broken_promises_name_the_attack_and_the_layer(way, message):
    attack: Attack = Misbehaving(way)
    with pytest.raises(PluginError, match=message) as caught:
        apply_attack(attack, layer(LAYERS["linear"]), means())
    assert repr(attack) in str(caught.value)
    assert "conv.weight" in str(caught.value)


def test_declared_shrinking_is_allowed():
    assert apply_attack(Shrinking("shape"), layer(LAYERS["linear"]), means()).shape == (1, 16)


def test_even_shrinking_keeps_the_number_of_axes():
    with pytest.raises(PluginError, match="returned 1 axes, expected 2"):
        apply_attack(Shrinking("axes"), layer(LAYERS["linear"]), means())
