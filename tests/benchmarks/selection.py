"""How long deciding takes on the `mobile` space: feasibility, exact selection, pruning, a pool of feasible networks.

    python tests/benchmarks/selection.py [--vectors 8]

Each tier profile gets its own latency and GFLOPs budgets and a third, which binds; then three that all bind.
Asked: feasibility with exact selection in under 10 s, a pool of 4,096 networks in under 2 s. Every optimum is proven by
HiGHS (the largest gap of all solves is printed) and compared with the best network of a pool drawn to the same scores.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
import yaml

from hardware_models.budgets import exact
from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array, CostTable, Indices
from hardware_models.infeasible import BudgetInfeasibleError
from hardware_models.measuring.measure import machine_description, versions
from hardware_models.profile import load_profile
from search_spaces.architecture import make_space
from search_spaces.space import SearchSpace

# Shapes: S networks, n decisions, N choices of all decisions.

CONF = Path(__file__).resolve().parents[2] / "conf"
ASKED_SELECT_S, ASKED_POOL_S = 10.0, 2.0
POOL_SIZE, POOL_SWEEPS = 4096, 2
PRUNE_EVENTS = 8  # as conf/trainer/cpu.yaml
RISE = 3.0  # of half of the score vectors from a decision's first choice to its last: training favours large networks
SHARPNESS, EXTRA_SWEEPS = 8.0, 6  # of the pool compared with the optimum
BUDGETS: dict[str, tuple[dict[str, float], ...]] = {  # on top of each profile's own latency_ms and gflops
    "flagship_phone": (
        {"params_m": 10},
        {"peak_memory_mb": 50},
        {"latency_ms": 17, "gflops": 1.37, "peak_memory_mb": 50},
    ),
    "mid_tablet": ({"params_m": 4.5}, {"peak_memory_mb": 19}, {"gflops": 0.22, "params_m": 4.5}),
    "iot_terminal": ({"params_m": 4.5}, {"peak_memory_mb": 19}, {"gflops": 0.24, "peak_memory_mb": 19}),
}


class Duration(NamedTuple):
    """Seconds by the clock, and of this process's processors: the same on a quiet machine."""

    wall: float
    cpu: float


@dataclass
class Found:
    """Durations of everything decided for one set of budgets, and how good it was."""

    start: Duration
    refuse: Duration
    select: list[Duration]
    prune: list[Duration]
    pool: list[Duration]
    distinct: float  # share of a pool's networks
    shortfall: list[float]  # of the best pooled network's score below the optimum's, over the optimum's
    used: dict[str, list[float]]  # share of each budget that each optimum uses


def header(**more: str) -> str:
    """Machine, versions, settings and date: what every printed number belongs to."""
    settings = ", ".join(f"{name} {version}" for name, version in {**versions(), **more}.items())
    return f"{machine_description()}\n{settings}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def mobile_space(num_classes: int = 10, **changed: Sequence[int]) -> SearchSpace:
    """The space of conf/space/mobile.yaml for 224 px, with other choices where `changed` gives some."""
    content = yaml.safe_load((CONF / "space" / "mobile.yaml").read_text(encoding="utf-8")) | changed
    return make_space(content, num_classes=num_classes, channels=3, image_size=(224, 224))


def tier_table(space: SearchSpace) -> CostTable:
    """Costs of the space on the three tier profiles."""
    return CostTable(space, [load_profile(CONF / "hardware" / f"{name}.yaml") for name in BUDGETS])


