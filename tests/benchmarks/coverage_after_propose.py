"""What bounds cover after propose, measure, calibrate: on all other networks of a pool, and on those that are selected.

    python tests/benchmarks/coverage_after_propose.py [--draws 20] [--pools cells,fbnet,phones,ncnn,host]

Each draw chooses networks of a pool as `espalier-calibrate propose` does, fits a roofline to their measured times as
`espalier-calibrate` does, and looks which of the others are within the bound. Designs: `telling + random`, eleven
(ncnn: five) telling networks and as many random ones as the level needs; `random`, as many in all, drawn at random;
`telling`, as many telling ones, from which error and bound are then taken too. `selected` are the networks of most
multiply-adds whose bound is within a budget, at the deciles of the bounds: what a search takes without better signals.
Pools: cells of NAS-Bench-201; FBNet's networks, whose times on FPGA and Eyeriss are sums of a table; sums of a phone's
measured blocks; ncnn's benchmark; `host`, random mobile networks measured on this machine with onnxruntime.
Reads the data folder at $ESPALIER_DATA, or `shared/data` beside the repository.
"""

import argparse
import csv
import gzip
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random

import numpy as np
from fit_profiles import DATA, ncnn_networks, rows, usable_times

from hardware_models.calibration.design import propose
from hardware_models.calibration.fitting import conformal_factor
from hardware_models.calibration.held_out import hold_out, random_needed
from hardware_models.calibration.model_fit import sum_ms
from hardware_models.calibration.roofline_fit import RooflineFit
from hardware_models.importers.fbnet_lut import FbnetBlock
from hardware_models.importers.phones import import_phones
from hardware_models.measuring.measure import machine_description, time_in_turns
from hardware_models.measuring.measurements import MeasuredRow, Measurements
from hardware_models.measuring.random_networks import mobile_network
from search_spaces.nasbench201.space import NasBench201Space, parse_arch
from search_spaces.operation import Operation

LEVELS = (0.8, 0.9, 0.95)
POOL_SIZE, NUM_BLOCKS, HOST_NETWORKS, LEAST_OTHERS = 500, 14, 80, 5
CELL_DEVICES = ("pixel3", "raspi4", "samsung_a50", "fpga", "eyeriss", "gold_6226")
FBNET_DEVICES = ("1080ti_1", "gold_6226", "samsung_a50", "fpga", "eyeriss")
PHONES = ("pixel1", "pixel4", "pixel6", "xiaomi11")
DESIGNS = ("telling + random", "random", "telling")


@dataclass(frozen=True)
class Pool:
    """Networks of one device: their operations and their times in ms."""

    name: str
    networks: Sequence[tuple[Operation, ...]]
    times_ms: Sequence[float]
    num_telling: int = 11


def cells(generator: np.random.Generator) -> Iterator[Pool]:
    space, table = NasBench201Space(), list(rows("benchmarks/nb201.csv.gz"))
    chosen = [table[i] for i in generator.choice(len(table), POOL_SIZE, replace=False)]
    networks = [tuple(space.operations(parse_arch(row["arch_str"]))) for row in chosen]
    for device in CELL_DEVICES:
        yield Pool(f"cells {device}", networks, [float(row[f"lat_ms_{device}"]) for row in chosen])


def fbnet(generator: np.random.Generator) -> Iterator[Pool]:
    with (DATA / "latency/fbnet_lut_hwnasbench.csv").open(encoding="utf-8", newline="") as file:
        entries = {(int(row["layer"]), int(row["op"])): row for row in csv.DictReader(file)}
    table = list(rows("latency/fbnet_archs_latency.csv.gz"))
    chosen = [table[i] for i in generator.choice(len(table), POOL_SIZE, replace=False)]
    networks = []
    for row in chosen:
        picked = [entries[layer, int(op)] for layer, op in enumerate(row["arch"].split())]
        blocks = [
            FbnetBlock.model_validate({**cell, "line": 1, "time": 1.0}) for cell in picked if cell["op_name"] != "skip"
        ]
        networks.append(tuple(operation for block in blocks for operation in block.operations()))
    for device in FBNET_DEVICES:
        yield Pool(f"fbnet {device}", networks, [float(row[f"lat_ms_{device}"]) for row in chosen])


def phones(generator: np.random.Generator) -> Iterator[Pool]:
    for phone in PHONES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "blocks.csv"
            path.write_bytes(gzip.decompress((DATA / "latency/phones4_block_lut.csv.gz").read_bytes()))
            blocks = import_phones(path, device=phone).rows
        drawn = [[blocks[i] for i in generator.integers(len(blocks), size=NUM_BLOCKS)] for _ in range(POOL_SIZE)]
        networks = [tuple(operation for block in own for operation in block.operations) for own in drawn]
        yield Pool(f"phones {phone}", networks, [sum(block.latency_ms for block in own) for own in drawn])


