"""Whatever measuring can produce: a profile, a warning with its rows or a refusal, and never a traceback; and how fast.

    python tests/benchmarks/calibrate_any_file.py [--files 1000]

First as many generated CSV files of networks, from nine to a hundred rows: cells of NAS-Bench-201 or mobile networks,
some under many names, times that are exact, scattered, or rounded to a clock of whole milliseconds and so tied, and in
each the next mistake of DEFECTS. Each file is calibrated as `espalier-calibrate` does, its profile read back. Columns
count what came of them; sound files should give a profile, the others a warning or a refusal as far as the mistake is
larger than the model's own error (files of nine rows have no signs). Then the CPU-seconds that so many rows take.
"""

import argparse
import csv
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from random import Random

import numpy as np

from hardware_models.calibration.calibration import calibrate
from hardware_models.calibration.fitting import Array
from hardware_models.calibration.profile_file import Description, profile_text
from hardware_models.measuring.measure import machine_description
from hardware_models.measuring.measurements import read_measurements
from hardware_models.measuring.random_networks import mobile_network
from hardware_models.profile import load_profile
from search_spaces.errors import EspalierError
from search_spaces.nasbench201.space import NasBench201Space
from search_spaces.operation import Operation
from trainers.devices.measurement import write_layers

Defect = Callable[[Array, np.random.Generator], Array]
Networks = list[tuple[Operation, ...]]
DEVICE = Path(__file__).parents[2] / "conf" / "hardware" / "mid_tablet.yaml"
ROWS, SIDES = (10, 60, 200, 2000), (96, 160, 224)


def one(factor: float) -> Defect:
    """One row so many times slower."""

    def changed(times_N: Array, generator: np.random.Generator) -> Array:
        chosen_N = np.arange(len(times_N)) == generator.integers(len(times_N))
        return np.where(chosen_N, factor * times_N, times_N)

    return changed


DEFECTS: dict[str, Defect] = {
    "sound": lambda times_N, generator: times_N,
    "half throttled": lambda times_N, generator: times_N * np.where(generator.random(len(times_N)) < 0.5, 1.8, 1),
    "two devices": lambda times_N, generator: times_N * np.where(np.arange(len(times_N)) < len(times_N) // 2, 1, 4),
    "a row apart": lambda times_N, generator: np.roll(times_N, 1),
    "in no order": lambda times_N, generator: generator.permutation(times_N),
    "one ten times faster": one(0.1),
    "one ten times slower": one(10.0),
    "warming up": lambda times_N, generator: times_N * np.exp(np.linspace(0, 0.6, len(times_N))),
    "seconds": lambda times_N, generator: times_N / 1000,
}


def networks(generator: np.random.Generator, number: int) -> Networks:
    """Of one kind, some of them alike."""
    random, space = Random(int(generator.integers(2**31))), NasBench201Space()
    distinct = max(1, int(number * generator.choice([0.1, 0.5, 1.0, 1.0])))
    if generator.random() < 0.5:
        drawn = [tuple(mobile_network(random, resolution=random.choice(SIDES)).operations) for _ in range(distinct)]
    else:
        indices = generator.integers(5, size=(distinct, 6))
        drawn = [tuple(space.operations(space.choices(row.tolist()))) for row in indices]
    return [drawn[i] for i in generator.integers(distinct, size=number)] if distinct < number else drawn


def measured(own: Networks, generator: np.random.Generator) -> Array:
    """Times in ms that a device could give: of its own bend and speed, scattered, and as coarse as its clock."""
    profile = load_profile(DEVICE)
    sums_N = np.array([sum(profile.price(operation)["latency_ms"] for operation in network) for network in own])
    bent_N = 3.0 ** generator.uniform(-3, 1) * sums_N ** generator.choice([1.0, 0.7, 1.3])
    times_N = bent_N * np.exp(generator.choice([0.0, 0.03, 0.1]) * generator.standard_normal(len(own)))
    step = generator.choice([0.0, 0.0, 0.1, 1.0])  # ms of its clock
    return np.maximum(step, np.round(times_N / step) * step) if step else times_N


def write(folder: Path, own: Networks, times_N: Array, generator: np.random.Generator) -> Path:
    """The file, and beside it the operations of its networks."""
    path, names = folder / "bench.csv", [f"net{i}" for i in range(len(own))]
    marked = generator.random() < 0.5
    parts = ["random" if marked and generator.random() < 0.7 else "" for _ in names]
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = zip(names, (f"{ms:.6g}" for ms in times_N), parts, strict=True)
        csv.writer(file).writerows([("network", "latency_ms", "part"), *rows])
    write_layers(path, dict(zip(names, own, strict=True)))
    return path


def outcome(path: Path) -> str:
    """What comes of calibrating a file: a profile, one with warnings, a refusal, or an error that nobody caught."""
    try:
        measurements = read_measurements(path)
        found = calibrate(measurements, model="roofline", level=0.8, precision="fp32")
        profile_text(found, measurements, Description("device", "a device", "none", 1, "fp32", ()))
    except EspalierError:
        return "refused"
    except Exception:
        traceback.print_exc()
        return "TRACEBACK"
    return "warned" if found.suspicions else "profile"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    num_files = parser.parse_args().files
    print(f"{date.today()}, {machine_description()}")
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in DEFECTS}
    for seed in range(num_files):
        generator = np.random.default_rng(seed)
        name = list(DEFECTS)[seed % len(DEFECTS)]
        own = networks(generator, int(generator.choice([9, 12, 20, 30, 60, 100])))
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder), own, DEFECTS[name](measured(own, generator), generator), generator)
            outcomes[name][outcome(path)] += 1
    columns = ("profile", "warned", "refused", "TRACEBACK")
    print(f"{'':22}" + "".join(f"{column:>11}" for column in columns))
    for name, counts in outcomes.items():
        print(f"{name:22}" + "".join(f"{counts[column]:11d}" for column in columns))
    for number in ROWS:
        generator = np.random.default_rng(0)
        random = Random(0)
        own = [tuple(mobile_network(random, resolution=224).operations) for _ in range(number)]
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder), own, measured(own, generator), generator)
            started = time.process_time()
            outcome(path)
            print(f"{number:5d} rows: {time.process_time() - started:6.1f} CPU-seconds", flush=True)


if __name__ == "__main__":
    main()
