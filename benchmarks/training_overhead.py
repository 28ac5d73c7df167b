"""What a mark costs in training: the same step with and without it, interleaved in one run, eager and compiled.

Two networks: the wide residual network of Uchida's experiments (N = 1, k = 4, 32 x 32 inputs) and ResNet-50 (224 x
224). Steps with and without the mark alternate in random order, so that a machine that slows down slows both; because a
mark of a few milliseconds disappears in such a ratio's noise, its own time is taken inside the step, too, and its share
of that step is the figure to go by. Peak memory is that of whole processes on a CPU, of PyTorch's allocator on a GPU.

    python -m benchmarks.training_overhead [--device cuda] [--networks wrn resnet50] [--modes eager compiled] [--memory]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import numpy as np
import torch
from onnxmark_torch import Watermark
from onnxmark_torch.networks import WideResNet
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.paired import Command, measured
from onnxmark.keys import Carrier, Key, draw_secret_parts


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1 convolutions (He et al., CVPR 2016, arXiv 1512.03385), stride in the 3x3."""

    def __init__(self, n_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(n_in, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.norm3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        same = n_in == 4 * width and stride == 1
        self.shortcut = None if same else nn.Conv2d(n_in, 4 * width, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, n_in, H, W) to (N, 4 width, H / stride, W / stride)."""
        inner = torch.relu(self.norm1(self.conv1(maps)))
        inner = self.norm3(self.conv3(torch.relu(self.norm2(self.conv2(inner)))))
        return torch.relu(inner + (maps if self.shortcut is None else self.shortcut(maps)))


class ResNet50(nn.Module):
    """Stages of 3, 4, 6 and 3 bottlenecks: 25.5 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        stages, n_in = [], 64
        for index, count in enumerate((3, 4, 6, 3)):
            width = 64 * 2**index
            blocks = [Bottleneck(n_in, width, 2 if index else 1)]
            blocks += [Bottleneck(4 * width, width, 1) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            n_in = 4 * width
        self.stages, self.head = nn.Sequential(*stages), nn.Linear(n_in, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 1000) of images (N, 3, 224, 224)."""
        return cast(Tensor, self.head(self.stages(self.stem(images)).mean(dim=(2, 3))))


@dataclass(frozen=True, slots=True)
class Subject:
    """A network and how it is fed.

    Args:
        build: Makes it.
        image_size: Height and width of its images.
        n_classes: Number of its classes.
        batch: Images a step by default.
    """

    build: Callable[[], nn.Module]
    image_size: int
    n_classes: int
    batch: int


SUBJECTS: Final = {"wrn": Subject(WideResNet, 32, 10, 64), "resnet50": Subject(ResNet50, 224, 1000, 8)}


@dataclass(frozen=True, slots=True)
class Case:
    """A layer and a carrier to measure."""

    network: str
    layer: str
    shape: tuple[int, ...]
    carrier: str


CASES: Final = (
    Case("wrn", WideResNet.host, (64, 64, 3, 3), "mean-ihw"),
    Case("wrn", WideResNet.host, (64, 64, 3, 3), "full"),
    Case("wrn", WideResNet.host, (64, 64, 3, 3), "fold:16384"),
    Case("wrn", "conv4.0.conv2", (256, 256, 3, 3), "fold:65536"),
    Case("resnet50", "stages.3.2.conv2", (512, 512, 3, 3), "mean-ihw"),
    Case("resnet50", "stages.1.1.conv2", (128, 128, 3, 3), "full"),
    Case("resnet50", "stages.3.2.conv2", (512, 512, 3, 3), "fold:65536"),
)


@dataclass(frozen=True, slots=True)
class Clock:
    """Times work on a device that is idle before and after."""

    device: torch.device

    def seconds(self, work: Callable[[], None]) -> float:
        """Wall seconds of ``work``."""
        self._wait()
        started = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(slots=True)
class Training:
    """A network in training, with a mark that each step may add or leave out."""

    model: nn.Module
    mark: Watermark
    images: Tensor
    labels: Tensor
    clock: Clock
    inside: list[float] = field(default_factory=list)
    """Wall seconds of the mark within each marked step."""

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)

    optimizer: torch.optim.Optimizer = field(init=False)

    def step(self, *, marked: bool) -> None:
        """One step."""
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self.images), self.labels).backward()  # type: ignore[no-untyped-call]
        if marked:
            self.inside.append(self.clock.seconds(lambda: self.mark.add_grad_(self.model)))
        self.optimizer.step()


@dataclass(frozen=True, slots=True)
class Overhead:
    """Medians of step times in milliseconds, of the mark's share of its step, and of the ratio within pairs."""

    plain_ms: float
    mark_ms: float
    share: float
    ratio: float


def fresh_key(case: Case, n_bits: int) -> Key:
    """A key for a layer."""
    seed, salt = draw_secret_parts()
    payload = np.zeros(n_bits, dtype=np.uint8)
    parameters = {"generator": "rademacher", "carrier": case.carrier}
    return Key("projection", seed, salt, payload, (Carrier(case.shape, case.layer),), parameters)


def training(case: Case, device: torch.device, *, n_bits: int, batch: int | None, compiled: bool) -> Training:
    """A case, ready to step."""
    torch.manual_seed(0)
    subject = SUBJECTS[case.network]
    model = subject.build().to(device)
    size = batch or subject.batch
    images = torch.rand(size, 3, subject.image_size, subject.image_size, device=device)
    labels = torch.randint(subject.n_classes, (size,), device=device)
    mark = Watermark(fresh_key(case, n_bits), case.layer)
    running = cast(nn.Module, torch.compile(model)) if compiled else model
    return Training(running, mark, images, labels, Clock(device))


def compare(subject: Training, pairs: int) -> Overhead:
    """Time ``pairs`` steps with and without the mark, in random order within each pair."""
    for marked in (True, False, True, False):
        subject.step(marked=marked)
    subject.inside.clear()
    rng = np.random.default_rng(0)
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(pairs):
        for marked in rng.permutation([True, False]).tolist():
            times[marked].append(subject.clock.seconds(lambda marked=marked: subject.step(marked=marked)))  # type: ignore[misc]
    marked_times, plain_times, inside = np.array(times[True]), np.array(times[False]), np.array(subject.inside)
    return Overhead(
        plain_ms=1e3 * float(np.median(plain_times)),
        mark_ms=1e3 * float(np.median(inside)),
        share=float(np.median(inside / (marked_times - inside))),
        ratio=float(np.median(marked_times / plain_times)),
    )


def peak_megabytes(case: Case, arguments: argparse.Namespace, *, marked: bool) -> float:
    """Peak memory of three steps: on a GPU that of PyTorch's allocator, on a CPU that of a process of its own."""
    device = torch.device(arguments.device)
    if device.type != "cuda":
        options = ["--steps", str(CASES.index(case)), "marked" if marked else "plain", "--bits", str(arguments.bits)]
        module = [sys.executable, "-m", "benchmarks.training_overhead", "--threads", str(arguments.threads)]
        return measured(Command((*module, *options)))[1]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    _some_steps(training(case, device, n_bits=arguments.bits, batch=arguments.batch, compiled=False), marked=marked)
    return torch.cuda.max_memory_allocated(device) / 1e6


def _some_steps(subject: Training, *, marked: bool) -> None:
    for _ in range(3):
        subject.step(marked=marked)


def _row(case: Case, mode: str, arguments: argparse.Namespace) -> Sequence[str]:
    device = torch.device(arguments.device)
    subject = training(case, device, n_bits=arguments.bits, batch=arguments.batch, compiled=mode == "compiled")
    found = compare(subject, arguments.pairs)
    memory = "–"
    if arguments.memory and mode == "eager":
        plain, marked = (peak_megabytes(case, arguments, marked=marked) for marked in (False, True))
        memory = f"{plain:.0f} + {marked - plain:.0f}"
    times = (f"{found.plain_ms:.1f}", f"{found.mark_ms:.2f}", f"{100 * found.share:.2f} %", f"{found.ratio:.3f}")
    return (case.network, mode, "x".join(map(str, case.shape)), case.carrier, *times, memory)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", nargs="+", choices=tuple(SUBJECTS), default=tuple(SUBJECTS))
    parser.add_argument("--modes", nargs="+", choices=("eager", "compiled"), default=("eager",))
    parser.add_argument("--batch", type=int, help="images a step; 64 for the wide residual network, 8 for ResNet-50")
    parser.add_argument("--bits", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=15, help="pairs of steps, after two to warm up")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--memory", action="store_true", help="measure peak memory, too")
    parser.add_argument("--steps", nargs=2, metavar=("CASE", "KIND"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Read the command line, measure every case, print a table."""
    arguments = _parsed()
    torch.set_num_threads(arguments.threads)
    if arguments.steps:
        case, kind = CASES[int(arguments.steps[0])], arguments.steps[1]
        subject = training(case, torch.device("cpu"), n_bits=arguments.bits, batch=arguments.batch, compiled=False)
        _some_steps(subject, marked=kind == "marked")
        return
    title = f"T={arguments.bits}, {arguments.device}, {arguments.threads} threads, torch {torch.__version__}"
    table = Table("network", "mode", "layer", "carrier", "step ms", "mark ms", "share", "ratio", "peak MB", title=title)
    for case in CASES:
        if case.network in arguments.networks:
            for mode in arguments.modes:
                table.add_row(*_row(case, mode, arguments))
    table.caption = f"load average at the end {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
