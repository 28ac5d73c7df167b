"""Two ways to mark a finished network, side by side: closed form, and fine-tune-to-embed.

The literature marks a trained model by fine-tuning it with the regulariser (Uchida et al., ICMR 2017), at some cost in
accuracy. The smallest change that embeds the same message is a quadratic programme and needs no labels. Both start here
from the demo's unmarked network and meet the same 10,000 test images. One seed: directions, not decimals.

    python -m benchmarks.fine_tune_to_embed [--epochs 2]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from onnxmark_torch import Watermark
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from fixtures.make import DATA, DemoNet, Images, demo_key, load_images, train, untrained
from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.keys import Carrier, Key
from onnxmark.schemes.projection.closed_form import embed_message
from onnxmark.schemes.projection.metric import ActivationMetric
from onnxmark.schemes.projection.projection import own_projection
from onnxmark.weights import Origin, WeightTensor

LAYER = "conv3"
SHAPE = (64, 32, 3, 3)
N_UNLABELLED = 400


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The finished network and what it says of the test images."""

    net: DemoNet
    test: Images
    logits: Float32Array

    @property
    def values(self) -> Float32Array:
        """The host weights."""
        return _values(self.net)


def _values(net: DemoNet) -> Float32Array:
    return net.conv3.weight.detach().numpy().copy()


def logits_of(net: nn.Module, images: Images) -> Float32Array:
    """Logits (N, 10) in evaluation mode."""
    with torch.inference_mode():
        parts: list[Tensor] = [net(part) for part in torch.split(torch.from_numpy(images.pixels), 500)]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def input_moment(net: DemoNet, pixels: Float32Array) -> Float64Array:
    """Mean of ``patch patch'`` over the host layer's inputs, shape (1, 288, 288)."""
    seen: list[Tensor] = []
    handle = net.conv3.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    with torch.inference_mode():
        net(torch.from_numpy(pixels))
    handle.remove()
    patches = nn.functional.unfold(seen[0], kernel_size=3, padding=1).transpose(1, 2).reshape(-1, 288).double()
    return np.asarray((patches.T @ patches / len(patches)).numpy()[None], dtype=np.float64)


def closed_form(start: Start, key: Key, metric: ActivationMetric | None, margin: float) -> DemoNet:
    """A copy with the smallest change that gives every bit ``margin``."""
    weights = WeightTensor(f"{LAYER}.weight", start.values, Origin(LAYER, "Conv", 2, "PyTorch module"))
    marked = embed_message(weights, own_projection(key, SHAPE), margin=margin, metric=metric).weights.values
    net = copy.deepcopy(start.net)
    with torch.no_grad():
        net.conv3.weight.copy_(torch.from_numpy(marked.copy()))
    return net


def fine_tuned(start: Start, mark: Watermark | None, images: Images, epochs: int) -> DemoNet:
    """A copy trained on, with or without the mark."""
    net = copy.deepcopy(start.net)
    train(net, images, mark, epochs=epochs, rate=0.01)
    return net


def row(start: Start, key: Key, name: str, make: Callable[[], DemoNet]) -> list[str]:
    """Make a marked copy and describe it."""
    started = time.perf_counter()
    net = make()
    seconds = time.perf_counter() - started
    logits = logits_of(net, start.test)
    before, after = start.logits.argmax(axis=1), logits.argmax(axis=1)
    right_before, right_after = (np.mean(said == start.test.labels) for said in (before, after))
    report = Watermark(key, LAYER).report(net)
    change = np.linalg.norm(_values(net) - start.values) / np.linalg.norm(start.values)
    return [
        name,
        f"{right_after - right_before:+.4f}",
        f"{np.mean(before != after):.2%}",
        f"{np.linalg.norm(logits - start.logits) / np.linalg.norm(start.logits):.3f}",
        f"{report.bit_error_rate:.3f}",
        f"{report.min_margin:.2f}",
        f"{report.mean_margin:.2f}",
        f"{change:.3f}",
        f"{seconds:.2f}",
    ]


def compare(data: Path, epochs: int, margin: float) -> None:
    """Train the unmarked network, mark it in every way, print a table."""
    images, test = load_images(data, "train"), load_images(data, "t10k")
    net = untrained()
    train(net, images, None)
    start = Start(net, test, logits_of(net, test))
    metric = ActivationMetric(input_moment(net, images.pixels[:N_UNLABELLED]))
    key = demo_key("key", Carrier(SHAPE, f"{LAYER}.weight"))
    accuracy = np.mean(start.logits.argmax(axis=1) == test.labels)
    title = f"unmarked accuracy {accuracy:.4f}; T={key.n_bits} in {LAYER}, 10,000 test images"
    columns = (
        "embedding",
        "accuracy",
        "changed",
        "logits rel.",
        "BER",
        "min margin",
        "mean margin",
        "rel. change",
        "s",
    )
    table = Table(*columns, title=title)
    ways: dict[str, Callable[[], DemoNet]] = {
        f"closed form {margin:g}, identity": lambda: closed_form(start, key, None, margin),
        f"closed form {margin:g}, activation": lambda: closed_form(start, key, metric, margin),
        f"fine-tune {epochs} ep., marked": lambda: fine_tuned(start, Watermark(key, LAYER), images, epochs),
        f"fine-tune {epochs} ep., unmarked": lambda: fine_tuned(start, None, images, epochs),
    }
    for name, way in ways.items():
        table.add_row(*row(start, key, name, way))
    Console(width=130).print(table)


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of Fashion-MNIST's four IDX .gz files")
    parser.add_argument("--epochs", type=int, default=2, help="of fine-tuning, at a learning rate of .01")
    parser.add_argument("--margin", type=float, default=2.0, help="of the closed form, in null standard deviations")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    compare(arguments.data, arguments.epochs, arguments.margin)


if __name__ == "__main__":
    main()