def timed(call: Callable[[], Any]) -> tuple[Duration, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return Duration(time.perf_counter() - wall, time.process_time() - cpu), result


def score_vectors(space: SearchSpace, number: int) -> list[Array]:
    """Random scores (N,): half of them normal, half with larger choices favoured."""
    generator = np.random.default_rng(0)
    rise_N = np.concatenate([np.linspace(0, RISE, len(d.choices)) for d in space.decisions])
    return [generator.normal(size=space.num_choices) + (k % 2) * rise_N for k in range(number)]


def decide(table: CostTable, device: str, limits: Mapping[str, float], vectors: Sequence[Array]) -> Found:
    """Everything a search decides under these budgets, timed."""
    problem = BudgetProblem(table, device, limits)
    generator = np.random.default_rng(0)
    start, (survivors, _) = timed(problem.start)
    found = Found(
        start, refuse(table, device, limits), [], prune(problem, vectors[1]), [], 1.0, [], {m: [] for m in limits}
    )
    for scores_N in vectors:
        duration, best = timed(partial(problem.select, scores_N))
        found.select.append(duration)
        if best is None or not problem.is_feasible(np.array([best.indices]))[0]:
            raise AssertionError(f"{device}: no feasible optimum under {dict(limits)}")
        for metric, share in problem.utilisation(best.indices).items():
            found.used[metric].append(share)
        duration, networks_Sn = timed(partial(pool, problem, survivors, scores_N, generator))
        found.pool.append(duration)
        if not problem.is_feasible(networks_Sn).all():
            raise AssertionError(f"{device}: a pooled network breaks {dict(limits)}")
        found.distinct = min(found.distinct, len(np.unique(networks_Sn, axis=0)) / POOL_SIZE)
        chains = problem.chains(survivors.mask_N, generator)
        for _ in range(EXTRA_SWEEPS):
            networks_Sn = chains.sweep(networks_Sn, SHARPNESS * scores_N)
        totals_S = scores_N[networks_Sn + table.first_choice[:-1]].sum(axis=1)
        found.shortfall.append(float((best.value - totals_S.max()) / abs(best.value)))
    return found


def pool(problem: BudgetProblem, survivors: Survivors, logits_N: Array, generator: np.random.Generator) -> Indices:
    """Feasible networks (POOL_SIZE, n), made as the `pool` strategy makes them."""
    chains = problem.chains(survivors.mask_N, generator)
    networks_Sn = chains.start(logits_N, POOL_SIZE, np.array([survivors.incumbent]))
    for _ in range(POOL_SWEEPS):
        networks_Sn = chains.sweep(networks_Sn, logits_N)
    return networks_Sn


def refuse(table: CostTable, device: str, limits: Mapping[str, float]) -> Duration:
    """Time to refuse budgets of which the last is a tenth below what any network reaches."""
    metric = list(limits)[-1]
    smallest = BudgetProblem(table, device, limits).reachable()[metric]
    impossible = BudgetProblem(table, device, {**limits, metric: 0.9 * smallest})

    def is_refused() -> bool:
        try:
            impossible.start()
        except BudgetInfeasibleError:
            return True
        return False

    duration, refused = timed(is_refused)
    if not refused:
        raise AssertionError(f"{device}: {metric} <= {0.9 * smallest:g} was not refused")
    return duration


def prune(problem: BudgetProblem, scores_N: Array) -> list[Duration]:
    """Time of each event of a whole cubic schedule, the choice of the incumbent in it."""
    survivors, _ = problem.start()
    overshoot_M = problem.overshoot(survivors.mask_N)
    taken = []
    for event in range(1, PRUNE_EVENTS + 1):
        caps_M = 1 + np.maximum(overshoot_M - 1, 0) * (1 - event / PRUNE_EVENTS) ** 3
        duration, (survivors, _) = timed(partial(problem.prune, survivors, scores_N, caps_M))
        taken.append(duration)
    if (problem.overshoot(survivors.mask_N) > 1 + 1e-9).any():
        raise AssertionError(f"{problem.name}: a network over budget survived the last event")
    return taken


class ProvenGaps:
    """Passes programs on to HiGHS and keeps the gap it reports for each that has a solution."""

    def __init__(self) -> None:
        self.milp, self.gaps = exact.milp, list[float]()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.milp(*args, **kwargs)
        if result.x is not None:
            self.gaps.append(float(result.mip_gap))
        return result


def line(device: str, limits: Mapping[str, float], found: Found) -> str:
    def spread(taken: Sequence[Duration]) -> str:
        walls = [duration.wall for duration in taken]
        return f"{np.median(walls):5.2f} {max(walls):5.2f}"

    used = ", ".join(f"{m} {np.median(u):.0%} {max(u):.0%} of {limits[m]:g}" for m, u in found.used.items())
    best = np.mean(np.array(found.shortfall) < 1e-9)
    return (
        f"{device:15s} {found.start.wall:7.2f} {found.refuse.wall:7.2f}  {spread(found.select)}  "
        f"{spread(found.prune)}  {spread(found.pool)} {found.distinct:8.0%} {best:6.0%} "
        f"{max(found.shortfall):7.1%}   {used}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=8, help="random score vectors per set of budgets")
    number = max(2, parser.parse_args().vectors)
    space = mobile_space()
    compiled, table = timed(lambda: tier_table(space))
    print(header(numpy=np.__version__, scipy=scipy.__version__))
    decades = np.floor(np.sum(np.log10([len(d.choices) for d in space.decisions])))
    print(
        f"space {space.name}: {len(space.decisions)} decisions, 10^{decades:.0f} networks; cost table of 3 devices: "
        f"{table.offsets[-1]:,} entries in {len(table.factors)} factors, {compiled.wall:.2f} s"
    )
    print(f"seconds; select, prune and pool: median and maximum of n = {number}, {PRUNE_EVENTS} events, {number}")
    times = f"{'start':>7s} {'refuse':>7s}  {'select':>11s}  {'prune':>11s}  {'pool':>11s}"
    quality = f"{'distinct':>8s} {'=best':>6s} {'worst':>7s}"
    print(f"{'device':15s} {times} {quality}   use of each budget by the optima: median, maximum")
    exact.milp = proven = ProvenGaps()
    decided: list[Duration] = []
    pooled: list[Duration] = []
    for device, sets in BUDGETS.items():
        own = table.devices[table.device(device)].budgets
        for extra in sets:
            limits = {**own, **extra}
            found = decide(table, device, limits, score_vectors(space, number))
            print(line(device, limits, found), flush=True)
            decided += [Duration(found.start.wall + s.wall, found.start.cpu + s.cpu) for s in found.select]
            pooled += found.pool
    print("=best: share of optima that a pool drawn to the same scores reached too; worst: its largest shortfall")
    print("(one below zero would refute the optimum)")
    print(f"largest gap HiGHS left in {len(proven.gaps):,} programs: {max(proven.gaps):.1e}")
    for what, durations, asked in (
        ("feasibility and exact selection", decided, ASKED_SELECT_S),
        (f"pool of {POOL_SIZE:,} feasible networks", pooled, ASKED_POOL_S),
    ):
        wall, cpu = (max(column) for column in zip(*durations, strict=True))
        print(f"{what}: slowest {wall:.2f} s, {cpu:.2f} s of processor time; asked < {asked:g} s")


if __name__ == "__main__":
    main()
