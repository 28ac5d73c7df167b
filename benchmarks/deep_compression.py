"""How small does a network get under Deep Compression, and does it come back bit by bit? Ours beside the published.

Han, Mao, Dally (ICLR 2016, arXiv 1510.00149): Caffe's LeNet-5 (20 and 50 filters of 5 x 5, 500 and 10 neurons), pruned
layer by layer to the paper's shares with retraining after each, weights shared by k-means (8 bits for convolutions, 5
for dense layers), gaps and indices Huffman coded. Not as there: Fashion-MNIST, which is harder than the paper's MNIST,
and centroids that are not trained any further. The decoded weights go into a fresh network, which must be the same.

    python -m benchmarks.deep_compression [--data DIR] [--epochs N]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils import prune

from benchmarks.display import progress, wide_console, write_json
from fixtures.make import DATA, SEED, Images, load_images, train
from onnxmark.arrays import Float32Array
from onnxmark.attacks import KMeansClustering, MagnitudePruning, Means
from onnxmark.attacks.entropy_coding import Coded, Sizes, decode, encode, sizes

PUBLISHED_RATIO: Final = 39
RATE: Final = 0.05
RETRAINING_RATE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one layer.

    Args:
        layer: Its name.
        kept: Share of weights that pruning leaves.
        bits: Bits an index into the codebook.
        gap_bits: Bits a gap.
    """

    layer: str
    kept: float
    bits: int
    gap_bits: int


PLANS: Final = (Plan("conv1", 0.66, 8, 5), Plan("conv2", 0.12, 8, 5), Plan("fc1", 0.08, 5, 5), Plan("fc2", 0.19, 5, 5))


class LeNet5(nn.Module):
    """Caffe's variant: 430,500 weights and 580 biases."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 1, 28, 28) in [0, 1]."""
        maps = self.pool(self.conv2(self.pool(self.conv1(images))))
        return cast(Tensor, self.fc2(torch.relu(self.fc1(maps.flatten(1)))))


@dataclass(frozen=True, slots=True)
class Compressed:
    """One layer in storage."""

    plan: Plan
    sizes: Sizes
    coded: Coded


def weights_of(net: LeNet5, layer: str) -> Float32Array:
    """A copy of a layer's weights."""
    return np.array(cast(Tensor, net.get_submodule(layer).weight).detach().numpy(), dtype=np.float32)


def set_weights(net: LeNet5, layer: str, values: Float32Array) -> None:
    """Put weights into a layer."""
    with torch.no_grad():
        cast(Tensor, net.get_submodule(layer).weight).copy_(torch.from_numpy(values))


def accuracy(net: LeNet5, images: Images) -> float:
    """Share of images that are classified as labelled."""
    with torch.inference_mode():
        said = torch.cat([net(part).argmax(dim=1) for part in torch.split(torch.from_numpy(images.pixels), 500)])
    return float(np.mean(said.numpy() == images.labels))


def prune_layer(net: LeNet5, plan: Plan) -> None:
    """Prune one layer; training leaves its zeros alone from then on."""
    values = weights_of(net, plan.layer)
    left = MagnitudePruning(1 - plan.kept).change(values, Means(np.random.default_rng()))
    mask = torch.from_numpy((left != 0).astype(np.float32))
    prune.custom_from_mask(net.get_submodule(plan.layer), "weight", mask)  # type: ignore[no-untyped-call]


def share_weights(net: LeNet5) -> None:
    """Make pruning permanent and cluster every layer."""
    for plan in PLANS:
        prune.remove(net.get_submodule(plan.layer), "weight")  # type: ignore[no-untyped-call]
        # PyTorch's mask makes -0.0 of negative weights; storage knows one zero.
        weights = weights_of(net, plan.layer)
        left = np.where(weights == 0, np.float32(0), weights)
        set_weights(net, plan.layer, KMeansClustering(plan.bits).change(left, Means(np.random.default_rng())))


def compressed(net: LeNet5) -> list[Compressed]:
    """Every layer coded."""
    layers = [(plan, weights_of(net, plan.layer)) for plan in PLANS]
    return [Compressed(plan, sizes(values, plan.gap_bits), encode(values, plan.gap_bits)) for plan, values in layers]


def restored(net: LeNet5, layers: list[Compressed]) -> LeNet5:
    """A fresh network with the biases of ``net`` and the decoded weights."""
    fresh = LeNet5()
    biases = {name: values for name, values in net.state_dict().items() if name.endswith("bias")}
    fresh.load_state_dict(biases, strict=False)
    for layer in layers:
        set_weights(fresh, layer.plan.layer, decode(layer.coded))
    return fresh


