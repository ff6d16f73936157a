"""Networks across devices, and what a latency model is worth: frames for the pictures of both."""

# Shapes: S networks, n decisions.

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hardware_models.budgets.cost_table import METRICS, CostTable
from hardware_models.calibration.calibration import Calibration
from hardware_models.latency_models.roofline import price_kind
from hardware_models.measuring.measurements import Measurements
from hardware_models.profile import HardwareProfile
from search_spaces.errors import InvalidInputError
from search_spaces.space import SearchSpace
from trainers.analysis.loading import Run

LATENCY = METRICS.index("latency_ms")
PREDICTED = {metric: f"predicted_{metric}" for metric in METRICS} | {"latency_upper_ms": "upper_latency_ms"}
TRANSFER_COLUMNS = ("network", "device", "accuracy", *PREDICTED.values(), "utilisation", "within")


def transfer(run: Run) -> pd.DataFrame:
    """Every device's network on every device of a run: a row per pair, first the device that `network` was found for.

    Costs are predicted by the profile of `device`, also on its own device; `utilisation` is the largest share of any of
    its budgets, and `within` says whether all are met. `accuracy` is that of the fine-tuned network. No rows without
    a result.
    """
    rows = [
        {
            **{"network": network, "device": device, "accuracy": run.device_results[network].accuracy.finetuned},
            **{PREDICTED.get(name, name): figure for name, figure in costs},
        }
        for network, on_devices in (run.result.transfer if run.result else {}).items()
        for device, costs in on_devices.items()
    ]
    return pd.DataFrame(rows, columns=list(TRANSFER_COLUMNS))


def mean_transfer(runs: Sequence[Run]) -> pd.DataFrame:
    """`transfer` over the finished ones of some runs: for each network and device the means of latency, in ms, and of
    accuracy, and how many of `count` networks are `within` all budgets.
    """
    pairs = pd.concat([transfer(run) for run in runs if run.result]).groupby(["network", "device"], sort=False)
    latency, accuracy = ("predicted_latency_ms", "mean"), ("accuracy", "mean")
    return pairs.agg(latency_ms=latency, accuracy=accuracy, within=("within", "sum"), count=("within", "size"))


def latencies(
    space: SearchSpace, profiles: Sequence[HardwareProfile], *, num_networks: int, seed: int = 0
) -> pd.DataFrame:
    """Predicted latency, in ms, of networks drawn uniformly from `space` (rows) on each device (columns).

    Raises: InvalidInputError for a device of several units: what it takes depends on where a network is placed.
    """
    several = [profile.name for profile in profiles if profile.units]
    if several:
        raise InvalidInputError(f"latencies: {several} have several units to place networks on; leave them out")
    table = CostTable(space, profiles)
    generator = np.random.default_rng(seed)
    sizes = [len(decision.choices) for decision in space.decisions]
    if space.rules:
        networks_Sn = space.rule_matrix.sample(num_networks, generator)
    else:
        networks_Sn = generator.integers(0, sizes, size=(num_networks, len(sizes)))
    return pd.DataFrame(
        {
            profile.name: [profile.estimate("latency_ms", ms) for ms in table.of(networks_Sn, place)[:, LATENCY]]
            for place, profile in enumerate(profiles)
        }
    )


def held_out(calibration: Calibration, measurements: Measurements) -> pd.DataFrame:
    """Rows that a calibration predicted without having seen them: name, line, measured_ms, predicted_ms, ratio, kind.

    `kind` is what a single operation is priced as, as `depthwise`; else whether the row is a network or a block.
    """
    found = calibration.held_out
    rows = [measurements.rows[place] for place in found.rows]
    single = measurements.subject == "operation"
    return pd.DataFrame(
        {
            "name": [row.name for row in rows],
            "line": [row.line for row in rows],
            "measured_ms": found.measured_N,
            "predicted_ms": found.predicted_N,
            "ratio": found.ratio_N,
            "kind": [price_kind(row.operations[0]) if single else measurements.subject for row in rows],
        }
    )
