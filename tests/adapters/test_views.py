"""The folded view is what the exporter stores: against the exported file, finite differences and traps of tracing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnxmark_torch import TargetError, Watermark, export
from torch import nn

from onnxmark.schemes.projection.projection import own_projection
from tests.adapters.subjects import CARRIERS, make_key, tiny_net

SHAPE = (16, 8, 3, 3)


class ConvNorm(nn.Module):
    """One layer, perhaps something that is gone in evaluation, and its normalisation."""

    def __init__(self, layer, norm, between=None):
        super().__init__()
        self.layer, self.norm, self.between = layer, norm, between or nn.Identity()
        unsettle(self)

    def forward(self, inputs):
        return self.norm(self.between(self.layer(inputs)))


def unsettle(model, seed=0):
    """Give every normalisation scales of both signs and statistics of its own."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_var.copy_(0.1 + torch.rand(module.num_features, generator=generator))
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            if module.affine:
                with torch.no_grad():
                    module.weight.copy_(torch.randn(module.num_features, generator=generator))
    return model


torch.manual_seed(20170417)  # the layers below are made while tests are collected, in whatever order
NETS = {
    "conv2d": (nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), (2, 8, 5, 5), SHAPE),
    "conv2d with bias": (nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16, eps=0.1), (2, 8, 5, 5), SHAPE),
    "not affine": (nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16, affine=False), (2, 8, 5, 5), SHAPE),
    "conv1d": (nn.Conv1d(8, 16, 3), nn.BatchNorm1d(16), (2, 8, 5), (16, 8, 3)),
    "grouped": (nn.Conv2d(8, 16, 3, groups=2), nn.BatchNorm2d(16), (2, 8, 5, 5), (16, 4, 3, 3)),
    "transposed": (nn.ConvTranspose2d(8, 16, 3), nn.BatchNorm2d(16), (2, 8, 5, 5), SHAPE),
    "linear": (nn.Linear(40, 16), nn.BatchNorm1d(16), (2, 40), (16, 40)),
}


