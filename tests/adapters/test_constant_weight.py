"""The word held through training: against the closed form on arrays, in every loop, and in the file that comes out."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnxmark_torch.constant_weight import ConstantWeightMark
from onnxmark_torch.data import DataSet, Examples
from onnxmark_torch.exporting import ExportError
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.problems import TargetError
from onnxmark_torch.tasks import ImageTask
from onnxmark_torch.training import Hooks, train
from torch import distributed, nn

from onnxmark.attacks import MagnitudePruning, Means
from onnxmark.errors import EmbeddingError, KeyFileError
from onnxmark.keys import Carrier, Key, Secret
from onnxmark.schemes.constant_weight.embedding import embedded
from onnxmark.schemes.constant_weight.extraction import read_word
from onnxmark.schemes.constant_weight.parameters import parameters_of
from onnxmark.schemes.constant_weight.selection import selection_of
from onnxmark.verdict import Verdict
from onnxmark.weights import Origin, WeightTensor
from tests.adapters.subjects import TinyNet, tiny_net

BODY = (16, 8, 3, 3)
PLAN = TrainingPlan(epochs=2, batch_size=8, rate=0.05)


def make_key(*carriers: Carrier, label: int = 0, **parameters: float) -> Key:
    known = {"length": 100, "weight": 10, "rate": 0.8, **parameters}
    payload = np.zeros(40, dtype=np.uint8)
    return Key(
        "constant-weight",
        Secret(label.to_bytes(32, "little")),
        bytes(32),
        payload,
        carriers or (Carrier(BODY, "body.weight"),),
        known,
    )


def task(n: int = 30) -> ImageTask:
    rng = np.random.default_rng(0)

    def part(count: int) -> Examples:
        return Examples(
            rng.integers(0, 256, (count, 1, 6, 6)).astype(np.uint8), rng.integers(0, 3, count), tuple("abc")
        )

    return ImageTask.of("noise", DataSet(part(n), part(21)))


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int = 5) -> None:
    """A loop that knows nothing of marks."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        images, labels = torch.randn(8, 1, 6, 6, generator=generator), torch.arange(8) % 3
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def body(model: TinyNet) -> WeightTensor:
    values = model.body.weight.detach().numpy().copy()
    return WeightTensor("body.weight", values, Origin("body", "Conv", 1, "PyTorch module"))


def test_applying_is_the_closed_form():
    net, key = tiny_net(), make_key()
    (expected,) = embedded(key, [body(net)])
    others = {name: tensor.clone() for name, tensor in net.state_dict().items() if name != "body.weight"}
    ConstantWeightMark(key).apply_(net)
    assert np.allclose(net.body.weight.detach().numpy(), expected.values, rtol=1e-6, atol=0)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in others.items())
    assert net.body.weight.requires_grad


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW], ids=["sgd", "adamw"])
def test_the_word_stands_after_every_step(optimizer):
    net, mark = tiny_net(), ConstantWeightMark(make_key())
    stepping = optimizer(net.parameters(), 0.05)
    mark.attach(stepping, net)
    for count in range(1, 5):
        steps(net, stepping, 1)
        assert mark.step == count
        assert mark.report(net).n_errors == 0
        # The least of a hundred weights has usually to be put back, and none is moved further than it must be.
        assert 0.999 / 3 < mark.report(net).margins.min() < 0.36


def test_without_the_mark_training_moves_the_word():
    """What the hook is for: the same steps from the same marked weights, and no hook."""
    net, mark = tiny_net(), ConstantWeightMark(make_key())
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    mark.attach(optimizer, net).remove()
    assert mark.report(net).n_errors == 0
    steps(net, optimizer, 20)
    assert mark.step == 0
    assert mark.report(net).margins.min() < 0.3


def test_the_pruning_rate_holds_for_the_weights_at_the_end():
    net, key = tiny_net(), make_key(rate=0.8)
    mark = ConstantWeightMark(key)
    optimizer = torch.optim.SGD(net.parameters(), 0.3)
    mark.attach(optimizer, net)
    steps(net, optimizer, 15)
    pruned = MagnitudePruning(0.8).change(body(net).values, Means(np.random.default_rng(0)))
    assert read_word(selection_of(key).take([pruned]), parameters_of(key).code, key.message).n_errors == 0


def test_the_training_loop_takes_its_hooks():
    net, mark = tiny_net(), ConstantWeightMark(make_key())
    train(net, task(), PLAN, hooks=mark.hooks, show=False)
    assert mark.step == 2 * PLAN.steps(30)
    assert mark.report(net).n_errors == 0
    assert mark.report(net).message is not None
    plain = tiny_net()
    train(plain, task(), PLAN, hooks=Hooks(), show=False)
    assert not torch.equal(plain.body.weight, net.body.weight)


