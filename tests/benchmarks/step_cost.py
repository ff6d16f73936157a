"""What a training step of a supernet costs: beside the same network by itself, its cost model, and nni's DARTS.

    python tests/benchmarks/step_cost.py [--batch 32] [--image 64] [--rounds 5] [--threads N]

All steps run interleaved in one process after a warm-up; times are medians over rounds with their quartiles. Asked: a
supernet step of `mobile` at most 1.4 times a step of its largest stand-alone network; a step of a sampled cell of
NAS-Bench-201 at most 1.5 times that of the cell's own network; the check that logits agree with the losses of drawn
networks at most 3 % of the steps between two prunings; the expected costs of all devices and metrics under 5 % of a
step; nni's one-shot DARTS at least 3 times slower per step and its memory at least 3 times larger, at equal batch,
image size and multiply-adds of the largest network.

"An Espalier step" is `SearchModule.training_step` at the start of a search, when nothing is pruned yet: a weights step
on a network drawn uniformly from the feasible ones, and every `arch_every` steps an architecture step; clipping, both
optimizers and the pool's upkeep included. An nni step is an architecture and a weights update as well.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import yaml
from selection import CONF, header, mobile_space, tier_table
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import Array, CostTable
from hardware_models.counting import recount
from search_spaces.architecture import make_space
from tests.benchmarks.nni_baselines import (
    FAMILIES,
    hub_space,
    largest_macs,
    nni_darts_step,
    saved_activation_mb,
    width_for_macs,
)
from trainers.data.task import Classification
from trainers.runs.code import running_code
from trainers.search.logits import ArchitectureParameters
from trainers.search.module import Schedule, SearchModule
from trainers.search.provenance import Computed
from trainers.search.ranks import Ranks
from trainers.search.samplers import largest_path
from trainers.search.search_state import SearchState
from trainers.search.strategy import PRESETS, make_strategy

# Shapes: B batch, R rounds.

ASKED_SUPERNET, ASKED_CELL, ASKED_COSTS, ASKED_AGREEMENT, ASKED_SPEED = 1.4, 1.5, 0.05, 0.03, 3.0
DRAWS, STEPS_BETWEEN_PRUNINGS = 128, 8  # the default search has as many steps after warm-up
NUM_CLASSES = 10  # as mobile_space's
NUM_DRAWN = 8  # cells, uniformly
STEPS_PER_ROUND = 6  # of a search: three devices in turn, each with and without an architecture step
NO_LIMIT_GFLOPS = 1e3  # a budget that every network meets

Step = Callable[[], object]
Batch = tuple[Tensor, Tensor]
SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9)  # plain, of every network here, nni's too


def random_batch(batch_size: int, image_size: int, *, seed: int) -> Batch:
    """Images as the data pipeline gives them, channels last in memory, and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch_size, 3, image_size, image_size, generator=generator)
    labels = torch.randint(NUM_CLASSES, (batch_size,), generator=generator)
    return images.contiguous(memory_format=torch.channels_last), labels


def search(table: CostTable, batches: tuple[Batch, Batch], *, arch_every: int, budgets: bool) -> SearchModule:
    """The search of the tiers, past its warm-up, set up by Lightning in a real fit of one step."""
    space = table.space
    problems = []
    for device in table.devices:
        own = {str(metric): limit for metric, limit in device.budgets.items()}
        problems.append(BudgetProblem(table, device.name, own if budgets else {"gflops": NO_LIMIT_GFLOPS}))
    parameters = ArchitectureParameters(space.num_choices, len(problems), offset_decay=0.02)
    strategy = make_strategy(
        {part: {"name": name} for part, name in PRESETS["pool"].items()},
        remedies={},
        supernet=space.supernet().to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        logits=parameters,
        task=Classification(),
        state=SearchState(problems, [p.start()[0] for p in problems]),
        warmup_steps=0,
        generator=np.random.default_rng(0),
        ranks=Ranks(),
    )
    module = SearchModule(
        strategy.relaxation.searched,
        strategy,
        schedule=Schedule(10**9, 0.0, arch_every, 0, 0.5, 0.9),
        optimizer=SGD,
        learning_rate=partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0),
        arch_optimizer=partial(torch.optim.Adam, lr=0.03, betas=(0.5, 0.999)),
        clip_norm=5.0,
        computed=Computed(torch.get_num_threads(), [], [running_code()]),
    )
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", devices=1, barebones=True)
    trainer.fit(module, DataLoader([batches], batch_size=None))  # type: ignore[arg-type]
    return module


