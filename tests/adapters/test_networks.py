"""The networks have the sizes their papers give, host what they say, and export to what they compute."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnxmark_torch import export
from onnxmark_torch.layers import host_layers
from onnxmark_torch.networks import VGG_16, ConvNet, LeNet, Vgg, WideBlock, WideResNet
from torch import nn
from torch.nn import functional


def n_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def seeded(make, *sizes, **named) -> nn.Module:
    torch.manual_seed(0)
    model = make(*sizes, **named)
    # Normalisation that does something: fresh statistics are 0 and 1.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return model.eval()


class TestWideResNet:
    @pytest.mark.parametrize(
        ("depth", "widening", "millions"), [(40, 1, 0.6), (40, 2, 2.2), (40, 4, 8.9), (16, 8, 11.0), (28, 10, 36.5)]
    )
    def test_parameters_are_those_of_the_paper(self, depth, widening, millions):
        with torch.device("meta"):
            model = WideResNet((depth - 4) // 6, widening)
        assert round(n_parameters(model) / 1e6, 1) == millions

    def test_the_paper_marks_576_means_of_64_filters(self):
        with torch.device("meta"):
            model = WideResNet()
        shapes = {layer.name: layer.shape for layer in host_layers(model)}
        assert shapes[WideResNet.host] == (64, 64, 3, 3)
        assert shapes["conv3.0.conv2"] == (128, 128, 3, 3)
        assert shapes["conv4.0.conv2"] == (256, 256, 3, 3)

    def test_at_k_1_the_last_group_has_the_papers_shape(self):
        shapes = {layer.name: layer.shape for layer in host_layers(WideResNet(1, 1, 1))}
        assert shapes["conv4.0.conv2"] == (64, 64, 3, 3)

    def test_maps_are_halved_twice_and_with_a_strided_stem_three_times(self):
        for stride, sizes in ((1, (32, 16, 8)), (2, (16, 8, 4))):
            model, maps = WideResNet(1, 1, 3, stem_stride=stride), torch.zeros(1, 3, 32, 32)
            maps = model.conv1(maps)
            for group, size in zip((model.conv2, model.conv3, model.conv4), sizes, strict=True):
                maps = group(maps)
                assert maps.shape[2:] == (size, size)

    def test_a_group_has_as_many_blocks_as_asked_for_and_one_shortcut(self):
        model = WideResNet(3, 2)
        for group in (model.conv2, model.conv3, model.conv4):
            assert [block.shortcut is not None for block in group] == [True, False, False]

    @pytest.mark.parametrize(("n_out", "stride"), [(4, 1), (6, 1), (4, 2), (6, 2)])
    def test_a_block_is_two_preactivated_convolutions_and_what_came_in(self, n_out, stride):
        block, maps = seeded(WideBlock, 4, n_out, stride), torch.randn(2, 4, 5, 5)
        active = functional.relu(normalised(maps, block.norm1))
        inner = functional.conv2d(active, block.conv1.weight, stride=stride, padding=1)
        change = functional.conv2d(functional.relu(normalised(inner, block.norm2)), block.conv2.weight, padding=1)
        widened = (n_out, stride) != (4, 1)
        expected = change + (functional.conv2d(active, block.shortcut.weight, stride=stride) if widened else maps)
        torch.testing.assert_close(block(maps), expected, atol=1e-5, rtol=1e-5)

    def test_initial_weights_are_hes(self):
        torch.manual_seed(0)
        weight = WideResNet().conv4[0].conv1.weight
        # From 128 channels to 256: by fan-out.
        assert float(weight.detach().std()) == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)

    @pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (1, 1, 0), (1, 1, 1, 0), (1, 1, 1, 1, 0)])
    def test_nothing_is_smaller_than_one(self, sizes):
        with pytest.raises(ValueError, match="at least 1, not"):
            WideResNet(*sizes)


def normalised(maps: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
    mean, variance, scale, shift = (
        figure.reshape(-1, 1, 1) for figure in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (maps - mean) / torch.sqrt(variance + norm.eps) * scale + shift


class TestLeNet:
    def test_parameters_are_those_of_the_compression_literature(self):
        assert n_parameters(LeNet()) == 431_080  # Han, Pool, Tran, Dally 2015 (arXiv 1506.02626): 431K

    @pytest.mark.parametrize(("size", "inputs"), [(16, 50), (28, 800), (32, 1250)])
    def test_the_linear_layer_fits_the_images(self, size, inputs):
        model = LeNet(3, 7, size)
        assert model.fc1.in_features == inputs
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 7)

    def test_small_images(self):
        with pytest.raises(ValueError, match="at least 16x16 pixels, not 15x15"):
            LeNet(size=15)


class TestVgg:
    def test_the_convolutions_are_those_of_vgg_16(self):
        with torch.device("meta"):
            model = Vgg()
        layers = {layer.name: layer.shape for layer in host_layers(model)}
        # Simonyan, Zisserman, table 1, column D: 13 convolutions; 14.7 million weights are what CIFAR's variant has.
        assert [shape[0] for shape in layers.values()][:-1] == [width for stage in VGG_16 for width in stage]
        assert len(layers) == 13 + 1
        assert round(n_parameters(model) / 1e6, 1) == 14.7
        assert layers[Vgg.host] == (128, 128, 3, 3)

    @pytest.mark.parametrize(("stride", "size"), [(1, 4), (2, 8)])
    def test_every_stage_halves_the_maps(self, stride, size):
        model = Vgg(((4, 4), (6,)), 3, 7, stem_stride=stride).eval()
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 7)
        with pytest.raises(RuntimeError, match="too small"):
            model(torch.zeros(2, 3, size // 2 - 1, size // 2 - 1))

    def test_a_stage_is_normalised_convolutions_and_a_pooling(self):
        model, images = seeded(Vgg, ((4, 5),), 3, 2), torch.randn(2, 3, 6, 6)
        maps = images
        for conv, norm in zip(model.convs, model.norms, strict=True):
            maps = functional.relu(normalised(functional.conv2d(maps, conv.weight, padding=1), norm))
        pooled = functional.max_pool2d(maps, 2).mean((2, 3))
        torch.testing.assert_close(model(images), model.fc(pooled), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("sizes", [(((0,),),), (((4,),), 0), (((4,),), 1, 0), (((4,),), 1, 1, 0)])
    def test_nothing_is_smaller_than_one(self, sizes):
        with pytest.raises(ValueError, match="at least 1, not"):
            Vgg(*sizes)


class TestConvNet:
    @pytest.mark.parametrize("width", [0, 7])
    def test_a_width_that_cannot_be_halved(self, width):
        with pytest.raises(ValueError, match=f"even and at least 2, not {width}"):
            ConvNet(width=width)


MODELS = {
    "WRN-10-1": (WideResNet, (1, 1, 1), 1, 28),
    "WRN-10-1 strided, colour": (WideResNet, (1, 1, 3, 7, 2), 3, 32),
    "LeNet": (LeNet, (), 1, 28),
    "LeNet, colour": (LeNet, (3, 10, 32), 3, 32),
    "ConvNet": (ConvNet, (3, 10, 16), 3, 32),
    "VGG-like": (Vgg, (((8, 8), (16, 16)), 1, 10, 2), 1, 28),
}


@pytest.mark.parametrize("name", MODELS)
def test_export_computes_the_same_and_keeps_the_host(name, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    make, sizes, channels, size = MODELS[name]
    model, path = seeded(make, *sizes), tmp_path / "model.onnx"
    images = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    export(model, (images,), path, external_data=False)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(images).numpy(), atol=1e-4, rtol=1e-4)
    stored = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(path).graph.initializer}
    host = {layer.name: layer.shape for layer in host_layers(model)}[model.host]
    assert stored[f"{model.host}.weight"] == host
