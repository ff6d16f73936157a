"""How well each constraint finds the best network within a budget, where nothing else can go wrong: on tables alone.

    python tests/benchmarks/constraints_on_tables.py --data ../data [--seeds 8] [--only pool,alm] [--noise 0.5]

The logits of NAS-Bench-201 are trained on the exact expected accuracy of the benchmark's table plus noise on its
gradient, with Espalier's own constraints: no supernet, no weights. Three devices, budgets at the 10, 25, 50 and 75 %
quantiles of all cells' latency, Adam. Every method ends in the same exact choice, the feasible network of the largest
sum of log-probabilities; so differences are the search's. A latency is a constant plus a price of each edge's
operation, fitted to the measured ones (`--costs edges`); or that of Espalier's profiles, which price no dead edge
(`--costs live`).

"regret" is the accuracy of the best feasible network less that of the chosen one, in points. "over" is the share of
runs whose most probable network, before that choice, exceeds the budget, "landing" where its latency lies from it.
"""

import argparse
import csv
import gzip
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scipy.optimize import nnls
from selection import CONF, header
from torch import Tensor

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import Array, CostTable, Indices
from hardware_models.profile import HardwareProfile, load_profile, profile_from_dict
from search_spaces.nasbench201.space import NasBench201Space
from search_spaces.operation import Operation
from search_spaces.space import Site
from trainers.search.constraints.constraint import CONSTRAINTS
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import LEAST_PROBABILITY, SearchState

# Shapes: S networks, n decisions, N choices of all decisions.

DEVICES = {"edges": ("pixel2", "raspi4", "samsung_a50"), "live": ("nb201_pixel3", "nb201_raspi4", "nb201_samsung_a50")}
PRICED = {"skip_connect": "add", "avg_pool_3x3": "avg_pool", "nor_conv_1x1": "conv1", "nor_conv_3x3": "conv3"}
QUANTILES = (0.10, 0.25, 0.50, 0.75)
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "pool": ("pool", {}),
    "connas": ("connas", {}),
    "hinge 1": ("hinge", {}),
    "abs 1": ("abs", {"strength": 1.0}),
    "alm 1": ("alm", {"rho": 1.0}),
    "alm 3": ("alm", {"rho": 3.0}),
    "dual .05": ("dual", {"step_size": 0.05}),
    "penalty .3": ("penalty", {"strength": 0.3}),
    "penalty 1": ("penalty", {"strength": 1.0}),
    "none": ("none", {}),
    "projection": ("projection", {}),
}
ASKED = {"mean": 0.5, "p90": 1.0}  # of the pool's regret


@dataclass(frozen=True)
class Board:
    """The table: networks (S, n) of the space, accuracies (S,) in percent, and measured latencies (S,) by device."""

    space: NasBench201Space
    networks: Indices
    accuracy: Array
    latencies: dict[str, Array]

    @property
    def utility(self) -> Tensor:
        """Accuracy in standard deviations, one axis a decision."""
        sizes = [len(decision.choices) for decision in self.space.decisions]
        return torch.from_numpy((self.accuracy - self.accuracy.mean()) / self.accuracy.std()).reshape(sizes)


class EdgeSpace(NasBench201Space):
    """The space with a site for each edge, which runs its operation whether or not the edge is live."""

    def __init__(self) -> None:
        super().__init__()
        frame = Site("frame", (), lambda choices: [Operation("linear", (64, 1, 1), (10, 1, 1))])
        self.sites = (frame, *(Site(d.name, (d.name,), self._edge) for d in self.decisions))

    def _edge(self, choices: Mapping[str, Any]) -> list[Operation]:
        shape = self.stage_shape(0)
        records = {
            "add": Operation("add", shape, shape),
            "avg_pool": Operation("avg_pool", shape, shape, kernel=3),
            "conv1": Operation("conv", shape, shape),
            "conv3": Operation("conv", shape, shape, kernel=3),
        }
        return [records[PRICED[str(name)]] for name in choices.values() if name in PRICED]


def read_board(folder: Path, data_set: str, costs: str) -> Board:
    space = EdgeSpace() if costs == "edges" else NasBench201Space()
    with gzip.open(folder / "benchmarks" / "nb201.csv.gz", "rt", encoding="utf-8") as file:
        by_cell = {row["arch_str"]: row for row in csv.DictReader(file)}
    networks = np.array(list(product(*(range(len(d.choices)) for d in space.decisions))))
    rows = [by_cell[space.notation(space.choices(network))] for network in networks]
    accuracy = np.array([float(row[f"test_acc_{data_set}"]) for row in rows])
    latencies = {d: np.array([float(row[f"lat_ms_{d}"]) for row in rows]) for d in DEVICES["edges"]}
    return Board(space, networks, accuracy, latencies)


def fitted_profile(board: Board, device: str) -> HardwareProfile:
    """A constant and a price of each operation on any edge, none negative, fitted to the measured latencies."""
    names = list(PRICED)
    of_name = [board.space.edge_operations.index(name) for name in names]
    counts_SP = np.stack([(board.networks == k).sum(axis=1) for k in of_name] + [np.ones(len(board.networks))], axis=1)
    prices, _ = nnls(counts_SP.astype(float), board.latencies[device])
    matches = [{"kind": "add"}, {"kind": "avg_pool"}, {"kind": "conv", "kernel": 1}, {"kind": "conv", "kernel": 3}]
    terms = [{"match": match, "ms": float(ms)} for match, ms in zip(matches, prices[:-1], strict=True)]
    latency = {
        "model": "additive",
        "constant_ms": float(prices[-1]),
        "in_constant": [{"kind": "linear"}],
        "terms": terms,
    }
    content = yaml.safe_load((CONF / "hardware" / "nb201_raspi4.yaml").read_text(encoding="utf-8"))
    return profile_from_dict(device, content | {"latency": latency | {"terms": terms}, "title": device})