def test_every_so_many_steps_and_at_the_end_of_an_epoch():
    net, mark = tiny_net(), ConstantWeightMark(make_key(), every=1000)
    train(net, task(), PLAN, hooks=mark.hooks, show=False)
    assert mark.report(net).n_errors == 0
    other, sparse = tiny_net(), ConstantWeightMark(make_key(), every=3)
    optimizer = torch.optim.SGD(other.parameters(), 0.5)
    sparse.attach(optimizer, other)
    margins = []
    for _ in range(6):
        steps(other, optimizer, 1)
        margins.append(float(sparse.report(other).margins.min()))
    assert margins[2] == pytest.approx(1 / 3, rel=1e-3)
    assert margins[5] == pytest.approx(1 / 3, rel=1e-3)
    assert min(margins[0], margins[1], margins[3], margins[4]) < 0.33


def test_resuming_goes_on_counting():
    mark, again = ConstantWeightMark(make_key(), every=4), ConstantWeightMark(make_key(), every=4)
    net = tiny_net()
    for _ in range(3):
        mark.after_step_(net)
    again.load_state_dict(mark.state_dict())
    assert again.report(net).n_errors > 0
    again.after_step_(net)
    assert again.step == 4
    assert again.report(net).n_errors == 0


@pytest.mark.parametrize("state", [{}, {"step": -1}, {"step": "3"}])
def test_no_state(state):
    with pytest.raises(ValueError, match="the state of a constant weight mark has a step"):
        ConstantWeightMark(make_key()).load_state_dict(state)


def test_the_state_tells_nothing_of_the_key():
    assert ConstantWeightMark(make_key()).state_dict() == {"step": 0}
    assert "Secret" not in repr(ConstantWeightMark(make_key()))


def test_a_word_over_several_layers_in_the_keys_order():
    net = tiny_net()
    key = make_key(Carrier((10, 16), "head.weight"), Carrier(BODY, "body.weight"), rate=0.5)
    mark = ConstantWeightMark(key)
    mark.apply_(net)
    layers = [net.head.weight.detach().numpy(), net.body.weight.detach().numpy()]
    found = read_word(selection_of(key).take(layers), parameters_of(key).code, key.message)
    assert found.n_errors == 0
    assert np.array_equal(found.margins, mark.report(net).margins)


class Up(nn.Module):
    """A transposed convolution in two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 16, 3, groups=2)


def test_a_transposed_convolution_is_marked_in_canonical_order():
    net, key = Up(), make_key(Carrier((16, 4, 3, 3), "up.weight"))
    before = net.up.weight.detach().numpy().copy()
    ConstantWeightMark(key).apply_(net)
    stored = net.up.weight.detach().numpy()
    # (in, out / group, ...) to (out, in / group, ...), group by group, written down by hand.
    canonical = np.concatenate([stored[4 * g : 4 * g + 4].swapaxes(0, 1) for g in range(2)])
    assert read_word(selection_of(key).take([canonical]), parameters_of(key).code, key.message).n_errors == 0
    assert 0 < np.sum(stored != before) < 100


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_other_precisions(dtype):
    net, mark = tiny_net().to(dtype), ConstantWeightMark(make_key())
    mark.apply_(net)
    assert net.body.weight.dtype == dtype
    found = mark.report(net)
    assert found.n_errors == 0
    assert found.margins.min() > 0.32
    # The promise of the rate survives the rounding, too.
    pruned = MagnitudePruning(0.8).change(net.body.weight.detach().float().numpy(), Means(np.random.default_rng(0)))
    key = mark.key
    assert read_word(selection_of(key).take([pruned]), parameters_of(key).code, key.message).n_errors == 0


def test_names_through_wrappers_and_by_hand():
    net = nn.Module()
    net.module = tiny_net()
    mark = ConstantWeightMark(make_key(), "module.body")
    mark.apply_(net)
    assert mark.report(net).n_errors == 0
    assert ConstantWeightMark(make_key(), "body").report(net).n_errors == 0
    # The layer that a key was made for is bound into it.
    assert ConstantWeightMark(make_key(Carrier(BODY)), "module.body").report(net).n_errors > 0


def test_a_layer_replaced_since_is_noticed():
    net, mark = tiny_net(), ConstantWeightMark(make_key())
    mark.apply_(net)
    net.body = nn.Conv2d(8, 16, 3, padding=1, bias=False)
    assert mark.report(net).n_errors > 0
    mark.apply_(net)
    assert mark.report(net).n_errors == 0


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("nowhere", "no linear or convolution layer named 'nowhere'"),
        (("norm1",), "no linear or convolution layer named 'norm1'"),
        (("head",), r"the layers have shapes \[\(10, 16\)\] and the key is made for \[\(16, 8, 3, 3\)\]"),
        (("body", "head"), "the layers have shapes"),
    ],
)
def test_layers_that_are_not_there(names, words):
    with pytest.raises(TargetError, match=words):
        ConstantWeightMark(make_key(), names).apply_(tiny_net())


def test_a_frozen_layer():
    net = tiny_net()
    net.body.weight.requires_grad_(False)
    with pytest.raises(TargetError, match="frozen"):
        ConstantWeightMark(make_key()).attach(torch.optim.SGD(net.parameters(), 0.1), net)


def test_weights_that_are_lost():
    net = tiny_net()
    with torch.no_grad():
        net.body.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(EmbeddingError, match=r"'body\.weight' are not all finite"):
        ConstantWeightMark(make_key()).apply_(net)


@pytest.mark.parametrize("wrong", [{"margin": 0.0}, {"margin": 1.0}, {"every": 0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match=r"margin must be in \(0, 1\) and every at least 1"):
        ConstantWeightMark(make_key(), **wrong)


def test_an_unknown_view():
    with pytest.raises(ValueError, match="view must be 'raw' or 'folded', not 'other'"):
        ConstantWeightMark(make_key(), view="other")


def test_a_key_of_another_scheme():
    other = Key(
        "projection", Secret(bytes(32)), bytes(32), np.zeros(8, np.uint8), (Carrier(BODY),), {"carrier": "full"}
    )
    with pytest.raises(KeyFileError, match="states its length, weight and rate"):
        ConstantWeightMark(other)


def spread_norms(net: TinyNet) -> TinyNet:
    """Filters of very different scales behind the layer, some turned round: folding reorders magnitudes."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        net.norm2.weight.copy_(
            torch.randn(16, generator=generator).exp() * torch.where(torch.arange(16) % 3 == 0, -1, 1)
        )
        net.norm2.running_var.copy_(torch.rand(16, generator=generator) + 0.5)
    return net


