"""Ten measurements of an unseen device, the rest predicted: HELP's protocol on NAS-Bench-201.

    python tests/benchmarks/few_measurements.py [--seeds 10]

Sources of the protocol and of the figures beside ours: HELP, arXiv:2106.08630, and the tables of its repository
(HayeonLee/HELP); BRP-NAS, arXiv:2007.08668, as HELP reports it. Thirteen source devices with 900
architectures, ten measured on the unseen device, Spearman over the others, the unseen device's latencies trimmed to
their 10-90 % range. Prices are fitted as `espalier-calibrate model=additive` fits them. Reads the data folder at
$ESPALIER_DATA, or `shared/data` beside the repository.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from fit_cell_profiles import EDGES
from fit_profiles import rows
from learned_prior import learn_prior
from scipy.stats import spearmanr

from hardware_models.calibration.additive_fit import halfway
from hardware_models.calibration.device_prior import (
    DEGREES_OF_FREEDOM,
    DeviceBelief,
    choose_measurements,
    fit_device,
)
from hardware_models.calibration.fitting import fit_nonnegative

NUM_KNOWN, NUM_MEASURED = 900, 10
# No measurement tells of dead code by chance: one device in about ten drops it.
DROPS_DEAD_CODE_ODDS = 0.1
DROPS_DEAD_CODE = 0.8

NB201_SOURCES = [
    *("1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "silver_4210r", "samsung_a50", "pixel3"),
    *("essential_ph_1", "samsung_s7", "titanx_1", "titanx_32", "titanx_256", "gold_6240"),
]
NB201_UNSEEN = ("titan_rtx_256", "gold_6226", "fpga", "pixel2", "raspi4", "eyeriss")
# Spearman and median error of each seed, by design and device.
Outcomes = dict[tuple[str, str], list[tuple[float, float]]]

HELP = dict(zip(NB201_UNSEEN, (0.987, 0.989, 0.985, 0.802, 0.890, 0.940), strict=True))
OPERATIONS = ("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@dataclass(frozen=True)
class Benchmark:
    """Features of N architectures, executed whole and without what nothing reads, and their times in ms by device."""

    all_NP: np.ndarray
    reached_NP: np.ndarray
    ordinary_N: np.ndarray
    times: dict[str, np.ndarray]
    structure_PK: np.ndarray


def log_evidence(prior: DeviceBelief, x_MP: np.ndarray, y_M: np.ndarray) -> float:
    """How well each measurement is predicted by the others, as a sum of Student-t log densities.

    It compares ways of counting features, such as operations with and without those whose output nothing reads.
    """
    total = 0.0
    for i in range(len(y_M)):
        others = np.arange(len(y_M)) != i
        fit = fit_device(prior, x_MP[others], y_M[others])
        deviation = float(fit.deviation_ms(x_MP[i : i + 1])[0])
        error = (y_M[i] - x_MP[i] @ fit.mean_P) / deviation
        total -= (DEGREES_OF_FREEDOM + 1) / 2 * np.log1p(error**2 / DEGREES_OF_FREEDOM) + np.log(deviation)
    return float(total)


def nasbench201() -> Benchmark:
    """A constant and counts of the four operations. Ordinary: at least three that the output depends on."""
    table = list(rows("benchmarks/nb201.csv.gz"))
    counts = [(_counts(_edges(row)), _counts(_reached(_edges(row)))) for row in table]
    all_NP, reached_NP = (np.array([pair[i] for pair in counts], dtype=float) for i in (0, 1))
    ordinary_N = reached_NP[:, 1:].sum(axis=1) >= 3
    return Benchmark(all_NP, reached_NP, ordinary_N, _times(table), _structure(all_NP, np.eye(all_NP.shape[1])))


def _structure(x_NP: np.ndarray, amounts_PK: np.ndarray) -> np.ndarray:
    """Ways in which devices may differ: each amount may take as long as a mean network, or nothing."""
    return amounts_PK / (x_NP.mean(axis=0) @ amounts_PK)


def _edges(row: dict[str, str]) -> list[tuple[int, int, str]]:
    return [(source, target, row[edge]) for edge, source, target in EDGES if row[edge] != "none"]


def _reached(edges: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Edges whose output the cell's output depends on. Those that read zeros count: runtimes execute them."""
    needed = {3}
    for source, target, _ in sorted(edges, key=lambda edge: -edge[1]):
        needed |= {source} if target in needed else set()
    return [edge for edge in edges if edge[1] in needed]


def _counts(edges: Sequence[tuple[int, int, str]]) -> list[int]:
    return [1, *(sum(name == operation for *_, name in edges) for operation in OPERATIONS)]