def problems(board: Board, costs: str) -> Iterator[tuple[BudgetProblem, Array]]:
    """The problem and the latencies (S,) of each device and budget."""
    for device in DEVICES[costs]:
        fitted = costs == "edges"
        profile = fitted_profile(board, device) if fitted else load_profile(CONF / "hardware" / f"{device}.yaml")
        table = CostTable(board.space, [profile])
        latency_S = table.of(board.networks, 0)[:, 0]
        for quantile in QUANTILES:
            limits = {"latency_ms": float(np.quantile(latency_S, quantile)) * (1 + 1e-9)}
            yield BudgetProblem(table, table.device_names[0], limits, margin="point"), latency_S


def search(
    board: Board, problem: BudgetProblem, make: Callable[..., Any], *, seed: int, steps: int, noise: float, lr: float
) -> Array:
    """Log-probabilities (N,) after a search on the expected utility, its gradient disturbed by `noise` of its size."""
    state = SearchState([problem], [problem.start()[0]], steps=steps)
    logits = ArchitectureParameters(board.space.num_choices, 1, offset_decay=0.0)
    constraint, random = make(state, logits, np.random.default_rng(seed)), torch.Generator().manual_seed(seed)
    optimizer, utility = torch.optim.Adam(logits.parameters(), lr=lr, betas=(0.5, 0.999)), board.utility
    sizes = [len(decision.choices) for decision in board.space.decisions]
    for step in range(steps):
        state.step = step
        constraint.draw(0)  # it may renew what the probabilities come from
        p_N = constraint.probabilities(0)
        at_N = p_N.detach().double().requires_grad_()
        expected = utility
        for p_C in reversed(at_N.split(sizes)):
            expected = expected @ p_C
        expected.backward()  # type: ignore[no-untyped-call]
        assert at_N.grad is not None
        # Of differences between the choices of a decision: what they share moves no logit.
        centred_N = torch.cat([slope_C - slope_C.mean() for slope_C in at_N.grad.split(sizes)])
        size = noise * centred_N.square().mean().sqrt()
        slope_N = at_N.grad + size * torch.randn(len(at_N), generator=random, dtype=torch.float64)
        optimizer.zero_grad(set_to_none=True)
        (-(slope_N.float() @ p_N) + constraint.penalty(0, p_N)).backward()
        constraint.modify_gradient(0)
        optimizer.step()
    with torch.no_grad():
        logs_N: Array = constraint.probabilities(0).double().clamp(min=LEAST_PROBABILITY).log().numpy()
    return logs_N


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds benchmarks/nb201.csv.gz")
    parser.add_argument("--data-set", default="cifar100", choices=("cifar10", "cifar100", "imagenet16_120"))
    parser.add_argument("--costs", default="edges", choices=tuple(DEVICES))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--noise", type=float, default=0.5)
    parser.add_argument("--lr", type=float, default=0.08)
    parser.add_argument("--only", default=",".join(METHODS), help="methods, as pool,connas")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    board = read_board(arguments.data, arguments.data_set, arguments.costs)
    print(header())
    devices = ", ".join(DEVICES[arguments.costs])
    print(f"{arguments.data_set}; {devices} x {len(QUANTILES)} budgets x {arguments.seeds} seeds")
    print(
        f"{arguments.steps} steps of Adam at {arguments.lr:g}, noise {arguments.noise:.0%}, costs of {arguments.costs}"
    )
    print(f"{'':12}{'regret':>8}{'se':>7}{'p90':>7}{'worst':>7}{'over':>7}{'landing':>10} [5 %, 95 %]{'CPU-s':>9}")
    settings = {key: getattr(arguments, key) for key in ("steps", "noise", "lr")}
    tasks = list(problems(board, arguments.costs))
    for method in arguments.only.split(","):
        name, given = METHODS[method]
        regrets, landings, started = [], [], time.process_time()
        for problem, latency_S in tasks:
            feasible_S = problem.is_feasible(board.networks)
            best = board.accuracy[feasible_S].max()
            for seed in range(arguments.seeds):
                make = lambda *parts, name=name, given=given: CONSTRAINTS[name](*parts, **given)  # noqa: E731
                logs_N = search(board, problem, make, seed=seed, **settings)
                score_S = logs_N[board.networks + problem.table.first_choice[:-1]].sum(axis=1)
                chosen = np.where(feasible_S, score_S, -np.inf).argmax()
                regrets.append(best - board.accuracy[chosen])
                landings.append(latency_S[score_S.argmax()] / problem.limits["latency_ms"] - 1)
        low, high = np.percentile(landings, [5, 95])
        print(
            f"{method:12}{np.mean(regrets):8.2f}{np.std(regrets, ddof=1) / len(regrets) ** 0.5:7.2f}"
            f"{np.percentile(regrets, 90):7.2f}{max(regrets):7.2f}{np.mean(np.array(landings) > 1e-9):7.0%}"
            f"{np.mean(landings):+10.0%} [{low:+.0%}, {high:+.0%}]{time.process_time() - started:12.0f}",
            flush=True,
        )
    print(f"asked of the pool: regret at most {ASKED['mean']:g}, p90 at most {ASKED['p90']:g}")


if __name__ == "__main__":
    main()
