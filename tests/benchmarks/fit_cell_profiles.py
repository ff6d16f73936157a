"""Fits the shipped profiles of NAS-Bench-201's devices, and what its devices have in common, from the measurements.

    python tests/benchmarks/fit_cell_profiles.py [--write]

Reads the data folder at $ESPALIER_DATA, or `shared/data` beside the repository. `--write` puts the fitted numbers into
conf/hardware/nb201_*.yaml and leaves every other character as it is, and writes cell_population.yaml.
"""

import argparse
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import yaml
from fit_profiles import CONF, LEVEL, ROOT, Numbers, rows, show_or_write
from learned_prior import learn_prior

from hardware_models.calibration.additive_fit import additive_features
from hardware_models.calibration.fitting import conformal_factor, error_figures, fit_nonnegative
from hardware_models.latency_models.additive import Additive
from hardware_models.profile import load_profile
from search_spaces.operation import Operation

POPULATION = ROOT / "hardware_models" / "calibration" / "cell_population.yaml"
NB201 = {"nb201_pixel3": "pixel3", "nb201_raspi4": "raspi4", "nb201_samsung_a50": "samsung_a50"}
EDGES = (("e01", 0, 1), ("e02", 0, 2), ("e12", 1, 2), ("e03", 0, 3), ("e13", 1, 3), ("e23", 2, 3))
SOURCE = (
    "HELP, arXiv:2106.08630, repository HayeonLee/HELP at commit 45f70eb92d0d735970a33b608d1544ad3c52f285 (MIT), with "
    "HW-NAS-Bench's devices (MIT)"
)
CELL_FORMS = ("nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def live_edges(cell: dict[str, str]) -> list[tuple[int, int, str]]:
    """Edges of a cell that carry data from its input to its output."""
    edges = [(source, target, cell[edge]) for edge, source, target in EDGES if cell[edge] != "none"]
    reached, needed = {0}, {3}
    for source, target, _ in sorted(edges, key=lambda edge: edge[1]):
        reached |= {target} if source in reached else set()
    for source, target, _ in sorted(edges, key=lambda edge: -edge[0]):
        needed |= {source} if target in needed else set()
    return [edge for edge in edges if edge[0] in reached and edge[1] in needed]


@cache
def nb201_network(conv_1x1: int, conv_3x3: int, pools: int, adds: int) -> tuple[Operation, ...]:
    """The NAS-Bench-201 network for CIFAR-10 whose cells hold so many operations of each form."""
    operations = [Operation("conv", (3, 32, 32), (16, 32, 32), kernel=3)]
    for channels, size in ((16, 32), (32, 16), (64, 8)):
        shape = (channels, size, size)
        if channels > 16:
            before = (channels // 2, 2 * size, 2 * size)
            operations += [
                Operation("conv", before, shape, kernel=3, stride=2),
                Operation("conv", shape, shape, kernel=3),
                Operation("avg_pool", before, (before[0], size, size), kernel=2, stride=2),
                Operation("conv", (before[0], size, size), shape),
                Operation("add", shape, shape),
            ]
        operations += 5 * (
            conv_1x1 * [Operation("conv", shape, shape)]
            + conv_3x3 * [Operation("conv", shape, shape, kernel=3)]
            + pools * [Operation("avg_pool", shape, shape, kernel=3)]
            + adds * [Operation("add", shape, shape)]
        )
    head = [Operation("global_pool", (64, 8, 8), (64, 1, 1)), Operation("linear", (64, 1, 1), (10, 1, 1))]
    return (*operations, *head)


def cell_counts(live: list[tuple[int, int, str]]) -> tuple[int, int, int, int]:
    """How many operations of each form, and sums, a cell of these edges runs."""
    conv_1x1, conv_3x3, pools = (sum(form == operation for *_, operation in live) for form in CELL_FORMS)
    return conv_1x1, conv_3x3, pools, len(live) - len({target for _, target, _ in live})


@cache
def nb201_cells() -> list[tuple[tuple[int, int, int, int], dict[str, float]]]:
    """Counts of operations and times of every cell with three live edges or more and no dead one.

    Dead edges are left out because some devices ran them and others did not; a network that is deployed has none.
    """
    cells = []
    for row in rows("benchmarks/nb201.csv.gz"):
        live = live_edges(row)
        if len(live) >= 3 and len(live) == sum(row[edge] != "none" for edge, _, _ in EDGES):
            times = {
                column.removeprefix("lat_ms_"): float(row[column]) for column in row if column.startswith("lat_ms_")
            }
            cells.append((cell_counts(live), times))
    return cells


def fit_nb201(name: str) -> Numbers:
    """Numbers of one benchmark device: half of the cells fit, a quarter sets the bound, a quarter tests."""
    shipped = load_profile(CONF / f"{name}.yaml").latency
    assert isinstance(shipped, Additive)
    x_NP = np.stack([_cell_features(counts, shipped) for counts, _ in nb201_cells()])
    y_N = np.array([times[NB201[name]] for _, times in nb201_cells()])
    order = np.random.default_rng(0).permutation(len(y_N))
    fitted, bounded, tested = np.split(order, [len(order) // 2, len(order) * 3 // 4])
    constant_ms, *terms_ms = fit_nonnegative(x_NP[fitted], y_N[fitted])
    predicted_N = x_NP @ np.array([constant_ms, *terms_ms])
    factor = conformal_factor(predicted_N[bounded], y_N[bounded], level=LEVEL)
    numbers: Numbers = {("error", k): v for k, v in error_figures(predicted_N[tested], y_N[tested]).items()}
    numbers |= {("bound", "n"): len(bounded), ("bound", "factor"): factor, ("latency", "constant_ms"): constant_ms}
    return numbers | {("latency", "terms", i, "ms"): ms for i, ms in enumerate(terms_ms)}


def _cell_features(counts: tuple[int, int, int, int], model: Additive) -> np.ndarray:
    return additive_features(nb201_network(*counts), model)


def fit_cell_population() -> dict[str, Any]:
    """The content of cell_population.yaml: additive prices on all settings of the table, each at its own speed."""
    form = load_profile(CONF / "nb201_pixel3.yaml").latency
    assert isinstance(form, Additive)
    x_NP = np.stack([_cell_features(counts, form) for counts, _ in nb201_cells()])
    settings = list(nb201_cells()[0][1])
    # As few_measurements.py: any operation may take as long as a mean network, or nothing.
    prior = learn_prior(
        [(x_NP, np.array([times[setting] for _, times in nb201_cells()])) for setting in settings],
        structure_PK=np.diag(1 / x_NP.mean(axis=0)),
    )
    mean_P = np.maximum(prior.mean_P, 0)  # that of an operation which costs next to nothing may come out below
    typical = form.model_dump(mode="json", exclude_none=True)
    typical["constant_ms"] = float(f"{mean_P[0]:.4g}")
    for term, ms in zip(typical["terms"], mean_P[1:], strict=True):
        term["ms"] = float(f"{ms:.4g}")
    return {
        "typical": typical,
        "covariance": [[float(f"{value:.4g}") for value in row] for row in prior.covariance_PP],
        "noise": float(f"{prior.noise:.3g}"),
        "settings": len(settings),
        "source": SOURCE,
    }


FITS: dict[str, Callable[[str], Numbers]] = dict.fromkeys(NB201, fit_nb201)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the fitted numbers into the files")
    write = parser.parse_args().write
    show_or_write(FITS, write=write)
    population = yaml.safe_dump(fit_cell_population(), sort_keys=False, width=120)
    print(f"\npopulation\n{population}")
    if write:
        POPULATION.write_text(population, encoding="utf-8")


if __name__ == "__main__":
    main()
