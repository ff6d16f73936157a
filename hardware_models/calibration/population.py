"""What is known of devices before one is measured: the typical roofline and how far devices differ from it."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hardware_models.calibration.device_prior import DeviceBelief
from hardware_models.calibration.fitting import Array
from hardware_models.schema import Positive, Section

FILE = Path(__file__).with_name("population.yaml")


class Spread(Section):
    """One number of a roofline over devices: its typical value, and the deviation of its logarithm among them."""

    typical: Positive
    log_deviation: Positive


class Population(Section):
    """Rooflines of many devices, in ms per 10^9 of work or bytes and ms per operation, by `fitting`'s column names.

    Typical is a device of middling speed. Deviations are taken after the speed of each device is divided out; they are
    those of fits drawn to the typical device, so a number that networks hardly determine deviates less than it may.
    `noise` is the relative spread of measured whole networks about a fitted roofline. `slowest_over_typical` and
    `fastest_over_typical` are the extreme speeds met: a new device far outside was measured in another unit.
    """

    columns: dict[str, Spread]
    noise: Positive
    slowest_over_typical: Positive
    fastest_over_typical: Positive
    settings: int
    devices: int
    networks: int
    source: str

    def typical_P(self, columns: tuple[str, ...]) -> Array:
        """Typical coefficients (P,) of these columns. Raises: KeyError for one that the population lacks."""
        return np.array([self.columns[column].typical for column in columns])

    def prior(self, columns: tuple[str, ...]) -> DeviceBelief:
        """A Gaussian over coefficients with these typical values and spreads, for designs and predictive variances.

        Deviations of different columns are taken as independent; the speed of the device is fitted beside them.
        """
        mean_P = self.typical_P(columns)
        deviation_P = np.array([self.columns[column].log_deviation for column in columns])
        return DeviceBelief(mean_P, np.diag((mean_P * np.minimum(deviation_P, 1)) ** 2), self.noise)


@cache
def load_population() -> Population:
    """The population that is shipped."""
    content: Any = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return Population.model_validate(content)
