"""What a mark costs in training time: the same step with and without it, interleaved in one run.

A network shaped like the paper's (a wide residual network, arXiv 1605.07146, N=1, k=4), 32 x 32 inputs, T bits in a
layer of the second or third group. Steps with and without the mark alternate in random order, so that a machine that
slows down slows both; the ratio is the median over pairs.

    python benchmarks/training_overhead.py [--device cuda] [--batch 64]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from onnxmark_torch import Watermark
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from onnxmark.keys import Carrier, Key, draw_secret_parts


class _Block(nn.Module):
    """A pre-activation residual block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to maps of the block's width and stride."""
        active = torch.relu(self.norm1(maps))
        inner = self.conv2(torch.relu(self.norm2(self.conv1(active))))
        return cast(Tensor, inner + self.shortcut(active))


class WideResNet(nn.Module):
    """Groups of 64, 128 and 256 channels, one block each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.group1, self.group2, self.group3 = _Block(16, 64, 1), _Block(64, 128, 2), _Block(128, 256, 2)
        self.norm, self.head = nn.BatchNorm2d(256), nn.Linear(256, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 3, 32, 32)."""
        maps = torch.relu(self.norm(self.group3(self.group2(self.group1(self.stem(images))))))
        return cast(Tensor, self.head(maps.mean(dim=(2, 3))))


@dataclass(frozen=True, slots=True)
class Case:
    """A layer and a carrier to measure."""

    layer: str
    shape: tuple[int, ...]
    carrier: str


CASES = (
    Case("group2.conv2", (128, 128, 3, 3), "mean-ihw"),
    Case("group2.conv2", (128, 128, 3, 3), "full"),
    Case("group2.conv2", (128, 128, 3, 3), "fold:65536"),
    Case("group3.conv2", (256, 256, 3, 3), "mean-ihw"),
    Case("group3.conv2", (256, 256, 3, 3), "fold:65536"),
)


@dataclass(frozen=True, slots=True)
class Overhead:
    """Step times in milliseconds, and the median over pairs of their ratio."""

    plain_ms: float
    marked_ms: float
    alone_ms: float
    ratio: float


def fresh_key(case: Case, n_bits: int) -> Key:
    """A key for a layer."""
    seed, salt = draw_secret_parts()
    payload = np.zeros(n_bits, dtype=np.uint8)
    parameters = {"generator": "rademacher", "carrier": case.carrier}
    return Key("projection", seed, salt, payload, Carrier(case.shape, case.layer), parameters)


def timed(work: Callable[[], None], device: torch.device) -> float:
    """Seconds that ``work`` takes on ``device``, started and ended with an idle device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def measure(case: Case, device: torch.device, *, n_bits: int, batch: int, pairs: int) -> Overhead:
    """Time ``pairs`` steps with and without the mark, in random order within each pair."""
    torch.manual_seed(0)
    model = WideResNet().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    images, labels = torch.rand(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)
    mark = Watermark(fresh_key(case, n_bits), case.layer)

    def step(*, marked: bool) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        if marked:
            mark.add_grad_(model)
        optimizer.step()

    for marked in (True, False, True, False):
        step(marked=marked)
    rng = np.random.default_rng(0)
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(pairs):
        for marked in rng.permutation([True, False]).tolist():
            times[marked].append(timed(lambda marked=marked: step(marked=marked), device))  # type: ignore[misc]
    alone = [timed(lambda: mark.add_grad_(model), device) for _ in range(pairs)]
    marked_times, plain_times = np.array(times[True]), np.array(times[False])
    return Overhead(
        plain_ms=1e3 * float(np.median(plain_times)),
        marked_ms=1e3 * float(np.median(marked_times)),
        alone_ms=1e3 * float(np.median(alone)),
        ratio=float(np.median(marked_times / plain_times)),
    )


def main() -> None:
    """Read the command line, measure every case, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--bits", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=15, help="pairs of steps, after two to warm up")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    title = f"T={arguments.bits}, batch {arguments.batch}, {device}, torch {torch.__version__}"
    table = Table("layer", "carrier", "step ms", "with mark ms", "mark alone ms", "ratio", title=title)
    for case in CASES:
        found = measure(case, device, n_bits=arguments.bits, batch=arguments.batch, pairs=arguments.pairs)
        times = (f"{value:.2f}" for value in (found.plain_ms, found.marked_ms, found.alone_ms))
        table.add_row(case.layer, case.carrier, *times, f"{found.ratio:.4f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
