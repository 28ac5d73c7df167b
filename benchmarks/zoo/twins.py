"""The zoo's twins in PyTorch: the same architectures, written anew, that take the same weights and answer the same.

twin("ResNet50")                          a network with fresh weights
benchmarks.zoo.twins:ResNet50             the same, as ``onnxmark convert --model`` names it
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from onnxmark_torch.conversion.module_weights import weights_of
from onnxmark_torch.exporting import export

from benchmarks.zoo import inception, mobile, residual
from benchmarks.zoo.compact import Architecture, Compact
from benchmarks.zoo.reference import Reference
from benchmarks.zoo.species import SPECIES, Route
from onnxmark.arrays import Float32Array
from onnxmark.conversion import Converted, Request

ARCHITECTURES: Final[Mapping[str, Architecture]] = MappingProxyType(
    {
        "VGG16": residual.vgg((2, 2, 3, 3, 3)),
        "ResNet50": residual.resnet((3, 4, 6, 3)),
        "ResNet101": residual.resnet((3, 4, 23, 3)),
        "ResNet50V2": residual.resnet_v2((3, 4, 6, 3)),
        "DenseNet121": residual.densenet((6, 12, 24, 16)),
        "InceptionV3": inception.inception_v3,
        "Xception": inception.xception,
        "NASNetMobile": inception.nasnet_mobile,
        "MobileNet": mobile.mobilenet(),
        "MobileNet-quarter": mobile.mobilenet(0.25),
        "MobileNetV2": mobile.mobilenet_v2(),
        "MobileNetV2-third": mobile.mobilenet_v2(0.35),
        "MobileNetV3Small": mobile.mobilenet_v3_small,
        "EfficientNetB0": mobile.efficientnet,
        "EfficientNetV2B0": mobile.efficientnet_v2,
        "ConvNeXtTiny": residual.convnext((3, 3, 9, 3), (96, 192, 384, 768), "convnext_tiny"),
    }
)
_NAMES: Final = MappingProxyType(
    {
        "BatchNorm2d": {
            "weight": "gamma",
            "bias": "beta",
            "running_mean": "moving_mean",
            "running_var": "moving_variance",
        },
        "LayerNorm": {"weight": "gamma", "bias": "beta"},
    }
)
"""What Keras calls the parameters of a module; ``kernel`` is every other ``weight``."""

_NO_GAMMA: Final = re.compile(r"batch_normalization(_\d+)?/gamma")
"""Inception-v3's normalisations have no factor in Keras."""


def twin(name: str) -> Compact:
    """A twin with fresh weights.

    Raises:
        KeyError: The zoo has no such species.
    """
    torch.manual_seed(0)
    return Compact(ARCHITECTURES[name], SPECIES[name].shape)


def __getattr__(name: str) -> Callable[[], Compact]:
    """A function that makes a twin, under the twin's name."""
    if name not in ARCHITECTURES:
        raise AttributeError(f"no twin {name!r}; there are: {', '.join(ARCHITECTURES)}")
    return lambda: twin(name)


def fill(net: Compact, variables: Mapping[str, Float32Array]) -> None:
    """Give a twin the variables of its original; either must have all that the other has.

    A batch normalisation without gamma in Keras keeps PyTorch's factors of 1.

    Raises:
        ValueError: One lacks a variable, or has another shape.
    """
    state = net.state_dict()
    wanted = {name: keras_name(net, name) for name in state if not name.endswith("num_batches_tracked")}
    missing = [name for name, known in wanted.items() if known not in variables and not _NO_GAMMA.fullmatch(known)]
    unused = sorted(set(variables) - set(wanted.values()))
    if missing or unused:
        raise ValueError(f"the original lacks {missing[:3]}, the twin {unused[:3]}")
    for name, known in wanted.items():
        if known in variables:
            if state[name].shape != variables[known].shape:
                raise ValueError(f"{name!r}: shape {tuple(state[name].shape)}, the original's {variables[known].shape}")
            state[name].copy_(torch.from_numpy(variables[known]))


def keras_name(net: Compact, name: str) -> str:
    """What Keras calls a tensor of a twin's state (``conv1/kernel`` for ``conv1.weight``)."""
    module, _, parameter = name.rpartition(".")
    layer, _, part = module.partition("__")
    kind = type(net.get_submodule(module)).__name__
    known = _NAMES.get(kind, {"weight": f"{part}_kernel" if part else "kernel"}).get(parameter, parameter)
    return f"{layer}/{known}"


def answers(net: Compact, inputs: Float32Array) -> Float32Array:
    """Logits of a twin for images with channels last."""
    with torch.inference_mode():
        found: Float32Array = net(torch.from_numpy(inputs).permute(0, 3, 1, 2).contiguous()).numpy()
    return found


def keep(name: str, folder: Path) -> tuple[Float32Array, Counter[tuple[int, ...]]]:
    """Fill a twin from the reference in a folder, and save it there for each of its routes.

    Returns:
        What it answers to the reference's inputs, and how many kernels it has of each shape.
    """
    from safetensors.torch import save_file

    reference = Reference.load(folder / "reference.npz")
    net = twin(name)
    fill(net, reference.variables)
    save_file(net.state_dict(), folder / Route.SAFETENSORS.file)
    if Route.PROGRAM in SPECIES[name].routes:
        program = torch.export.export(net, (torch.zeros(1, *SPECIES[name].shape),))
        torch.export.save(program, folder / Route.PROGRAM.file)
    return answers(net, reference.inputs), Counter(weights.values.shape for weights in weights_of(net))


def convert_folding(request: Request) -> Converted:
    """A converter: PyTorch's own exporter as it is by default, which folds batch normalisations into kernels."""
    from safetensors.torch import load_file

    name = str(request.factory).rpartition(":")[2]
    net = twin(name)
    net.load_state_dict(load_file(request.source))
    options: dict[str, Any] = {"external_data": False}
    export(net, (torch.zeros(1, *SPECIES[name].shape),), request.target, **options)
    return Converted(f"torch {torch.__version__}, folding", weights_of(net))
