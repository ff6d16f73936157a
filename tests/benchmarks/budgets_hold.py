"""Do budgets hold? Coverage of the conformal bound, and measure-and-cut, on six unseen devices of NAS-Bench-201.

    python tests/benchmarks/budgets_hold.py [--splits 100] [--seeds 40]

Each device is fitted to ten designed measurements (see few_measurements.py); other networks set the bound. Networks are
those with at least three operations that the output depends on: a disconnected cell is no network to deploy.

Coverage: 39 random networks set the factor, all others are tested; mean over splits.
Measure-and-cut: the search is told the accuracy of every cell (CIFAR-100, 200 epochs) and takes the best within a
budget. Its network is measured. If it is over, the budget is tightened by the ratio and to what the bound allows; if
the next is over too, the best network measured for fit and bound that met the budget is taken. Regret is the accuracy
of the best network truly within the budget less that of the one taken, in points. Reads the data folder at
$ESPALIER_DATA, or `shared/data` beside the repository.
"""

import argparse
from dataclasses import dataclass, replace

import numpy as np
from few_measurements import NB201_SOURCES, NB201_UNSEEN, Benchmark, design, learned, nasbench201, predicted
from fit_profiles import rows

from hardware_models.calibration.fitting import conformal_factor

LEVELS = (0.9, 0.95)
NUM_BOUND = 39  # networks that set the bound: (n + 1) times either level is a whole number
BUDGET_QUANTILES = (0.2, 0.4, 0.6)
MAX_MEASUREMENTS = 2


@dataclass(frozen=True)
class Device:
    """One fitted device: measured and predicted times (N,) of the ordinary networks, and which were measured to fit."""

    name: str
    measured_N: np.ndarray
    predicted_N: np.ndarray
    fitted: np.ndarray


@dataclass(frozen=True)
class Taken:
    """What a search under one budget ended with."""

    network: int
    measurements: int
    within: bool


def fitted_devices(benchmark: Benchmark, *, seed: int) -> list[Device]:
    """The unseen devices, each fitted to ten measurements."""
    known = np.random.default_rng(seed).choice(len(benchmark.all_NP), 900, replace=False)
    prior = learned(benchmark, NB201_SOURCES, known)
    chosen = design(benchmark, prior, known)
    ordinary = np.flatnonzero(benchmark.ordinary_N)
    devices = []
    for name in NB201_UNSEEN:
        times = benchmark.times[name]
        predicted_N = predicted(benchmark, prior, chosen, times[chosen])
        fitted = np.flatnonzero(np.isin(ordinary, chosen))
        devices.append(Device(name, times[ordinary], predicted_N[ordinary], fitted))
    return devices


def coverage(device: Device, *, level: float, splits: int) -> tuple[float, float]:
    """Mean share of networks within the bound, and mean factor, over random splits."""
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


def point(device: Device, accuracy_N: np.ndarray, budget_ms: float) -> Taken:
    """The most accurate network predicted within the budget, never measured."""
    best = _best(accuracy_N, device.predicted_N <= budget_ms)
    return Taken(best, 0, bool(device.measured_N[best] <= budget_ms))


def at_bound(device: Device, accuracy_N: np.ndarray, budget_ms: float, factor: float) -> Taken:
    """The most accurate network whose upper bound is within the budget, never measured."""
    return point(replace(device, predicted_N=device.predicted_N * factor), accuracy_N, budget_ms)


def measure_and_cut(
    device: Device, accuracy_N: np.ndarray, budget_ms: float, factor: float, measured: np.ndarray
) -> Taken:
    """A network that was measured: the first candidate, a safer one if it is over, else the best `measured` before."""
    limit_ms, allowed_N = budget_ms, np.ones(len(accuracy_N), dtype=bool)
    for count in range(1, MAX_MEASUREMENTS + 1):
        feasible_N = allowed_N & (device.predicted_N <= limit_ms)
        if not feasible_N.any():
            break
        best = _best(accuracy_N, feasible_N)
        if device.measured_N[best] <= budget_ms:
            return Taken(best, count, True)
        allowed_N[best] = False
        limit_ms = min(limit_ms * budget_ms / device.measured_N[best], budget_ms / factor)
    met = measured[device.measured_N[measured] <= budget_ms]
    best = int(met[np.argmax(accuracy_N[met])])
    return Taken(best, count, bool(device.measured_N[best] <= budget_ms))


def _best(accuracy_N: np.ndarray, feasible_N: np.ndarray) -> int:
    return int(np.argmax(np.where(feasible_N, accuracy_N, -np.inf)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=40)
    arguments = parser.parse_args()
    benchmark = nasbench201()
    accuracy = np.array([float(row["test_acc_cifar100"]) for row in rows("benchmarks/nb201.csv.gz")])
    _print_coverage(fitted_devices(benchmark, seed=0), arguments.splits)
    _print_budgets(benchmark, accuracy[benchmark.ordinary_N], arguments.seeds)


def _print_coverage(devices: list[Device], splits: int) -> None:
    print(f"coverage of the bound, {NUM_BOUND} networks set it, mean over {splits} splits (mean factor)")
    for device in devices:
        shown = []
        for level in LEVELS:
            share, factor = coverage(device, level=level, splits=splits)
            shown.append(f"{level:.0%}: {share:6.1%} ({factor:.3f})")
        print(f"{device.name:14s} {'   '.join(shown)}")


def _print_budgets(benchmark: Benchmark, accuracy_N: np.ndarray, seeds: int) -> None:
    outcomes: dict[tuple[str, str], list[tuple[Taken, float]]] = {}
    for seed in range(seeds):
        generator = np.random.default_rng([seed, 1])
        for device in fitted_devices(benchmark, seed=seed):
            held = generator.choice(len(accuracy_N), NUM_BOUND, replace=False)
            factor = conformal_factor(device.predicted_N[held], device.measured_N[held], level=LEVELS[0])
            measured = np.concatenate([held, device.fitted])
            for quantile in BUDGET_QUANTILES:
                budget_ms = float(np.quantile(device.measured_N, quantile))
                best = float(accuracy_N[device.measured_N <= budget_ms].max())
                for name, taken in (
                    ("point", point(device, accuracy_N, budget_ms)),
                    ("bound", at_bound(device, accuracy_N, budget_ms, factor)),
                    ("measured", measure_and_cut(device, accuracy_N, budget_ms, factor, measured)),
                ):
                    regret = best - float(accuracy_N[taken.network])
                    outcomes.setdefault((name, device.name), []).append((taken, regret))
    print(
        f"\nbudgets at the 20, 40, 60 % quantiles, {seeds} seeds: violated; measurements mean, most; regret in points"
    )
    print(f"{'device':14s} {'point':>18s} {'90 % bound':>18s} {'measure-and-cut':>30s}")
    for name in NB201_UNSEEN:
        cells = []
        for way in ("point", "bound", "measured"):
            results = outcomes[way, name]
            violated, regret = np.mean([not t.within for t, _ in results]), np.mean([r for _, r in results])
            counts = [t.measurements for t, _ in results]
            used = f" {np.mean(counts):.2f}, {max(counts)}" if max(counts) else ""
            cells.append(f"{violated:6.1%};{used} {regret:6.2f}")
        print(f"{name:14s} {cells[0]:>18s} {cells[1]:>18s} {cells[2]:>30s}")


if __name__ == "__main__":
    main()
