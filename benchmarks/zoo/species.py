"""What is in the zoo: architectures that Keras publishes, each with a twin written in PyTorch.

Nothing here imports a framework, so that the process which reads and compares files has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

N_CLASSES: Final = 10


class Route(StrEnum):
    """A way from a framework to ONNX."""

    KERAS = "keras"
    SAVED_MODEL = "saved-model"
    TFLITE = "tflite"
    PROGRAM = "pt2"
    SAFETENSORS = "safetensors"
    FOLDING = "torch, folding"

    @property
    def is_twin(self) -> bool:
        """Whether it starts from the twin in PyTorch."""
        return self in (Route.PROGRAM, Route.SAFETENSORS, Route.FOLDING)

    @property
    def file(self) -> str:
        """Name of the file, or folder, that it starts from."""
        return _FILES[self]


_FILES: Final = {
    Route.KERAS: "model.keras",
    Route.SAVED_MODEL: "saved",
    Route.TFLITE: "model.tflite",
    Route.PROGRAM: "twin.pt2",
    Route.SAFETENSORS: "twin.safetensors",
    Route.FOLDING: "twin.safetensors",
}
_USUAL: Final = (Route.KERAS, Route.PROGRAM, Route.FOLDING)


@dataclass(frozen=True, slots=True)
class Species:
    """An architecture.

    Args:
        name: What Keras calls it, and its twin is called.
        size: Height and width of the images; small ones, as kernels do not depend on them.
        function: Function of ``keras.applications`` that builds it; its name where None.
        options: Further arguments of that function.
        routes: Ways it is converted.
    """

    name: str
    size: int = 32
    function: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    routes: tuple[Route, ...] = _USUAL

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image, channels first."""
        return (3, self.size, self.size)


_LIVING: Final = (
    Species("VGG16"),
    Species("ResNet50", routes=tuple(Route)),
    Species("ResNet101"),
    Species("ResNet50V2"),
    Species("DenseNet121"),
    Species("InceptionV3", size=75),
    Species("Xception", size=71, routes=tuple(Route)),
    Species("MobileNet", routes=tuple(Route)),
    Species("MobileNetV2"),
    Species("MobileNetV3Small"),
    Species("EfficientNetB0", routes=tuple(Route)),
    Species("EfficientNetV2B0"),
    Species("NASNetMobile"),
    Species("ConvNeXtTiny"),
)
_SMALL: Final = (
    Species("MobileNet-quarter", function="MobileNet", options={"alpha": 0.25}, routes=(Route.KERAS, Route.PROGRAM)),
    Species("MobileNetV2-third", function="MobileNetV2", options={"alpha": 0.35}, routes=(Route.FOLDING,)),
)
"""Reduced ones, for tests."""

SPECIES: Final[Mapping[str, Species]] = MappingProxyType({one.name: one for one in (*_LIVING, *_SMALL)})
EVERY_NAME: Final = tuple(one.name for one in _LIVING)


def chosen(only: str | None) -> tuple[Species, ...]:
    """Species by name, in the zoo's order.

    Args:
        only: Names between commas, in any case; None takes all but the reduced ones.

    Raises:
        ValueError: There is no such species.
    """
    if only is None:
        return tuple(SPECIES[name] for name in EVERY_NAME)
    wanted = {name.strip().lower() for name in only.split(",")}
    known = {name.lower(): name for name in SPECIES}
    if unknown := sorted(wanted - set(known)):
        raise ValueError(f"no species {unknown[0]!r} in the zoo; there are: {', '.join(SPECIES)}")
    return tuple(SPECIES[name] for lower, name in known.items() if lower in wanted)
