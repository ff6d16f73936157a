"""Calibrations of measurements made in tests, and operations to measure."""

import re
from itertools import product
from pathlib import Path

import pytest
from wrong_cells import wrong_cells

from hardware_models.calibration.calibration import Calibration, calibrate
from hardware_models.measuring.measurements import read_measurements
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

SIDES, CHANNELS = (7, 14, 28, 56), (16, 32, 64, 128)
OPERATIONS = [Operation("conv", (c, s, s), (32, s, s)) for c in (16, 32, 64) for s in (7, 14, 28, 56)]


def calibrated(path: Path, *, model: str = "roofline", level: float = 0.9, unusual_speed: bool = False) -> Calibration:
    return calibrate(read_measurements(path), model=model, level=level, precision="fp32", unusual_speed=unusual_speed)


def refused(path: Path, *, model: str = "roofline", level: float = 0.9) -> list[int]:
    """The lines that a calibration of this file is refused for."""
    with pytest.raises(InvalidInputError, match=re.escape(str(path))) as caught:
        calibrated(path, model=model, level=level)
    return [line for line, _ in wrong_cells(caught.value)]


def grid(kind: str = "pointwise") -> list[Operation]:
    """Convolutions of one kind over a grid of sizes."""
    shapes = (
        product(CHANNELS, CHANNELS, SIDES) if kind != "depthwise" else ((c, c, s) for c, s in product(CHANNELS, SIDES))
    )
    kernel = 1 if kind == "pointwise" else 5
    return [
        Operation("conv", (a, side, side), (b, side, side), kernel, groups=a if kind == "depthwise" else 1)
        for a, b, side in shapes
    ]
