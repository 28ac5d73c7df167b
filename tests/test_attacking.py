"""Recipes carried out on files: in order, on the layers meant, told truly, and never half done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import onnxmark
from onnxmark.attacker import Attacker
from onnxmark.attacking import PROVENANCE, attack_file, provenance
from onnxmark.attacks import (
    GaussianNoise,
    GlobalPruning,
    KMeansClustering,
    MagnitudePruning,
    Need,
    NullSpaceNoise,
    Recipe,
    Soup,
    UniformQuantisation,
)
from onnxmark.attacks.entropy_coding import sizes as coded_bits
from onnxmark.errors import AttackError, CalibrationError, CarrierError, ModelError, WriteBackError
from onnxmark.model import open_model
from tests.onnx_models import conv_chain, kernel

DEMO = Path(onnxmark.__file__).parent / "demo_data"
INPUTS = DEMO / "calibration.npz"
KERNELS = [kernel((6, 3, 3, 3), 1), kernel((8, 6, 3, 3), 2), kernel((4, 8, 1, 1), 3)]
NAMES = ("conv0.weight", "conv1.weight", "conv2.weight")


@pytest.fixture
def chain(tmp_path):
    return conv_chain(tmp_path / "chain.onnx", KERNELS)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "attacked.onnx"


def stored(path):
    """Initializers as the onnx library reads them."""
    return {item.name: numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}


def external(path, out):
    onnx.save(onnx.load(path), out, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return out


def test_every_layer_is_attacked_alone_and_the_original_left_as_it_is(chain, out):
    before = chain.read_bytes()
    attacking = attack_file(chain, [MagnitudePruning(0.5)], out)
    assert chain.read_bytes() == before
    for name, values in zip(NAMES, KERNELS, strict=True):
        threshold = np.median(np.abs(values))
        np.testing.assert_array_equal(stored(out)[name], np.where(np.abs(values) > threshold, values, 0))
    assert [layer.sparsity for layer in attacking.steps[0].layers] == [0.5, 0.5, 0.5]


def test_recipes_apply_in_order(chain, out, tmp_path):
    attack_file(chain, [MagnitudePruning(0.5), KMeansClustering(1)], out)
    attack_file(chain, [KMeansClustering(1), MagnitudePruning(0.5)], tmp_path / "other.onnx")
    clustered = np.unique(stored(out)["conv1.weight"])
    assert clustered.size == 3
    assert 0 in clustered
    assert np.unique(stored(tmp_path / "other.onnx")["conv1.weight"]).size <= 3
    assert not np.array_equal(stored(out)["conv1.weight"], stored(tmp_path / "other.onnx")["conv1.weight"])


def test_one_layer_by_the_name_of_its_weights_or_its_node(chain, out):
    for name in ("conv1.weight", "node_conv_1"):
        attacking = attack_file(chain, [MagnitudePruning(1.0)], out, layer=name)
        assert [layer.name for layer in attacking.steps[0].layers] == ["conv1.weight"]
        found = stored(out)
        assert not found["conv1.weight"].any()
        np.testing.assert_array_equal(found["conv0.weight"], KERNELS[0])


def test_an_unknown_layer_names_the_nearest(chain, out):
    with pytest.raises(CarrierError, match=r"no layer 'conv1.wieght'.*did you mean 'conv1.weight'"):
        attack_file(chain, [MagnitudePruning(0.5)], out, layer="conv1.wieght")
    assert not out.exists()


def test_the_seed_decides_and_layers_and_steps_draw_apart(chain, out, tmp_path):
    twice = [GaussianNoise(1.0), GaussianNoise(1.0)]
    attack_file(chain, twice, out, seed=3)
    attack_file(chain, twice, tmp_path / "same.onnx", seed=3)
    attack_file(chain, twice, tmp_path / "other.onnx", seed=4)
    attack_file(chain, twice[:1], tmp_path / "once.onnx", seed=3)
    assert out.read_bytes() == (tmp_path / "same.onnx").read_bytes()
    assert not np.array_equal(stored(out)["conv1.weight"], stored(tmp_path / "other.onnx")["conv1.weight"])
    first = stored(tmp_path / "once.onnx")["conv1.weight"] - KERNELS[1]
    second = stored(out)["conv1.weight"] - stored(tmp_path / "once.onnx")["conv1.weight"]
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.2


def test_the_copy_says_what_was_done_to_it_unless_anonymous(chain, out, tmp_path):
    recipes = [MagnitudePruning(0.5), UniformQuantisation(8, per_channel=True)]
    attack_file(chain, recipes, out, layer="conv1.weight", seed=5)
    with open_model(out) as model:
        said = model.metadata[PROVENANCE]
    assert said == provenance(recipes, 5, "conv1.weight")
    assert "MagnitudePruning(fraction=0.5), UniformQuantisation(bits=8, per_channel=True" in said
    assert ort.InferenceSession(out).get_modelmeta().custom_metadata_map[PROVENANCE] == said
    attack_file(chain, recipes, tmp_path / "silent.onnx", anonymous=True)
    assert b"onnxmark" not in (tmp_path / "silent.onnx").read_bytes()


def test_relative_change_is_that_of_the_written_weights(chain, out):
    (step,) = attack_file(chain, [GaussianNoise(0.5)], out).steps
    for layer, before in zip(step.layers, KERNELS, strict=True):
        change = np.linalg.norm(stored(out)[layer.name] - before) / np.linalg.norm(before)
        assert layer.relative_change == pytest.approx(change, rel=1e-5)


def test_sizes_are_those_of_the_attacked_layers(chain, out):
    sizes = attack_file(chain, [MagnitudePruning(0.9), KMeansClustering(2)], out).sizes
    assert sizes.n_weights == sum(values.size for values in KERNELS)
    each = [min(coded_bits(values, gap_bits).coded_bits for gap_bits in (0, 5)) for values in stored(out).values()]
    assert sizes.coded_bits == sum(each)
    assert sizes.coded_ratio > 5


def test_weights_that_were_not_clustered_have_no_such_size(out):
    big = conv_chain(out.parent / "big.onnx", [kernel((64, 128, 3, 3))])
    assert attack_file(big, [MagnitudePruning(0.1)], out).sizes is None


def test_fidelity_is_measured_with_inputs(out):
    before = DEMO / "unmarked.onnx"
    nothing = attack_file(before, [MagnitudePruning(0.0)], out, calibration=INPUTS).fidelity
    assert (nothing.relative_change, nothing.decisions_changed) == (0, 0)
    ruined = attack_file(before, [MagnitudePruning(0.99)], out, calibration=INPUTS).fidelity
    assert ruined.accuracy_after < 0.3 < 0.8 < ruined.accuracy_before


def test_labels_from_a_file_of_their_own(out, tmp_path):
    arrays = dict(np.load(INPUTS))
    np.savez(tmp_path / "inputs.npz", images=arrays["images"])
    np.save(tmp_path / "labels.npy", arrays["labels"])
    alone = attack_file(DEMO / "unmarked.onnx", [MagnitudePruning(0.5)], out, calibration=tmp_path / "inputs.npz")
    assert alone.fidelity.accuracy_before is None
    found = attack_file(
        DEMO / "unmarked.onnx",
        [MagnitudePruning(0.5)],
        out,
        calibration=tmp_path / "inputs.npz",
        labels=tmp_path / "labels.npy",
    ).fidelity
    together = attack_file(DEMO / "unmarked.onnx", [MagnitudePruning(0.5)], out, calibration=INPUTS).fidelity
    assert found == together


def test_external_data_travel_beside_the_copy(chain, out, tmp_path):
    (tmp_path / "data").mkdir()
    source = external(chain, tmp_path / "data" / "chain.onnx")
    data = (tmp_path / "data" / "weights.bin").read_bytes()
    attack_file(source, [MagnitudePruning(0.5), UniformQuantisation(4, symmetric=True)], out)
    assert sorted(file.name for file in out.parent.iterdir()) == ["attacked.onnx", "weights.bin"]
    assert (tmp_path / "data" / "weights.bin").read_bytes() == data
    assert (stored(out)["conv1.weight"] == 0).mean() >= 0.5


def test_a_copy_never_overwrites_the_data_of_the_original(chain, tmp_path):
    source = external(chain, tmp_path / "original.onnx")
    data = (tmp_path / "weights.bin").read_bytes()
    with pytest.raises(WriteBackError, match=r"'weights.bin', which the original has beside it.*another directory"):
        attack_file(source, [MagnitudePruning(0.5)], tmp_path / "copy.onnx")
    assert (tmp_path / "weights.bin").read_bytes() == data
    assert not (tmp_path / "copy.onnx").exists()


def test_a_copy_is_not_written_over_the_model(chain):
    before = chain.read_bytes()
    with pytest.raises(WriteBackError, match="is the model itself"):
        attack_file(chain, [MagnitudePruning(0.5)], chain)
    assert chain.read_bytes() == before


def test_nothing_is_left_behind_where_the_copy_cannot_go(chain, tmp_path):
    with pytest.raises(WriteBackError, match="cannot be written"):
        attack_file(chain, [MagnitudePruning(0.5)], tmp_path / "missing" / "copy.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["chain.onnx"]


def test_a_failing_step_leaves_no_trace(chain, out):
    with pytest.raises(AttackError, match="needs the model before it was marked"):
        attack_file(chain, [MagnitudePruning(0.5), Soup(0.5)], out)
    assert list(out.parent.iterdir()) == []


def test_layers_that_cannot_be_attacked_are_told_and_left(out, tmp_path):
    kernels = [KERNELS[0], np.full_like(KERNELS[1], np.nan), KERNELS[2]]
    chain = conv_chain(tmp_path / "nan.onnx", kernels)
    (step,) = attack_file(chain, [MagnitudePruning(0.5)], out).steps
    assert [layer.problem is None for layer in step.layers] == [True, False, True]
    assert "not all finite" in step.layers[1].problem
    assert np.isnan(stored(out)["conv1.weight"]).all()


def test_where_no_layer_can_be_attacked_the_reason_is_given(tmp_path, out):
    chain = conv_chain(tmp_path / "nan.onnx", [np.full((4, 3, 1, 1), np.inf, np.float32)])
    with pytest.raises(AttackError, match=r"could change no layer.*not all finite"):
        attack_file(chain, [MagnitudePruning(0.5)], out)
    assert not out.exists()


def test_at_least_one_recipe(chain, out):
    with pytest.raises(ValueError, match="at least one recipe"):
        attack_file(chain, [], out)


def test_a_damaged_model_is_a_model_error(tmp_path, out):
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07\x3a\xff")
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        attack_file(tmp_path / "bad.onnx", [MagnitudePruning(0.5)], out)


@dataclass(frozen=True)
class Renaming:
    """An attack on the file that leaves a data file beside it."""

    name: ClassVar[str] = "renaming"
    summary: ClassVar[str] = "copy the file; nothing"
    random: ClassVar[bool] = False
    needs: ClassVar[tuple[Need, ...]] = ()
    strengths: ClassVar[tuple[float, ...]] = ()
    parameter: ClassVar[float] = 1.0
    label: ClassVar[str] = "renaming"
    fails: bool = False

    def rewrite(self, source, output, means):
        output.write_bytes(source.read_bytes())
        (output.parent / "weights.bin").write_bytes(b"data")
        if self.fails:
            raise AttackError("the tool failed")
        return (f"layers {means.layers}",)


def test_attacks_on_the_file_compose_with_attacks_on_weights(chain, out):
    steps = attack_file(
        chain, [MagnitudePruning(0.5), Renaming(), UniformQuantisation(4, symmetric=True)], out, layer="conv1.weight"
    ).steps
    assert steps[1].notes == ("layers ('conv1.weight',)",)
    assert (stored(out)["conv1.weight"] == 0).any()


def test_what_a_tool_leaves_half_done_is_swept_away(chain, out):
    with pytest.raises(AttackError, match="the tool failed"):
        attack_file(chain, [Renaming(fails=True)], out)
    assert list(out.parent.iterdir()) == []


@dataclass(frozen=True)
class Neither:
    """A recipe of no kind."""

    name: ClassVar[str] = "neither"
    needs: ClassVar[tuple[Need, ...]] = ()


def test_a_recipe_of_no_kind_is_refused(chain, out):
    with pytest.raises(AttackError, match="attacks neither weights nor a file"):
        attack_file(chain, [Neither()], out)


class TestAttacker:
    """What an attacker has, read when it is asked for."""

    def layer(self, path, name="conv3.weight"):
        with open_model(path) as model:
            return model.read(model.site(name))

    def test_magnitudes_are_those_of_all_layers(self, chain):
        means = Attacker(chain).means(GlobalPruning(0.5), self.layer(chain, "conv1.weight"), np.random.default_rng())
        expected = np.sort(np.abs(np.concatenate([values.ravel() for values in KERNELS])))
        np.testing.assert_array_equal(means.magnitudes, expected)

    def test_the_reference_layer_is_found_by_name_node_or_place(self, chain, tmp_path):
        other = [values + np.float32(1) for values in KERNELS]
        layer = self.layer(chain, "conv1.weight")
        for names in (None, ["a", "b", "c"]):
            reference = conv_chain(tmp_path / "reference.onnx", other, names)
            means = Attacker(chain, reference).means(Soup(0.5), layer, np.random.default_rng())
            np.testing.assert_array_equal(means.reference, other[1])

    def test_a_reference_without_the_layer_is_refused(self, chain, tmp_path):
        reference = conv_chain(tmp_path / "reference.onnx", KERNELS[:1])
        with pytest.raises(AttackError, match=r"has no layer 'conv1.weight' of shape 8x6x3x3"):
            Attacker(chain, reference).means(Soup(0.5), self.layer(chain, "conv1.weight"), np.random.default_rng())

    def test_the_second_moment_is_measured_once(self, monkeypatch):
        path = DEMO / "marked.onnx"
        attacker = Attacker(path, calibration=INPUTS)
        recipe: Recipe = NullSpaceNoise(1.0)
        first = attacker.means(recipe, self.layer(path), np.random.default_rng())
        assert first.second_moment.shape == (1, 288, 288)
        monkeypatch.setattr("onnxmark.attacker.input_second_moment", None)
        again = attacker.means(recipe, self.layer(path), np.random.default_rng())
        assert again.second_moment is first.second_moment

    @pytest.mark.parametrize(
        ("recipe", "option"), [(Soup(0.5), "--reference MODEL"), (NullSpaceNoise(1.0), "--calibration INPUTS")]
    )
    def test_what_is_missing_is_named_with_its_option(self, chain, recipe, option):
        assert option in Attacker(chain).lacks(recipe)
        with pytest.raises(AttackError, match=option):
            Attacker(chain).means(recipe, self.layer(chain, "conv1.weight"), np.random.default_rng())
        assert Attacker(chain).lacks(MagnitudePruning(0.5)) is None

    def test_without_inputs_there_are_none(self, chain):
        with pytest.raises(CalibrationError, match="give --calibration"):
            Attacker(chain).inputs()