def training_step(network: nn.Module, forward: Callable[[], Tensor], labels: Tensor) -> Step:
    """A function that runs one plain SGD step of `network` on the logits of `forward`."""
    optimizer = SGD(network.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(forward(), labels).backward()
        optimizer.step()

    return step


def rounds(steps: Mapping[str, Step], num_rounds: int, *, repeats: Mapping[str, int] | None = None) -> dict[str, Array]:
    """Seconds (R,) of each step, all of them in turn in every round; the mean of `repeats` where one is given."""
    for step in steps.values():
        step()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(num_rounds):
        for name, step in steps.items():
            times = (repeats or {}).get(name, 1)
            started = time.perf_counter()
            for _ in range(times):
                step()
            taken[name].append((time.perf_counter() - started) / times)
    return {name: np.array(seconds) for name, seconds in taken.items()}


def show(name: str, seconds_R: Array, reference_R: Array | None = None, asked: str = "") -> None:
    """One line: median and quartiles in ms, and of the ratio of each round to the reference in the same round."""
    low, median, high = np.percentile(1e3 * seconds_R, [25, 50, 75])
    line = f"  {name:58s} {median:9.1f} [{low:8.1f}, {high:8.1f}]"
    if reference_R is not None:
        low, median, high = np.percentile(seconds_R / reference_R, [25, 50, 75])
        line += f" {median:8.3f} [{low:6.3f}, {high:6.3f}]"
    print(f"{line}  {asked}".rstrip(), flush=True)


def against_largest(table: CostTable, batches: tuple[Batch, Batch], num_rounds: int) -> None:
    """Prints steps of the supernet and the expected costs, beside the largest stand-alone network.

    The architecture step runs at the largest resolution, whatever it draws: a smaller one would flatter it.
    """
    module = search(
        tier_table(mobile_space(resolutions=table.space.deploy_shape[1:2])), batches, arch_every=1, budgets=False
    )
    space, supernet = module.state.table.space, module.supernet
    path = largest_path(module.state.table.rules)
    alone = space.network(space.choices(path)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = batches[0]
    logits_N = torch.zeros(table.space.num_choices, requires_grad=True)
    sizes = [len(decision.choices) for decision in table.space.decisions]

    def expected_costs() -> None:
        weights_N = torch.cat([block.softmax(0) for block in logits_N.split(sizes)])
        table.expected(weights_N).sum().backward()

    turns = count()
    arch, hard = "supernet, architecture step (straight-through, frozen)", "supernet, weights step, largest network"
    largest, costs = "largest network by itself", f"expected costs, {len(table.devices)} devices, all metrics"
    taken = rounds(
        {
            largest: training_step(alone, lambda: alone(images), labels),
            hard: training_step(supernet, lambda: supernet(images, space.selection(path)), labels),
            arch: lambda: module._architecture_step(batches, next(turns) % len(table.devices)),
            costs: expected_costs,
        },
        num_rounds,
        repeats={arch: len(table.devices), costs: 5},
    )
    print(f"\nstep of the supernet, ms: median [quartiles], n = {num_rounds}; ratio to the largest network by itself")
    for name, asked in ((largest, ""), (hard, f"asked <= {ASKED_SUPERNET}"), (arch, f"asked <= {ASKED_SUPERNET}")):
        show(name, taken[name], taken[largest], asked)
    show(f"{costs}; ratio to a weights step", taken[costs], taken[hard], f"asked < {ASKED_COSTS}")
    show(f"{costs}; to an architecture step", taken[costs], taken[arch], f"asked < {ASKED_COSTS}")


def against_cells(batch_size: int, num_rounds: int) -> None:
    """Prints a step of cells sampled in their supernet beside the same cells' own networks."""
    content = yaml.safe_load((CONF / "space" / "nasbench201.yaml").read_text(encoding="utf-8"))
    space = make_space(content | {"num_cells": 1}, num_classes=NUM_CLASSES, channels=3, image_size=(32, 32))
    supernet, (images, labels) = space.supernet(), random_batch(batch_size, 32, seed=0)
    generator = np.random.default_rng(0)
    ratios, name = [], "sampled cell over its own network, 1 cell a stage"
    for _ in range(NUM_DRAWN):
        indices = [int(generator.integers(len(decision.choices))) for decision in space.decisions]
        alone = space.network(space.choices(indices))
        taken = rounds(
            {
                "alone": training_step(alone, partial(alone, images), labels),
                "sampled": training_step(supernet, partial(supernet, images, space.selection(indices)), labels),
            },
            num_rounds,
        )
        ratios.append(float(np.median(taken["sampled"] / taken["alone"])))
    low, median, high = np.percentile(ratios, [0, 50, 100])
    print(f"\n{name}: median {median:.3f} of {NUM_DRAWN} cells [{low:.3f}, {high:.3f}]  asked <= {ASKED_CELL}")


def against_agreement(table: CostTable, batches: tuple[Batch, Batch], num_rounds: int) -> None:
    """Prints what the agreement of logits with drawn losses costs, beside the steps between two prunings."""
    module = search(table, batches, arch_every=4, budgets=True)
    state, step = module.state, step_of(module, batches)
    generator = np.random.default_rng(0)
    for draw in range(DRAWS):
        indices = [int(generator.integers(len(decision.choices))) for decision in table.space.decisions]
        state.drawn.add(draw % len(table.devices), table.space.selection(indices), generator.random())
    places = {d.name: int(first) for d, first in zip(table.space.decisions, table.first_choice[:-1], strict=True)}
    taken = rounds(
        {"step": step, "agreement": lambda: state.drawn.agreement(state.utilities, places)},
        num_rounds,
        repeats={"step": STEPS_PER_ROUND},
    )
    share = float(np.median(taken["agreement"] / taken["step"])) / STEPS_BETWEEN_PRUNINGS
    name = f"agreement with {DRAWS} draws over {STEPS_BETWEEN_PRUNINGS} steps"
    print(f"{name}: {share:.2%}  asked <= {ASKED_AGREEMENT:.0%}", flush=True)


def against_nni(
    table: CostTable, batches: tuple[Batch, Batch], macs: int, num_rounds: int, *, batch_size: int, image_size: int
) -> None:
    """Prints Espalier's steps and memory beside those of nni's DARTS on both hub families."""
    ours = {
        f"espalier, arch_every={every}, {'tier budgets' if budgets else 'no budgets'}": step_of(
            search(table, batches, arch_every=every, budgets=budgets), batches
        )
        for every, budgets in ((2, True), (2, False), (1, False))
    }
    theirs: dict[str, Step] = {}
    print(f"\nmultiply-adds of the largest network at {image_size} px: espalier mobile {macs / 1e6:.1f} M", end="")
    for family in FAMILIES:
        with torch.device("meta"):  # shapes alone tell the count
            width = width_for_macs(family, macs, image_size=image_size, num_classes=NUM_CLASSES)
            found = largest_macs(hub_space(family, num_classes=NUM_CLASSES, width_mult=width), image_size=image_size)
        print(f", nni {family} {found / 1e6:.1f} M ({found / macs - 1:+.1%}, width {width:g})", end="", flush=True)
        settings = {"image_size": image_size, "num_classes": NUM_CLASSES, "batch_size": batch_size}
        theirs[f"nni DARTS, {family}"] = nni_darts_step(family, width_mult=width, **settings)
    print()
    taken = rounds({**ours, **theirs}, num_rounds, repeats=dict.fromkeys(ours, STEPS_PER_ROUND))
    print(f"one step, ms: median [quartiles], n = {num_rounds} (espalier: of means over {STEPS_PER_ROUND} steps)")
    for name in taken:
        show(name, taken[name])
    memory = {name: max(saved_activation_mb(step) for _ in range(STEPS_PER_ROUND)) for name, step in ours.items()}
    memory |= {name: saved_activation_mb(step) for name, step in theirs.items()}
    memory["espalier, warm-up step on the largest network"] = largest_network_mb(table, batches[0])
    print(f"memory held for backward, MB, the largest of {STEPS_PER_ROUND} steps (nni: 1)")
    for name, held in memory.items():
        print(f"  {name:58s} {held:9.1f}")
    for other in theirs:
        print(f"{other} over espalier: time (asked >= {ASKED_SPEED:g}); memory of espalier over nni's (asked <= 1/3)")
        for name in ours:
            low, median, high = np.percentile(taken[other] / taken[name], [25, 50, 75])
            print(f"  {name:58s} {median:6.2f} [{low:5.2f}, {high:5.2f}]; {memory[name] / memory[other]:6.3f}")


def step_of(module: SearchModule, batches: tuple[Batch, Batch]) -> Step:
    indices = count(1)
    return lambda: module.training_step(batches, next(indices))


def largest_network_mb(table: CostTable, batch: Batch) -> float:
    """Memory that the largest network through the supernet holds for backward: the peak of a search's warm-up."""
    supernet = table.space.supernet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    selection = table.space.selection(largest_path(table.rules))
    return saved_activation_mb(training_step(supernet, lambda: supernet(batch[0], selection), batch[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--image", type=int, default=64, help="pixels along one side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # Lightning's advice about the bare loop asked for here
    batches = (
        random_batch(arguments.batch, arguments.image, seed=0),
        random_batch(arguments.batch, arguments.image, seed=1),
    )
    space = mobile_space()
    table = tier_table(space)
    largest = space.network(space.choices(largest_path(table.rules)))
    macs = round(1e9 * recount(largest, (3, arguments.image, arguments.image)).gflops)
    print(header(lightning=pl.__version__, nni="3.0"))
    print(f"batch {arguments.batch}, {arguments.image} px, {arguments.threads} threads, SGD with momentum throughout")
    against_largest(table, batches, arguments.rounds)
    against_cells(arguments.batch, arguments.rounds)
    against_agreement(table, batches, arguments.rounds)
    sizes = {"batch_size": arguments.batch, "image_size": arguments.image}
    against_nni(table, batches, macs, arguments.rounds, **sizes)


if __name__ == "__main__":
    main()
