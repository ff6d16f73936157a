"""How long it takes to price whole spaces with a cost table.

    python tests/benchmarks/pricing.py [--networks 1000000] [--repeats 5]

Asked: all 15,625 networks of NAS-Bench-201 on 27 settings in under 0.5 s, and 1,000,000 random `mobile` networks on
three devices in under 10 s. The 27 settings are additive models fitted here to the benchmark's table ($ESPALIER_DATA,
or `shared/data` beside the repository); building a table is shown apart, as a search does it once. Printed are the
median and the spread of wall time and of processor time, which other programs on the machine disturb less.
"""

import argparse
import csv
import gzip
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hardware_models.budgets.cost_table import CostTable, Indices
from hardware_models.calibration.additive_fit import additive_features
from hardware_models.calibration.fitting import error_figures, fit_nonnegative
from hardware_models.latency_models.additive import Additive
from hardware_models.measuring.measure import machine_description, versions
from hardware_models.profile import HardwareProfile, load_profile, profile_from_dict
from search_spaces.mobile.space import MobileSpace
from search_spaces.nasbench201.space import NasBench201Space, parse_arch

# Shapes: S networks, n decisions, P fitted numbers.

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
DATA = Path(os.environ.get("ESPALIER_DATA", ROOT.parent / "shared" / "data"))
ASKED_CELLS_S, ASKED_MOBILE_S = 0.5, 10.0
TIERS = ("flagship_phone", "mid_tablet", "iot_terminal")
FIT_EVERY = 17  # rows of the table that are fitted: 920, about as many as a device has in the literature's protocols


def cell_profiles(space: NasBench201Space) -> tuple[list[HardwareProfile], Indices]:
    """One additive profile per setting of the benchmark, and its networks (S, n) in the order of its table."""
    with gzip.open(DATA / "benchmarks" / "nb201.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    networks_Sn = np.array([space.indices(parse_arch(row["arch_str"])) for row in rows])
    shipped = yaml.safe_load((CONF / "hardware" / "nb201_pixel3.yaml").read_text(encoding="utf-8"))
    form = Additive.model_validate(shipped["latency"])
    fitted = range(0, len(rows), FIT_EVERY)
    features_SP = np.stack([additive_features(space.operations(space.choices(networks_Sn[k])), form) for k in fitted])
    settings = [column.removeprefix("lat_ms_") for column in rows[0] if column.startswith("lat_ms_")]
    profiles = []
    for setting in settings:
        measured_S = np.array([float(rows[k][f"lat_ms_{setting}"]) for k in fitted])
        profiles.append(cell_profile(setting, shipped, features_SP, measured_S))
    return profiles, networks_Sn


def cell_profile(
    setting: str, shipped: Mapping[str, Any], features_SP: np.ndarray, measured_S: np.ndarray
) -> HardwareProfile:
    """The shipped additive profile with another setting's numbers; its error is that on the rows it was fitted to."""
    coefficients_P = fit_nonnegative(features_SP, measured_S)
    terms = [
        {**term, "ms": float(ms)} for term, ms in zip(shipped["latency"]["terms"], coefficients_P[1:], strict=True)
    ]
    latency = {**shipped["latency"], "constant_ms": float(coefficients_P[0]), "terms": terms}
    error = {"method": "rows of the fit", **error_figures(features_SP @ coefficients_P, measured_S)}
    about = {"title": setting, "latency": latency, "error": error, "bound": None}
    return profile_from_dict(setting, {**shipped, **about})


def timed(work: Callable[[], object], repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Wall and processor seconds of each repeat, after one run that is not counted."""
    work()
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return np.array(walls), np.array(processors)


def price(table: CostTable, networks_Sn: Indices) -> list[np.ndarray]:
    return [table.of(networks_Sn, device) for device in range(len(table.devices))]


def checked(table: CostTable, networks_Sn: Indices, generator: np.random.Generator) -> float:
    """Largest relative difference of some networks' latency from the sum over their operations, one by one."""
    worst = 0.0
    for row in generator.integers(len(networks_Sn), size=20):
        operations = table.space.operations(table.space.choices(networks_Sn[row]))
        device = int(generator.integers(len(table.devices)))
        profile = table.devices[device]
        summed = profile.constant_ms + sum(profile.price(op)["latency_ms"] for op in operations)
        worst = max(worst, abs(table.of(networks_Sn[[row]], device)[0, 0] / summed - 1))
    return worst


def show(name: str, table: CostTable, networks_Sn: Indices, *, asked_s: float, build_s: float, repeats: int) -> None:
    walls, processors = timed(lambda: price(table, networks_Sn), repeats)
    priced = len(networks_Sn) * len(table.devices)
    wall, processor = float(np.median(walls)), float(np.median(processors))
    print(
        f"{name:12} {len(networks_Sn):>9,} x {len(table.devices):<3}"
        f" {wall:7.3f} s ({walls.min():.3f}-{walls.max():.3f})"
        f"  {processor:7.3f} s ({processors.min():.3f}-{processors.max():.3f})  {priced / wall / 1e6:6.1f} M/s"
        f"  {asked_s:4g} s {'met' if wall < asked_s else 'MISSED'}   table built in {build_s:.2f} s,"
        f" off by {checked(table, networks_Sn, np.random.default_rng(1)):.0e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=1_000_000, help="random networks of the mobile space")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{machine_description()}; {versions()}; {datetime.now(UTC).date()}; n = {arguments.repeats}")
    print("space        networks x devices  wall (least-most)        processor (least-most)   prices    asked")

    if (DATA / "benchmarks").is_dir():
        cells = NasBench201Space()
        profiles, networks_Sn = cell_profiles(cells)
        started = time.perf_counter()
        table = CostTable(cells, profiles)
        built = time.perf_counter() - started
        show("nasbench201", table, networks_Sn, asked_s=ASKED_CELLS_S, build_s=built, repeats=arguments.repeats)
    else:
        print(f"nasbench201: skipped, no measurements at {DATA}; set ESPALIER_DATA")

    spec = yaml.safe_load((CONF / "space" / "mobile.yaml").read_text(encoding="utf-8"))
    space = MobileSpace(**{key: value for key, value in spec.items() if key != "name"}, num_classes=1000)
    started = time.perf_counter()
    table = CostTable(space, [load_profile(CONF / "hardware" / f"{name}.yaml") for name in TIERS])
    built = time.perf_counter() - started
    generator = np.random.default_rng(0)
    columns = [generator.integers(len(d.choices), size=arguments.networks) for d in space.decisions]
    show(
        "mobile",
        table,
        np.stack(columns, axis=1),
        asked_s=ASKED_MOBILE_S,
        build_s=built,
        repeats=arguments.repeats,
    )


if __name__ == "__main__":
    main()
