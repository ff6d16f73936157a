"""Do budgets hold? Coverage of the conformal bound, and measure-and-cut, on six unseen devices of NAS-Bench-201.

    python tests/benchmarks/budgets_hold.py [--splits 100] [--seeds 40]

Cells are those with three operations or more that are all executed: what is deployed. Each device is fitted to ten
designed measurements with the prior of thirteen others (see few_measurements.py), as an additive profile; 39 more cells
set its bound.

Coverage: 39 random cells set the factor, all others are tested; mean over splits.
Measure-and-cut is the search's own loop (`verify_and_cut`) on the space's cost table, with the benchmark's time in
place of a measurement. The search knows the accuracy of every cell (CIFAR-100, 200 epochs) and takes the best that is
within a budget.
Regret is the accuracy of the best cell truly within the budget less that of the one taken, in points. Reads the data
folder at $ESPALIER_DATA, or `shared/data` beside the repository.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import yaml
from few_measurements import NB201_SOURCES, NB201_UNSEEN
from fit_cell_profiles import EDGES, cell_counts, live_edges, nb201_network
from fit_profiles import CONF, rows
from learned_prior import learn_prior

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.calibration.additive_fit import additive_amounts, additive_model
from hardware_models.calibration.device_prior import choose_measurements, fit_device
from hardware_models.calibration.fitting import conformal_factor, error_figures
from hardware_models.measuring.measure import Measurement
from hardware_models.profile import HardwareProfile, Margin, profile_from_dict
from search_spaces.architecture import SPACES
from search_spaces.space import SearchSpace
from trainers.deploy.standalone import Score
from trainers.search.candidates import Candidate
from trainers.search.certificate import Certificate, hold, verify_and_cut

LEVELS = (0.9, 0.95)
NUM_MEASURED, NUM_BOUND = 10, 39  # 39: (n + 1) times either level is a whole number
NUM_KNOWN = 900
BUDGET_QUANTILES = (0.2, 0.4, 0.6)
MAX_CUTS = 30  # as conf/trainer/cpu.yaml
UNTRAINED = Score(float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class Cells:
    """N cells: their places in the space (N, n), additive amounts (N, P), accuracies in percent, times in ms."""

    indices_Nn: np.ndarray
    x_NP: np.ndarray
    accuracy_N: np.ndarray
    times: dict[str, np.ndarray]


@dataclass(frozen=True)
class Device:
    """One fitted device: its profile with a bound at 90 %, times (N,) measured and predicted, the cells of the fit."""

    profile: HardwareProfile
    table: CostTable
    measured_N: np.ndarray
    predicted_N: np.ndarray
    fitted: np.ndarray


@dataclass(frozen=True)
class Taken:
    """What a search under one budget ended with."""

    cell: int
    measurements: int
    within: bool


@cache
def space() -> SearchSpace:
    spec = yaml.safe_load((CONF.parent / "space" / "nasbench201.yaml").read_text(encoding="utf-8"))
    return SPACES[spec.pop("name")](**spec, num_classes=10)


@cache
def cells() -> Cells:
    table = [row for row in rows("benchmarks/nb201.csv.gz") if _all_executed(row)]
    decisions = {decision.name: decision for decision in space().decisions}
    indices = [[decisions[f"edge{s}{t}"].index(row[edge]) for edge, s, t in sorted(EDGES, key=_order)] for row in table]
    devices = [*NB201_SOURCES, *NB201_UNSEEN]
    return Cells(
        np.array(indices),
        additive_amounts([nb201_network(*cell_counts(live_edges(row))) for row in table]),
        np.array([float(row["test_acc_cifar100"]) for row in table]),
        {device: np.array([float(row[f"lat_ms_{device}"]) for row in table]) for device in devices},
    )


def _order(edge: tuple[str, int, int]) -> int:
    return [decision.name for decision in space().decisions].index(f"edge{edge[1]}{edge[2]}")


def _all_executed(row: dict[str, str]) -> bool:
    live = live_edges(row)
    return len(live) >= 3 and len(live) == sum(row[edge] != "none" for edge, _, _ in EDGES)


def fitted_devices(*, seed: int) -> list[Device]:
    """The unseen devices, each fitted to ten measurements and bounded by 39 more."""
    generator = np.random.default_rng(seed)
    known = generator.choice(len(cells().x_NP), NUM_KNOWN, replace=False)
    x_KP = cells().x_NP[known]
    sources = [(x_KP, cells().times[source][known]) for source in NB201_SOURCES]
    prior = learn_prior(sources, structure_PK=np.diag(1 / x_KP.mean(axis=0)))
    fitted = known[choose_measurements(prior, x_KP, NUM_MEASURED)]
    held = generator.choice(np.setdiff1d(np.arange(len(cells().x_NP)), fitted), NUM_BOUND, replace=False)
    devices = []
    for name in NB201_UNSEEN:
        measured_N = cells().times[name]
        fit = fit_device(prior, cells().x_NP[fitted], measured_N[fitted], nonnegative=True)
        predicted_N = fit.predict_ms(cells().x_NP)
        profile = _profile(name, fit.mean_P, predicted_N[held], measured_N[held])
        devices.append(Device(profile, CostTable(space(), [profile]), measured_N, predicted_N, fitted))
    return devices


def _profile(name: str, coefficients_P: np.ndarray, predicted_N: np.ndarray, measured_N: np.ndarray) -> HardwareProfile:
    """The additive profile of a device; `predicted_N` and `measured_N` are the cells that set its bound."""
    description = {"title": name, "runtime": "not stated", "threads": None, "precision": "fp32", "budgets": {}}
    origin = {"source": "HELP's table of NAS-Bench-201", "measured": [], "inferred": []}
    error = {"method": "the cells that set the bound", **error_figures(predicted_N, measured_N)}
    factor = conformal_factor(predicted_N, measured_N, level=LEVELS[0])
    bound = {"level": LEVELS[0], "n": len(measured_N), "factor": factor}
    latency = additive_model(coefficients_P).model_dump(mode="json")
    return profile_from_dict(name, {**description, **origin, "latency": latency, "error": error, "bound": bound})


def coverage(device: Device, *, level: float, splits: int) -> tuple[float, float]:
    """Mean share of cells within the bound, and mean factor, over random splits."""
    generator = np.random.default_rng(0)
    others = np.setdiff1d(np.arange(len(device.measured_N)), device.fitted)
    shares, factors = [], []
    for _ in range(splits):
        order = generator.permutation(others)
        held, tested = order[:NUM_BOUND], order[NUM_BOUND:]
        factor = conformal_factor(device.predicted_N[held], device.measured_N[held], level=level)
        shares.append(float((device.measured_N[tested] <= factor * device.predicted_N[tested]).mean()))
        factors.append(factor)
    return float(np.mean(shares)), float(np.mean(factors))


def unmeasured(device: Device, budget_ms: float, margin: Margin) -> Taken:
    """The most accurate cell whose bound, or estimate, is within the budget, never measured."""
    best = _best(_problem(device, budget_ms, margin))
    assert best is not None
    return Taken(best, 0, bool(device.measured_N[best] <= budget_ms))


def measure_and_cut(device: Device, budget_ms: float, margin: Margin) -> Taken:
    """What the search's loop ends with when every candidate is measured."""
    problem = _problem(device, budget_ms, margin)
    place = {tuple(map(int, row)): i for i, row in enumerate(cells().indices_Nn)}

    def candidate(problem: BudgetProblem, refuted: Sequence[tuple[int, ...]]) -> Candidate | None:
        tried = [place[indices] for indices in refuted]
        best = _best(problem, tried)
        if best is None:  # as the search does
            best = int(np.argmin(device.predicted_N))
        return None if best in tried else Candidate(tuple(map(int, cells().indices_Nn[best])), 1.0, UNTRAINED)

    def prove(indices: tuple[int, ...]) -> Certificate:
        totals = problem.table.named(indices, 0)
        ms = float(device.measured_N[place[indices]])
        measured = Measurement(ms, ms, ms, 1, 1, "not stated", {}, device.profile.name)
        predicted, upper = (
            {metric: figure(metric, total) for metric, total in totals.items()}
            for figure in (device.profile.estimate, device.profile.upper)
        )
        held = hold(problem, totals, recounted={}, measured_ms=ms)
        return Certificate(predicted, upper, {}, measured, held, None)

    first = candidate(problem, [])
    assert first is not None
    verdict = verify_and_cut(problem, [first], prove, fallback=candidate, max_cuts=MAX_CUTS)
    return Taken(place[verdict.candidate.indices], len(verdict.refuted) + 1, verdict.met)