def _times(table: Sequence[dict[str, str]]) -> dict[str, np.ndarray]:
    columns = [column for column in table[0] if column.startswith("lat_ms_")]
    return {column.removeprefix("lat_ms_"): np.array([float(row[column]) for row in table]) for column in columns}


def learned(benchmark: Benchmark, sources: Sequence[str], known: np.ndarray) -> DeviceBelief:
    """The prior of the source devices on the known architectures, each counted as it executes them."""
    devices = []
    for source in sources:
        y_N = benchmark.times[source][known]
        countings = [benchmark.all_NP[known]]
        if benchmark.reached_NP is not benchmark.all_NP:
            countings.append(benchmark.reached_NP[known])
            countings.sort(key=lambda x_NP: float(np.median(np.abs(x_NP @ fit_nonnegative(x_NP, y_N) / y_N - 1))))
        devices.append((countings[0], y_N))
    return learn_prior(devices, structure_PK=benchmark.structure_PK)


def design(benchmark: Benchmark, prior: DeviceBelief, known: np.ndarray) -> np.ndarray:
    """Ten architectures to measure; the last tells whether the runtime executes operations that nothing reads."""
    candidates = known[benchmark.ordinary_N[known]]
    unread_N = benchmark.all_NP[candidates].sum(axis=1) - benchmark.reached_NP[candidates].sum(axis=1)
    whole = candidates[unread_N == 0]
    if len(whole) == len(candidates):
        return whole[choose_measurements(prior, benchmark.all_NP[whole], NUM_MEASURED)]
    chosen = whole[choose_measurements(prior, benchmark.all_NP[whole], NUM_MEASURED - 1)]
    all_N, reached_N = (x_NP[candidates] @ prior.mean_P for x_NP in (benchmark.all_NP, benchmark.reached_NP))
    return np.append(chosen, candidates[np.argmax(all_N / reached_N)])


def predicted(benchmark: Benchmark, prior: DeviceBelief, measured: np.ndarray, y_M: np.ndarray) -> np.ndarray:
    """Times (N,) of all architectures on the device of these measurements."""
    x_NP = benchmark.all_NP
    gain = log_evidence(prior, benchmark.reached_NP[measured], y_M) - log_evidence(prior, x_NP[measured], y_M)
    x_NP = benchmark.reached_NP if gain + np.log(DROPS_DEAD_CODE_ODDS) > 0 else x_NP
    predicted_N: np.ndarray = x_NP @ halfway(prior, x_NP[measured], y_M)
    return predicted_N


def one_seed(benchmark: Benchmark, *, seed: int) -> Iterator[tuple[str, str, float, float]]:
    """(design, device, Spearman, median error) of one draw of known architectures, trimmed as HELP does."""
    generator = np.random.default_rng(seed)
    known = generator.choice(len(benchmark.all_NP), NUM_KNOWN, replace=False)
    prior = learned(benchmark, NB201_SOURCES, known)
    drawn = {"designed": design(benchmark, prior, known), "random": generator.choice(known, NUM_MEASURED, False)}
    for name, measured in drawn.items():
        for device in HELP:
            y_N = benchmark.times[device]
            predicted_N = predicted(benchmark, prior, measured, y_N[measured])
            low, high = np.quantile(y_N, [0.1, 0.9])
            queried = (y_N >= low) & (y_N <= high)
            queried[measured] = False
            error = float(np.median(np.abs(predicted_N / y_N - 1)[queried]))
            yield name, device, float(spearmanr(predicted_N[queried], y_N[queried]).statistic), error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    num_seeds, benchmark = parser.parse_args().seeds, nasbench201()
    outcomes: Outcomes = {}
    for seed in range(num_seeds):
        for name, device, *figures in one_seed(benchmark, seed=seed):
            outcomes.setdefault((name, device), []).append((figures[0], figures[1]))
    print(
        f"Spearman, mean ± deviation over {num_seeds} seeds; median absolute error of the designed and the random ten"
    )
    print(f"{'device':14s} {'HELP':>6s} {'designed':>16s} {'random':>16s} {'errors':>14s}")
    for device in [*HELP, "mean"]:
        help_rank = np.mean(list(HELP.values())) if device == "mean" else HELP[device]
        shown, errors = [], []
        for name in ("designed", "random"):
            of_devices = [outcomes[name, d] for d in (HELP if device == "mean" else [device])]
            ranks, error = np.array(of_devices).mean(0).T
            shown.append(f"{ranks.mean():8.4f} ± {ranks.std():.4f}")
            errors.append(f"{error.mean():.1%}")
        print(f"{device:14s} {help_rank:6.3f} {shown[0]:>16s} {shown[1]:>16s} {', '.join(errors):>14s}")


if __name__ == "__main__":
    main()
