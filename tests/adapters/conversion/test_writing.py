"""PyTorch's exporter as converters use it: the opset asked for, or a line that says which there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnxmark_torch.conversion.writing import write_module
from torch import nn

from onnxmark.errors import ConversionError
from tests.adapters.conversion.subjects import SHAPE, images, mixed_net, opset, request, run_onnx, run_torch, two_inputs

SHAPES = (("", SHAPE),)


def asked(tmp_path, **options):
    return request(tmp_path / "net.pt", tmp_path, **options)


@pytest.mark.parametrize("version", [18, 21])
def test_the_opset_asked_for(tmp_path, version):
    wanted = asked(tmp_path, opset=version, shapes=SHAPES)
    write_module(mixed_net(), wanted)
    assert opset(wanted.target) == version
    np.testing.assert_allclose(run_onnx(wanted.target, images=images()), run_torch(mixed_net(), images()), atol=1e-5)


@pytest.mark.parametrize("version", [7, 17])
def test_an_opset_that_the_exporter_cannot_write(tmp_path, version):
    words = f"PyTorch's exporter writes opset 18 and later, not {version}; ask for --opset 18"
    with pytest.raises(ConversionError, match=words):
        write_module(mixed_net(), asked(tmp_path, opset=version, shapes=SHAPES))


def test_a_file_of_another_opset_than_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxmark_torch.conversion.writing.LOWEST_OPSET", 1)
    with pytest.raises(ConversionError, match="was asked for opset 7 and wrote 18; ask for --opset 18"):
        write_module(mixed_net(), asked(tmp_path, opset=7, shapes=SHAPES))


def test_a_module_in_half_precision_is_called_in_it(tmp_path):
    net = nn.Sequential(nn.Linear(4, 3)).half()
    wanted = asked(tmp_path, shapes=(("", (2, 4)),))
    write_module(net, wanted)
    given = torch.randn(2, 4).half()
    np.testing.assert_allclose(run_onnx(wanted.target, x=given), run_torch(net, given), atol=1e-2)


@pytest.mark.parametrize(
    ("make", "shapes", "words"),
    [
        (mixed_net, (), "does not know the shapes of its inputs; give them: --input 1x3x224x224"),
        (two_inputs, (("", (3, 6)), ("two", (3, 4))), "of several inputs one has no name"),
        (two_inputs, (("one", (3, 6)), ("three", (3, 4))), "has no input 'three'; its inputs: one, two"),
        (two_inputs, (("one", (3, 6)),), "PyTorch cannot export it: TypeError: .*missing"),
        (mixed_net, (("", (2, 3, 8, 8)),), "PyTorch cannot export it: .*; are the shapes of --input right"),
    ],
)
def test_inputs_that_do_not_fit(tmp_path, make, shapes, words):
    with pytest.raises(ConversionError, match=words) as caught:
        write_module(make(), asked(tmp_path, shapes=shapes))
    assert "\n" not in str(caught.value)


class Keywords(nn.Module):
    """A network whose inputs have no names in its signature."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, **inputs):
        return self.head(inputs["pixels"])


def test_inputs_of_any_name_are_passed_on(tmp_path):
    wanted = asked(tmp_path, shapes=(("pixels", (2, 4)),))
    torch.manual_seed(1)
    net = Keywords()
    write_module(net, wanted)
    pixels = torch.randn(2, 4)
    expected = net.head(pixels).detach().numpy()
    np.testing.assert_allclose(run_onnx(wanted.target, pixels=pixels), expected, atol=1e-6)