def _problem(device: Device, budget_ms: float, margin: Margin) -> BudgetProblem:
    return BudgetProblem(device.table, device.profile.name, {"latency_ms": budget_ms}, margin=margin)


def _best(problem: BudgetProblem, refuted: Sequence[int] = ()) -> int | None:
    feasible_N = problem.is_feasible(cells().indices_Nn)
    feasible_N[list(refuted)] = False
    return int(np.argmax(np.where(feasible_N, cells().accuracy_N, -np.inf))) if feasible_N.any() else None


WAYS = {
    "estimate": lambda device, budget_ms: unmeasured(device, budget_ms, "point"),
    "90 % bound": lambda device, budget_ms: unmeasured(device, budget_ms, "upper"),
    "cut, margin=upper": lambda device, budget_ms: measure_and_cut(device, budget_ms, "upper"),
    "cut, margin=point": lambda device, budget_ms: measure_and_cut(device, budget_ms, "point"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=40)
    arguments = parser.parse_args()
    _print_coverage(fitted_devices(seed=0), arguments.splits)
    _print_budgets(arguments.seeds)


def _print_coverage(devices: list[Device], splits: int) -> None:
    print(f"coverage of the bound, {NUM_BOUND} cells set it, mean over {splits} splits (mean factor)")
    for device in devices:
        figures = [(level, *coverage(device, level=level, splits=splits)) for level in LEVELS]
        shown = "   ".join(f"{level:.0%}: {share:6.1%} ({factor:.3f})" for level, share, factor in figures)
        print(f"{device.profile.name:14s} {shown}")


def _print_budgets(seeds: int) -> None:
    outcomes: dict[tuple[str, str], list[tuple[Taken, float]]] = {}
    for seed in range(seeds):
        for device in fitted_devices(seed=seed):
            for quantile in BUDGET_QUANTILES:
                budget_ms = float(np.quantile(device.measured_N, quantile))
                best = float(cells().accuracy_N[device.measured_N <= budget_ms].max())
                for way, take in WAYS.items():
                    taken = take(device, budget_ms)
                    regret = best - float(cells().accuracy_N[taken.cell])
                    outcomes.setdefault((way, device.profile.name), []).append((taken, regret))
    print(
        f"\nbudgets at the 20, 40, 60 % quantiles, {seeds} seeds: violated; measurements (mean, most); regret (points)"
    )
    print(f"{'device':14s}" + "".join(f"{way:>26s}" for way in WAYS))
    for name in NB201_UNSEEN:
        print(f"{name:14s}" + "".join(f"{_shown(outcomes[way, name]):>26s}" for way in WAYS))


def _shown(results: list[tuple[Taken, float]]) -> str:
    violated, regret = np.mean([not taken.within for taken, _ in results]), np.mean([regret for _, regret in results])
    counts = [taken.measurements for taken, _ in results]
    used = f" {np.mean(counts):.2f}, {max(counts)};" if max(counts) else ""
    return f"{violated:6.1%};{used} {regret:6.2f}"


if __name__ == "__main__":
    main()