def ncnn(generator: np.random.Generator) -> Iterator[Pool]:
    layers, seen = ncnn_networks(), set[str]()
    for setting, times in usable_times().items():
        if setting[0] not in seen:  # the first of a device's settings
            seen.add(setting[0])
            yield Pool(f"ncnn {setting[0]}", [tuple(layers[name]) for name in times], list(times.values()), 5)


def host(generator: np.random.Generator) -> Iterator[Pool]:
    random = Random(0)
    networks = [mobile_network(random, resolution=random.choice((64, 96, 128))) for _ in range(HOST_NETWORKS)]
    timed = time_in_turns([network.graph.model() for network in networks], threads=1, warmup=2, repeats=12)
    yield Pool("host", [tuple(n.operations) for n in networks], [found.p50_ms for found in timed])


POOLS: dict[str, Callable[[np.random.Generator], Iterator[Pool]]] = {
    "cells": cells,
    "fbnet": fbnet,
    "phones": phones,
    "ncnn": ncnn,
    "host": host,
}


def chosen_rows(pool: Pool, design: str, level: float, order: Sequence[int]) -> tuple[list[int], list[int] | None]:
    """Places of the networks to measure, and of those among them that are judged; none for all of them."""
    number = pool.num_telling + random_needed(level)
    num_random = {"telling + random": random_needed(level), "random": number, "telling": 0}[design]
    candidates = {str(i): pool.networks[i] for i in order}
    proposed = propose(candidates, (), num_networks=number, num_random=num_random, bytes_per_element=4)
    places = [int(proposal.name) for proposal in proposed]
    judged = [k for k, proposal in enumerate(proposed) if proposal.part == "random"]
    return places, judged or None


def tried(pool: Pool, design: str, level: float, order: Sequence[int]) -> tuple[float, float, float, float]:
    """Shares of other networks and of selected ones within the bound; stated and true median error."""
    places, judged = chosen_rows(pool, design, level, order)
    every = [*places, *(i for i in order if i not in set(places))]
    measured = [MeasuredRow(str(i), pool.times_ms[i], pool.networks[i], i + 1, {}) for i in every]
    n, times_N = len(places), np.array([row.latency_ms for row in measured])
    known = RooflineFit(Measurements(Path("pool"), "network", tuple(measured[:n]), {}), bytes_per_element=4)
    found = hold_out(known.predict, times_N[:n], subject="network", judged=judged)
    factor = conformal_factor(found.predicted_N, found.measured_N, level=level)
    model = known.fit(np.ones(n, dtype=bool))
    sums_M = np.array([sum_ms(model.latency, row, 4) for row in measured[n:]])
    predicted_M = sums_M if model.calibrator is None else model.calibrator.latencies_ms(sums_M)
    times_M, upper_M = times_N[n:], factor * predicted_M
    work_M = np.array([sum(operation.macs for operation in row.operations) for row in measured[n:]])
    selected = []
    for budget in np.quantile(upper_M, np.arange(1, 10) / 10):
        within = np.flatnonzero(upper_M <= budget)
        selected.append(within[work_M[within].argmax()])
    return (
        float((times_M <= upper_M).mean()),
        float((times_M <= upper_M)[selected].mean()),
        float(np.median(np.abs(found.predicted_N / found.measured_N - 1))),
        float(np.median(np.abs(predicted_M / times_M - 1))),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--pools", default=",".join(POOLS))
    parser.add_argument("--designs", default=",".join(DESIGNS))
    arguments = parser.parse_args()
    print(f"{date.today()}, {machine_description()}, {arguments.draws} draws of each device")
    print("pool     devices  design            level  covered  worst device  selected   error: stated   true")
    for kind in arguments.pools.split(","):
        every = list(POOLS[kind](np.random.default_rng(0)))
        for design in arguments.designs.split(","):
            for level in LEVELS:
                least = random_needed(level) + LEAST_OTHERS
                pools = [pool for pool in every if len(pool.networks) >= pool.num_telling + least]
                if pools:
                    show(kind, pools, design, level, arguments.draws)


def show(kind: str, pools: Sequence[Pool], design: str, level: float, draws: int) -> None:
    outcomes_DK4 = []
    for pool in pools:
        orders = (np.random.default_rng(draw).permutation(len(pool.networks)) for draw in range(draws))
        outcomes_DK4.append([tried(pool, design, level, order.tolist()) for order in orders])
    mean_D4 = np.array(outcomes_DK4).mean(axis=1)
    covered, selected, stated, true = mean_D4.mean(axis=0)
    columns = f"{covered:8.1%} {mean_D4[:, 0].min():13.1%} {selected:9.1%} {stated:15.1%} {true:6.1%}"
    print(f"{kind:8} {len(pools):7d}  {design:17} {level:5.0%} {columns}", flush=True)


if __name__ == "__main__":
    main()
