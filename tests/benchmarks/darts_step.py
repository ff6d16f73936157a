"""What a training step of the `darts` supernet costs, beside the same operations one by one and nni's DARTS.

    python tests/benchmarks/darts_step.py [--batch 8] [--width 16] [--cells 8] [--rounds 5] [--threads 1] [--seed 0]

All steps run interleaved in one process after a warm-up; times are medians over rounds with their quartiles, ratios are
of the same round. Asked: a mixed step at least 1.25 times faster than the sum over operations as the paper writes it,
in the same memory layout; a whole DARTS step (architecture, then weights) at least 4 times faster than nni's, of the
same width, cells, images and batch; a sampled network at least 5 times faster than a mixed step, in a quarter of the
memory.

A step is forward, backward and SGD with momentum on fixed random images of 32 px. An architecture step leaves the
weights without gradients. nni's step is the `training_step` of its own module (see `nni_baselines.darts_step`).
"""

import argparse
import copy
from collections.abc import Callable, Iterator, Mapping
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from selection import header
from step_cost import Step, random_batch, rounds, show
from torch import Tensor, nn

from search_spaces.darts.space import DartsSpace
from tests.benchmarks.nni_baselines import darts_step, quiet_nni, saved_activation_mb
from tests.plain_darts import plain_logits

IMAGE, CLASSES = 32, 10
ASKED_PLAIN, ASKED_NNI, ASKED_SAMPLED, ASKED_MEMORY = 1.25, 4.0, 5.0, 0.25
NUM_DRAWN = 16  # networks that a sampled step takes in turn
MEMORY_STEPS = 8


def steps_of(space: DartsSpace, batch_size: int, *, seed: int) -> dict[str, Step]:
    """Mixed steps in several ways and a sampled one, of supernets with the same weights."""
    torch.manual_seed(seed)
    supernet = space.supernet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = random_batch(batch_size, IMAGE, seed=seed)
    alphas = {d.name: torch.randn(len(d.choices)).mul(1e-3).requires_grad_() for d in space.decisions}
    drawn = networks(space, seed=seed)

    def mixture() -> dict[str, Tensor]:
        return {name: alpha.softmax(0) for name, alpha in alphas.items()}

    def step(network: nn.Module, logits: Callable[[], Tensor]) -> Step:
        weights = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

        def run() -> None:
            weights.zero_grad(set_to_none=True)
            F.cross_entropy(logits(), labels).backward()
            weights.step()

        return run

    architecture = torch.optim.Adam(alphas.values(), lr=3e-4)

    def architecture_step() -> None:
        supernet.requires_grad_(False)
        architecture.zero_grad(set_to_none=True)
        F.cross_entropy(supernet(images, mixture()), labels).backward()
        architecture.step()
        supernet.requires_grad_(True)

    mixed = step(supernet, lambda: supernet(images, mixture()))

    def both() -> None:
        architecture_step()
        mixed()

    plain, rows_first = copy.deepcopy(supernet), copy.deepcopy(supernet).to(memory_format=torch.contiguous_format)
    in_rows = images.contiguous()
    return {
        "mixed": mixed,
        "plain": step(plain, lambda: plain_logits(plain, images, mixture())),
        "plain, channels first": step(rows_first, lambda: plain_logits(rows_first, in_rows, mixture())),
        "sampled": step(supernet, lambda: supernet(images, next(drawn))),
        "architecture, then weights": both,
    }


def networks(space: DartsSpace, *, seed: int) -> Iterator[Mapping[str, int]]:
    """Networks in turn, drawn uniformly."""
    rows = space.rule_matrix.sample(NUM_DRAWN, np.random.default_rng(seed))
    return (space.selection(rows[k % NUM_DRAWN]) for k in count())


def nni_step(space: DartsSpace, batch_size: int) -> Step:
    with quiet_nni():
        from nni.nas.hub.pytorch import DARTS

        theirs = DARTS(width=space.width, num_cells=space.num_cells, dataset="cifar")
    return darts_step(theirs, image_size=IMAGE, num_classes=CLASSES, batch_size=batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"batch": 8, "width": 16, "cells": 8, "rounds": 5, "threads": 1, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    space = DartsSpace(width=arguments.width, num_cells=arguments.cells, image_size=IMAGE, num_classes=CLASSES)
    print(header(**{name: str(value) for name, value in vars(arguments).items()}), flush=True)
    steps = steps_of(space, arguments.batch, seed=arguments.seed)
    steps["nni, architecture and weights"] = nni_step(space, arguments.batch)
    memory = {
        name: max(saved_activation_mb(step) for _ in range(MEMORY_STEPS if name == "sampled" else 1))
        for name, step in steps.items()
    }
    taken = rounds(steps, arguments.rounds, repeats={"sampled": 4})
    print(f"one step, ms: median [quartiles], n = {arguments.rounds}; memory held for backward, MB")
    for name, seconds in taken.items():
        show(f"{name}; {memory[name]:.0f} MB", seconds)
    print("ratios of the same round: median [quartiles]")
    for slow, fast, asked in (
        ("plain", "mixed", ASKED_PLAIN),
        ("plain, channels first", "mixed", ASKED_PLAIN),
        ("nni, architecture and weights", "architecture, then weights", ASKED_NNI),
        ("mixed", "sampled", ASKED_SAMPLED),
    ):
        low, median, high = np.percentile(taken[slow] / taken[fast], [25, 50, 75])
        print(f"  {f'{slow} over {fast}':58s} {median:6.2f} [{low:5.2f}, {high:5.2f}]  asked >= {asked:g}")
    share = memory["sampled"] / memory["mixed"]
    print(f"  {'memory of sampled over mixed':58s} {share:6.2f}  asked about {ASKED_MEMORY:g}")


if __name__ == "__main__":
    main()
