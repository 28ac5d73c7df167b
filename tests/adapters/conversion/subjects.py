"""Networks, archives and hostile files that the tests of PyTorch's containers share."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from onnxmark.conversion import Container, Request
from onnxmark.model import open_model

SHAPE = (2, 4, 8, 8)
HERE = "tests.adapters.conversion.subjects"


class MixedNet(nn.Module):
    """Every kind of host layer, and batch normalisation behind some; batch normalisation has real statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(4, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.raised = nn.ConvTranspose2d(12, 6, 2, stride=2, groups=3)
        self.norm2 = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 40)
        for norm in (self.norm, self.norm2):
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.uniform_(norm.running_var, 0.3, 3)
            nn.init.normal_(norm.running_mean)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Forty numbers for each image (N, 4, H, W)."""
        maps = torch.relu(self.norm(self.plain(images)))
        maps = torch.relu(self.norm2(self.raised(self.grouped(maps))))
        return self.head(maps.mean(dim=(2, 3)))


class TwoInputs(nn.Module):
    """A network that is called with two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(6, 3)
        self.right = nn.Linear(4, 3, bias=False)

    def forward(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        """Three numbers for each pair."""
        return self.left(one) - self.right(two)


def mixed_net() -> MixedNet:
    """The same network every time, in evaluation mode."""
    torch.manual_seed(7)
    return MixedNet().eval()


def two_inputs() -> TwoInputs:
    """The same network every time."""
    torch.manual_seed(8)
    return TwoInputs()


def no_module() -> str:
    """A factory that makes something else."""
    return "weights"


def failing() -> nn.Module:
    """A factory that fails."""
    raise FileNotFoundError("settings.yaml")


def images(seed: int = 0) -> torch.Tensor:
    """A batch for the network."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def request(source: Path, tmp_path: Path, **options) -> Request:
    """A request to convert a file into a folder of its own."""
    room = tmp_path / "room"
    room.mkdir(exist_ok=True)
    container = options.pop("container", Container.TORCH)
    return Request(source, container, room / "model.onnx", **options)


def run_onnx(path: Path, **inputs: torch.Tensor) -> np.ndarray:
    """First output of a model in ONNX Runtime; a single input may be called anything."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    feed = dict(zip(names, inputs.values(), strict=True)) if len(inputs) == 1 else inputs
    return session.run(None, {name: value.numpy() for name, value in feed.items()})[0]


def run_torch(module: nn.Module, *inputs: torch.Tensor) -> np.ndarray:
    """Output of a module."""
    with torch.no_grad():
        return module(*inputs).numpy()


def sites(path: Path) -> dict[str, np.ndarray]:
    """Host weights that onnxmark's own reader finds in a file."""
    with open_model(path) as model:
        return {site.name: model.read(site).values for site in model.sites()}


def opset(path: Path) -> int:
    """Version of the standard operator set."""
    with open_model(path) as model:
        return model.opset


def save_program(path: Path, *, dynamic: bool = False, module: nn.Module | None = None) -> Path:
    """The network as an exported program."""
    shapes = ({0: torch.export.Dim("batch", min=2, max=64)},) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module or mixed_net(), (images(),), dynamic_shapes=shapes)
        torch.export.save(program, path)
    return path


def edited(source: Path, target: Path, edits: dict[str, object]) -> Path:
    """A copy of a zip archive with members replaced, dropped (None) or added; names are below its own folder."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        left = dict(edits)
        for member in archive.infolist():
            root, _, name = member.filename.partition("/")
            edit = left.pop(name, member)
            if edit is member:
                copy.writestr(member.filename, archive.read(member))
            elif edit is not None:
                copy.writestr(member.filename, edit(archive.read(member)) if callable(edit) else edit)
        for name, content in left.items():
            copy.writestr(f"{root}/{name}", content)
    return target


def edited_json(change):
    """An edit of a member that is JSON."""

    def edit(content: bytes) -> bytes:
        value = json.loads(content)
        change(value)
        return json.dumps(value).encode()

    return edit


class Payload:
    """Makes a directory when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.mkdir, (self.trace,)