def test_the_folded_view_is_what_the_file_holds(tmp_path):
    net, key = spread_norms(tiny_net()), make_key()
    mark = ConstantWeightMark(key, view="folded")
    mark.apply_(net)
    audit = mark.export(net, (torch.zeros(1, 1, 6, 6),), tmp_path / "net.onnx")
    assert audit is not None
    assert audit.verdict is Verdict.MATCH
    # Read by onnx itself: the exporter folds the normalisation into this initializer.
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(tmp_path / "net.onnx").graph.initializer}
    found = read_word(selection_of(key).take([stored["body.weight"]]), parameters_of(key).code, key.message)
    assert found.n_errors == 0
    assert found.margins == pytest.approx(mark.report(net).margins, abs=1e-4)


def test_the_raw_view_is_lost_where_filters_are_rescaled(tmp_path):
    net = spread_norms(tiny_net())
    mark = ConstantWeightMark(make_key())
    mark.apply_(net)
    assert mark.report(net).n_errors == 0
    assert ConstantWeightMark(make_key(), view="folded").report(net).n_errors > 0


def test_an_export_without_the_mark(tmp_path):
    mark = ConstantWeightMark(make_key())
    with pytest.raises(ExportError, match="written without its mark"):
        mark.export(tiny_net(), (torch.zeros(1, 1, 6, 6),), tmp_path / "net.onnx")


def test_a_filter_that_normalisation_switches_off():
    net = tiny_net()
    with torch.no_grad():
        net.norm2.weight[2] = 0
    with pytest.raises(TargetError, match="multiplies some filters by zero; mark the weights as they are"):
        ConstantWeightMark(make_key(), view="folded").apply_(net)


def test_marks_of_two_models_do_not_mix():
    mark, one, other = ConstantWeightMark(make_key()), tiny_net(seed=0), tiny_net(seed=1)
    mark.apply_(one)
    before = copy.deepcopy(other.state_dict())
    assert mark.report(one).n_errors == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())
    mark.apply_(other)
    assert mark.report(other).n_errors == 0


@pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="this torch was built without gloo"
)
def test_sharded_weights_are_marked_as_whole_ones_are(tmp_path):
    """FSDP2 with a single process, which shards all the same."""
    from torch.distributed.fsdp import fully_shard

    plain, mark = tiny_net(), ConstantWeightMark(make_key())
    mark.apply_(plain)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        mesh = distributed.device_mesh.init_device_mesh("cpu", (1,))
        sharded = fully_shard(tiny_net(), mesh=mesh)
        mark.apply_(sharded)
        assert mark.report(sharded).n_errors == 0
        assert torch.equal(sharded.body.weight.full_tensor(), plain.body.weight)
    finally:
        distributed.destroy_process_group()