def canonical(layer):
    """Weights in canonical order, float64."""
    weight = layer.weight.detach().double().numpy()
    return weight.swapaxes(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight


def folded_by_hand(layer, norm):
    """Weights in canonical order as an exporter folds them, float64."""
    weight = canonical(layer)
    gamma = 1.0 if norm.weight is None else norm.weight.detach().double().numpy()
    scale = gamma / np.sqrt(norm.running_var.double().numpy() + norm.eps)
    return weight * scale.reshape(-1, *(1 for _ in weight.shape[1:]))


def loss_of(key, values):
    """Uchida's loss in float64."""
    projection = own_projection(key, values.shape)
    signed = (2.0 * key.message - 1) * projection.scores(values)
    return np.logaddexp(0, -signed).sum()


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_folded_loss_is_that_of_the_folded_weights(net, carrier):
    layer, norm, _, shape = NETS[net]
    model, key = ConvNorm(layer, norm), make_key(shape, carrier=carrier)
    folded, raw = (Watermark(key, "layer", 1.0, view=view).loss(model).item() for view in ("folded", "raw"))
    assert folded == pytest.approx(loss_of(key, folded_by_hand(layer, norm)), rel=1e-5)
    assert raw == pytest.approx(loss_of(key, canonical(layer)), rel=1e-5)
    # Two losses may be near each other by chance; weights that differ this much are not the same.
    difference = np.linalg.norm(folded_by_hand(layer, norm) - canonical(layer))
    assert difference > 0.1 * np.linalg.norm(canonical(layer))


@pytest.mark.parametrize("net", ["conv2d", "conv2d with bias", "grouped", "transposed", "linear"])
def test_the_folded_view_reports_what_the_exported_file_holds(net, tmp_path):
    layer, norm, inputs, shape = NETS[net]
    model = ConvNorm(layer, norm)
    export(model, (torch.zeros(inputs),), tmp_path / "m.onnx", external_data=False)
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    (stored,) = [
        onnx.numpy_helper.to_array(t) for t in graph.initializer if len(t.dims) == len(shape) and len(t.dims) > 1
    ]
    stored = stored.swapaxes(0, 1) if isinstance(layer, nn.ConvTranspose2d) else stored
    key = make_key(shape)
    scores = own_projection(key, shape).scores(stored)
    unit = own_projection(key, shape).unit(stored)
    signed = np.where(key.message == 1, scores, -scores)
    report = Watermark(key, "layer", view="folded").report(model)
    assert report.min_margin == pytest.approx((signed / unit).min(), rel=1e-4)
    assert report.bit_error_rate == np.mean(signed <= 0)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_gradient_by_the_weight_equals_finite_differences(net, carrier):
    layer, norm, _, shape = NETS[net]
    model, key = ConvNorm(layer, norm), make_key(shape, carrier=carrier)
    model.zero_grad()
    Watermark(key, "layer", 1.0, view="folded").add_grad_(model)
    gradient, weight = layer.weight.grad.double(), layer.weight.detach().clone()
    rng = np.random.default_rng(0)
    try:
        for _ in range(3):
            direction = torch.from_numpy(rng.standard_normal(tuple(weight.shape)))
            losses = []
            for step in (1e-5, -1e-5):
                layer.double().weight.data = weight.double() + step * direction
                losses.append(loss_of(key, folded_by_hand(layer, norm)))
            assert (gradient * direction).sum().item() == pytest.approx(
                (losses[0] - losses[1]) / 2e-5, rel=1e-4, abs=1e-3
            )
    finally:
        layer.float().weight.data = weight


def test_the_loss_and_the_pull_agree_and_the_normalisation_gets_no_gradient():
    model, twin = unsettle(tiny_net()), unsettle(tiny_net())
    mark = Watermark(make_key(), "body", view="folded")
    mark.add_grad_(model)
    mark.loss(twin).backward()
    torch.testing.assert_close(model.body.weight.grad, twin.body.weight.grad)
    for net in (model, twin):
        assert [name for name, p in net.named_parameters() if p.grad is not None] == ["body.weight"]


def test_running_statistics_are_left_alone_and_followed():
    model, mark = unsettle(tiny_net()), Watermark(make_key(), "body", view="folded")
    before = model.norm2.running_var.clone()
    first = mark.loss(model).item()
    assert torch.equal(model.norm2.running_var, before)
    assert model.norm2.num_batches_tracked == 0
    with torch.no_grad():
        model.norm2.running_var.mul_(4)
    assert mark.loss(model).item() != pytest.approx(first, rel=1e-3)


class PreActivation(nn.Module):
    """A normalisation of the same width in front of the layer, registered behind it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, maps):
        return self.conv(torch.relu(self.norm(maps)))


class Branching(nn.Module):
    """What the layer computes is read a second time, so nothing can be folded."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16)

    def forward(self, maps):
        maps = self.conv(maps)
        return self.norm(maps) + maps


class Untraceable(nn.Module):
    """Python decides by a value."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16)

    def forward(self, maps):
        maps = self.norm(self.conv(maps))
        return maps if maps.sum() > 0 else -maps


def norm_used(model, layer, key=None, **options):
    """Whether the folded view sees anything but the weights."""
    key = key or make_key(tuple(model.get_submodule(layer).weight.shape))
    views = ({"view": "folded", **options}, {"view": "raw"})
    folded, raw = (Watermark(key, layer, 1.0, **view).loss(unsettle(model)).item() for view in views)
    return folded != raw


@pytest.mark.parametrize(
    "between", [nn.Identity(), nn.Dropout(), nn.Dropout2d()], ids=lambda module: type(module).__name__
)
def test_what_is_gone_in_evaluation_does_not_stand_between(between):
    assert norm_used(ConvNorm(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), between), "layer")


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (PreActivation(), "conv"),
        (Branching(), "conv"),
        (ConvNorm(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU()), "layer"),
        (ConvNorm(nn.Conv2d(8, 16, 3), nn.InstanceNorm2d(16)), "layer"),
        (nn.Sequential(nn.Conv2d(8, 16, 3)), "0"),
    ],
    ids=["pre-activation", "branching", "relu between", "instance norm", "nothing behind"],
)
def test_where_nothing_is_folded_the_views_agree(model, layer):
    assert not norm_used(model, layer)


def test_batch_statistics_are_not_folded():
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16, track_running_stats=False))
    key = make_key()
    losses = [Watermark(key, "0", view=view).loss(model).item() for view in ("raw", "folded")]
    assert losses[0] == losses[1]


def test_a_model_that_does_not_trace_wants_a_name():
    model = unsettle(Untraceable())
    with pytest.raises(
        TargetError, match=r"does not trace \(TraceError\); name it in norms, as in norms=.'conv': 'norm'"
    ):
        Watermark(make_key(), "conv", view="folded").loss(model)
    assert norm_used(model, "conv", norms={"conv": "norm"})
    (problem,) = Watermark(make_key(), "conv", view="folded").validate(model)
    assert "does not trace" in problem.what


def test_a_name_that_is_no_normalisation_is_refused():
    with pytest.raises(TargetError, match="no batch normalisation 'conv' with running statistics; norms maps names"):
        Watermark(make_key(), "conv", view="folded", norms={"conv": "conv"}).loss(Untraceable())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel], ids=["compile", "DataParallel"])
def test_wrapped_models_are_traced_inside(wrap):
    model = unsettle(tiny_net())
    mark = Watermark(make_key(), "body", view="folded")
    assert mark.loss(wrap(model)).item() == mark.loss(model).item()


def test_a_replaced_normalisation_is_noticed():
    model, mark = unsettle(tiny_net()), Watermark(make_key(), "body", view="folded")
    before = mark.loss(model).item()
    model.norm2 = unsettle(nn.Sequential(nn.BatchNorm2d(16)), seed=1)[0]
    assert mark.loss(model).item() != before


def signed_scales(values):
    model = tiny_net()
    with torch.no_grad():
        model.norm2.weight[: len(values)] = torch.tensor(values)
    return model


@pytest.mark.parametrize(
    ("scales", "view", "what"),
    [
        ([-1.0, -2.0], "raw", "turns 2 of 16 filters round (negative scale)"),
        ([0.0, 0.0, 0.0], "raw", "has scale 0 for 3 of 16 filters"),
        ([0.0], "folded", "has scale 0 for 1 of 16 filters"),
    ],
)
def test_validate_knows_scales_that_spoil_a_mark(scales, view, what):
    (problem,) = Watermark(make_key(), "body", view=view).validate(signed_scales(scales))
    assert what in problem.what
    assert problem.cure


def test_validate_lets_the_folded_view_have_negative_scales():
    assert Watermark(make_key(), "body", view="folded").validate(signed_scales([-1.0])) == []


@pytest.mark.parametrize("carrier", CARRIERS)
def test_training_in_the_folded_view_pays_in_the_file(carrier):
    margins = {}
    for view in ("raw", "folded"):
        model, key = unsettle(tiny_net()), make_key(carrier=carrier, n_bits=64)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        Watermark(key, "body", 0.1, view=view).attach(optimizer, model)
        for _ in range(200):
            optimizer.zero_grad()
            optimizer.step()
        margins[view] = Watermark(key, "body", view="folded").report(model).min_margin
    assert margins["raw"] < 0 < margins["folded"]
