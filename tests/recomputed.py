"""Figures of a finished search, computed anew from its files and its images by other means than the search's."""

from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise, product
from math import log, prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score, log_loss
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from whole_searches import Run, read_csv

from search_spaces.architecture import build_network, read_architecture

SIDE = 48
IMAGES = {"train": (30, 42), "val": (12, 20), "test": (18, 14)}  # of each class


def write_images(root: Path) -> Path:
    """Images of two classes, and copies of some: one in each pair of parts, and one in both classes."""
    generator = np.random.default_rng(3)
    for part, counts in IMAGES.items():
        for label, count in enumerate(counts):
            folder = root / part / ("dark", "light")[label]
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 160, (SIDE, SIDE, 3)) + 60 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    for source, copy in (
        ("train/dark/0", "test/dark/0"),
        ("train/dark/1", "test/dark/1"),
        ("train/dark/2", "val/dark/2"),
        ("val/light/3", "test/light/3"),
        ("train/light/4", "train/dark/4"),
    ):
        (root / f"{copy}.png").write_bytes((root / f"{source}.png").read_bytes())
    return root


@dataclass(frozen=True, eq=False)
class Whole(Run):
    root: Path
    seconds: float

    __hash__ = object.__hash__  # figures that take long are computed once

    def stored(self, part: str) -> tuple[list[np.ndarray], np.ndarray]:
        paths = sorted((self.root / part).rglob("*.png"))
        labels = np.array([int(path.parent.name == "light") for path in paths])
        return [np.asarray(Image.open(path).convert("RGB")) for path in paths], labels

    def trained_on(self) -> np.ndarray:
        """The stored images that the weights are trained on."""
        return np.stack([image for image, _ in self.plan.data.stored("weights", images=None)])

    def inputs(self, part: str) -> tuple[Tensor, np.ndarray]:
        pixels, labels = self.stored(part)
        mean, std = (function(self.trained_on() / 255, axis=(0, 1, 2)) for function in (np.mean, np.std))
        x = torch.from_numpy((np.stack(pixels) / 255 - mean) / std)
        return x.permute(0, 3, 1, 2).float(), labels

    def logits(self, network: nn.Module, part: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = self.inputs(part)
        with torch.no_grad():
            return network.eval()(images).numpy(), labels

    @property
    def kept(self) -> dict[str, Tensor]:
        return load_file(self.folder / "supernet" / "weights.safetensors")

    def from_supernet(self, notation: str) -> nn.Module:
        supernet = self.module.supernet
        kept = {name: value for name, value in self.kept.items() if name.startswith("supernet.")}
        supernet.load_state_dict({name.removeprefix("supernet."): value for name, value in kept.items()})
        return supernet.extract(self.plan.space.parse(notation))

    def stored_network(self, device: str) -> nn.Module:
        network = build_network(read_architecture(self.folder / "architectures" / f"{device}.json"))
        network.load_state_dict(load_file(self.folder / "weights" / f"{device}.safetensors"))
        return network

    def device(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.result["devices"][name]
        return found

    def row(self, device: str, key: str, number: str | None = None) -> dict[str, Any]:
        rows: Any = self.device(device)[key]
        found: dict[str, Any] = rows if number is None else rows[int(number)]
        return found

    def profile(self, device: str) -> Any:
        return self.plan.table.devices[self.plan.table.device(device)]


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    return float((scores.argmax(1) == labels).mean())


def balanced(scores: np.ndarray, labels: np.ndarray) -> float:
    return float(balanced_accuracy_score(labels, scores.argmax(1)))


@cache
def inherited(whole: Whole, notation: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of a network of the supernet's kept weights, with batch-norm statistics of its own."""
    network, seed = whole.from_supernet(notation), whole.plan.config.seed
    batches = whole.plan.data.batches("weights", batch_size=16, seed=seed, epoch=0, augment=True)
    update_bn([next(iter(batches))[0]], network)
    return whole.logits(network, part)


def scored(whole: Whole, device: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Class scores of the test images, and their labels."""
    notation = whole.device(device)["notation"]
    if kind == "deployed":
        session = onnxruntime.InferenceSession(whole.folder / whole.device(device)["file"]["path"])
        pixels, labels = whole.stored("test")
        return np.concatenate([session.run(None, {"image": image})[0].reshape(1, -1) for image in pixels]), labels
    if kind == "random":
        notation = whole.row(device, "random_candidates", "0")["notation"]
    if kind in ("inherited", "random"):
        return inherited(whole, notation, "test")
    network = whole.stored_network(device) if kind == "finetuned" else whole.from_supernet(notation)
    return whole.logits(network, "test")


@cache
def prices(whole: Whole, device: str, notation: str) -> dict[str, float]:
    """What a network is predicted to cost: by its own tensors, and by the operations' prices."""
    space, profile = whole.plan.space, whole.profile(device)
    operations = [profile.price(op) for op in space.operations(space.parse(notation))]
    network = build_network_of(whole, notation)
    weight_mb = folded_weights(network) * 4 / 1e6
    return {
        "latency_ms": profile.constant_ms + sum(price["latency_ms"] for price in operations),
        "gflops": multiply_adds(network) / 1e9,
        "params_m": folded_weights(network) / 1e6,
        "peak_memory_mb": weight_mb + max(price["activation_mb"] for price in operations),
        "flash_kb": weight_mb * 1e3,
        "sram_kb": max(price["activation_mb"] for price in operations) * 1e3,
    }


def build_network_of(whole: Whole, notation: str) -> nn.Module:
    network = whole.plan.space.network(whole.plan.space.parse(notation))
    return network.eval()


def multiply_adds(network: nn.Module) -> int:
    counts = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            counts.append(output[0].numel() * layer.weight[0].numel())
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            counts.append(inputs[0].numel())

    for layer in network.modules():
        layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, SIDE, SIDE))
    return sum(counts)


def folded_weights(network: nn.Module) -> int:
    """With each batch norm in the convolution before it, which then has a bias."""
    count = 0
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            count += layer.weight.numel() + (0 if layer.bias is None else layer.bias.numel())
        elif isinstance(layer, nn.BatchNorm2d):
            count += layer.num_features
    return count


def bounds(whole: Whole, device: str, notation: str) -> dict[str, float]:
    profile, found = whole.profile(device), prices(whole, device, notation)
    return found | {"latency_ms": found["latency_ms"] * profile.bound.factor * profile.widening}


def used(whole: Whole, device: str, notation: str) -> float:
    held = bounds(whole, device, notation)
    return max(held[metric] / limit for metric, limit in whole.device(device)["budgets"].items())


def weights_at_end(whole: Whole) -> np.ndarray:
    """Weights (D, N) of all choices on each device."""
    with np.load(whole.folder / "alphas.npz") as stored:
        return stored["weights"][-1].astype(float)


def entropy(whole: Whole) -> float:
    shares, starts = [], whole.plan.table.first_choice
    for weights_N, (begin, end) in product(weights_at_end(whole), pairwise(starts)):
        if end - begin > 1:
            shares.append(sum(-p * log(p) for p in weights_N[begin:end].tolist() if p > 0) / log(end - begin))
    return sum(shares) / len(shares)


def alive(whole: Whole, device: str) -> list[list[Any]]:
    """The choices of each decision that the log of pruning has not taken."""
    gone = {
        (row["decision"], row["choice"])
        for row in read_csv(whole.folder / "prune.csv")
        if row["device"] == device and row["reason"] in ("presolve", "budget")
    }
    return [[c for c in d.choices if (d.name, str(c)) not in gone] for d in whole.plan.space.decisions]


@cache
def networks_left(whole: Whole, device: str) -> list[tuple[float, dict[str, float]]]:
    """Each network of the active choices, with the probability that the weights at the end give it and its costs.

    A latency is the one that is held to the budget. All combinations of choices count, alike in a network or not.
    """
    space, left, profile = whole.plan.space, alive(whole, device), whole.profile(device)
    names = [decision.name for decision in space.decisions]
    weights = dict(zip(choices_of(whole), weights_at_end(whole)[whole.devices.index(device)].tolist(), strict=True))
    known: dict[str, dict[str, float]] = {}
    found = []
    for choices in product(*left):
        chosen = dict(zip(names, choices, strict=True))
        notation = space.notation(chosen)
        if notation not in known:
            operations = [profile.price(op) for op in space.operations(space.parse(notation))]
            latency = profile.constant_ms + sum(price["latency_ms"] for price in operations)
            gflops = sum(price["gflops"] for price in operations)
            known[notation] = {"latency_ms": latency * profile.bound.factor * profile.widening, "gflops": gflops}
        found.append((prod(weights[name, str(choice)] for name, choice in chosen.items()), known[notation]))
    return found


def choices_of(whole: Whole) -> list[tuple[str, str]]:
    return [(decision.name, str(choice)) for decision in whole.plan.space.decisions for choice in decision.choices]


def most_used(whole: Whole, device: str) -> float:
    """The largest share of a budget that a network of the active choices uses."""
    budgets = whole.device(device)["budgets"]
    return max(costs[metric] / limit for _, costs in networks_left(whole, device) for metric, limit in budgets.items())


def of_metrics(whole: Whole, device: str, metric: str, kind: str) -> float:
    """A figure of a device in the last row of metrics.csv."""
    limit, networks = whole.device(device)["budgets"][metric], networks_left(whole, device)
    expected = sum(share * costs[metric] for share, costs in networks) / sum(share for share, _ in networks)
    worst = max(costs[metric] for _, costs in networks)
    return {"budget": limit, "expected": expected, "slack": limit - expected, "worst": worst}[kind]


def tau(places: list[float], values: list[float]) -> float:
    """Kendall's tau-b of an order, best first, with values."""
    pairs = list(combinations(range(len(places)), 2))
    signs = [np.sign(places[b] - places[a]) * np.sign(values[a] - values[b]) for a, b in pairs]
    tied = sum(values[a] == values[b] for a, b in pairs)
    return float(sum(signs)) / float(np.sqrt(len(pairs) * (len(pairs) - tied)))


def of_agreement(whole: Whole, device: str, kind: str) -> float:
    rows = whole.device(device)["candidates"]
    values = [row["validation_accuracy"] if kind == "validation_accuracy" else row["evidence"][kind] for row in rows]
    return tau(list(range(len(rows))), values)


def of_logits(whole: Whole, device: str, notation: str) -> float:
    logits_N = whole.kept["logits.shared"] + whole.kept["logits.offsets"][whole.devices.index(device)]
    indices = whole.plan.space.indices(whole.plan.space.parse(notation))
    starts = whole.plan.table.first_choice
    return float(sum(logits_N[start + index] for start, index in zip(starts, indices, strict=False)))


def of_candidate(whole: Whole, device: str, row: dict[str, Any], figure: str) -> float:
    notation = row["notation"]
    if figure == "utilisation":
        return used(whole, device, notation)
    if figure == "evidence/logits":
        return of_logits(whole, device, notation)
    scores, labels = inherited(whole, notation, "val")
    if figure == "validation_accuracy":
        return accuracy(scores, labels)
    return float(log_loss(labels, torch.softmax(torch.from_numpy(scores), 1).numpy()))


def of_validation(whole: Whole, device: str, figure: str) -> float:
    scores, labels = inherited(whole, whole.device(device)["notation"], "val")
    return {
        "accuracy": lambda: accuracy(scores, labels),
        "balanced_accuracy": lambda: balanced(scores, labels),
        "images": lambda: len(labels),
        "loss": lambda: of_candidate(whole, device, whole.device(device), "validation_loss"),
    }[figure]()


def of_image(whole: Whole, device: str, kind: str, axis: str) -> float:
    train = whole.trained_on()[..., int(axis)] / 255
    return float(train.mean() if kind == "mean" else train.std())


def widening(whole: Whole, device: str) -> float:
    """The bound grows by `growth` for each factor of two between these images and those of the fit."""
    domain = whole.plan.config.hardware[device]["domain"]
    return float((domain["pixels"][0] / SIDE**2) ** domain["growth"])