def same_state(net: LeNet5, other: LeNet5) -> bool:
    """Whether two networks agree in every bit of every tensor."""
    states = net.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        states[0][name].numpy().tobytes() == states[1][name].numpy().tobytes() for name in states[0]
    )


def layer_row(layer: Compressed) -> list[str]:
    """A layer's line of the table."""
    plan, coded = layer.plan, layer.coded
    return [
        plan.layer,
        *_counts(layer.sizes),
        f"{plan.bits} -> {coded.indices.n_bits / layer.sizes.n_stored:.1f}",
        f"{plan.gap_bits} -> {coded.gaps.n_bits / layer.sizes.n_entries:.1f}",
        *_ratios(layer.sizes),
    ]


def _counts(found: Sizes) -> list[str]:
    return [f"{found.n_weights:,}", f"{found.n_stored / found.n_weights:.1%}", f"{found.n_entries - found.n_stored:,}"]


def _ratios(found: Sizes) -> list[str]:
    return [
        f"{found.dense_bits / 8192:.1f}",
        f"{found.clustered_bits / 8192:.2f}",
        f"{found.clustered_ratio:.1f}",
        f"{found.coded_bits / 8192:.2f}",
        f"{found.coded_ratio:.1f}",
    ]


def with_biases(total: Sizes, net: LeNet5) -> float:
    """The ratio where biases count, too, as float32 on both sides."""
    bits = 32 * sum(values.numel() for name, values in net.named_parameters() if name.endswith("bias"))
    return (total.dense_bits + bits) / (total.coded_bits + bits)


def trained_and_pruned(net: LeNet5, images: Images, epochs: int, retraining: int) -> Iterator[str]:
    """Train, then prune layer by layer with retraining; tells each stage once it is reached."""
    with progress("training and pruning", 1 + len(PLANS)) as done:
        train(net, images, None, epochs=epochs, rate=RATE)
        done(1)
        yield "trained"
        for plan in PLANS:
            prune_layer(net, plan)
            train(net, images, None, epochs=retraining, rate=RETRAINING_RATE)
            done(1)
    yield "pruned"


def show(layers: list[Compressed], title: str) -> None:
    """Print the table."""
    columns = ("layer", "weights", "kept", "fillers", "index bits", "gap bits", "KiB", "clustered KiB", "ratio")
    table = Table(*columns, "Huffman KiB", "ratio", title=title)
    for layer in layers:
        table.add_row(*layer_row(layer))
    total = total_of(layers)
    table.add_row("total", *_counts(total), "", "", *_ratios(total))
    wide_console().print(table)


def total_of(layers: list[Compressed]) -> Sizes:
    """What all layers take."""
    return sum((layer.sizes for layer in layers), Sizes())


def measure(data: Path, epochs: int, retraining: int) -> dict[str, Any]:
    """Train, compress, decode, print the table; the figures as data."""
    images, test = load_images(data, "train"), load_images(data, "t10k")
    torch.manual_seed(SEED)
    net = LeNet5()
    accuracies = {stage: accuracy(net, test) for stage in trained_and_pruned(net, images, epochs, retraining)}
    share_weights(net)
    accuracies["clustered"] = accuracy(net, test)
    layers = compressed(net)
    again = restored(net, layers)
    accuracies["decoded"] = accuracy(again, test)
    same, total = same_state(net, again), total_of(layers)
    show(layers, f"LeNet-5, {epochs} epochs and {retraining} after pruning each layer")
    print(f"published (MNIST): {PUBLISHED_RATIO}x; ours with biases as float32: {with_biases(total, net):.1f}x")
    print("accuracy: " + ", ".join(f"{name} {value:.4f}" for name, value in accuracies.items()))
    print(f"decoded network the same in every bit: {same}")
    figures = {layer.plan.layer: asdict(layer.sizes) for layer in layers} | {"total": asdict(total)}
    return {"accuracy": accuracies, "sizes": figures, "ratio": total.coded_ratio, "same": same}


def main() -> None:
    """Read the command line and measure; exit with 1 where the decoded network is another."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of Fashion-MNIST's four IDX .gz files")
    parser.add_argument("--epochs", type=int, default=4, help="of training before anything is pruned")
    parser.add_argument("--retraining", type=int, default=1, help="epochs after pruning each layer")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = measure(arguments.data, arguments.epochs, arguments.retraining)
    write_json(arguments.json, figures)
    raise SystemExit(0 if figures["same"] else 1)


if __name__ == "__main__":
    main()
