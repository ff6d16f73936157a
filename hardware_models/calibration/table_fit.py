"""A table of single operations: each measured one is an entry, and is held out to judge prices between the others."""

from collections.abc import Iterator
from math import nan
from typing import ClassVar

import numpy as np

from hardware_models.calibration.fitting import Array, rows_needed
from hardware_models.calibration.held_out import HeldOut, Mask, hold_out
from hardware_models.calibration.model_fit import Fitted, ModelFit
from hardware_models.calibration.roofline_fit import RooflineFit
from hardware_models.calibration.row_checks import LEAST_ROWS, outlier_problems, rank_problems
from hardware_models.latency_models.interpolation import LookUpTable
from hardware_models.latency_models.operation_entries import operation_entries, position
from hardware_models.latency_models.table import Table
from hardware_models.measuring.measurements import Subject


class TableFit(ModelFit):
    """The measured operations as exact entries; its error is that of interpolating each of them between the others."""

    subjects: ClassVar[tuple[Subject, ...]] = ("operation",)

    def fit(self, kept_N: Mask) -> Fitted:
        kept = [row for row, is_kept in zip(self.rows, kept_N, strict=True) if is_kept]
        return Fitted(Table(model="table", entries={row.operations[0].notation: row.latency_ms for row in kept}))

    def predict(self, kept_N: Mask) -> Array:
        kept = [row for row, is_kept in zip(self.rows, kept_N, strict=True) if is_kept]
        table = LookUpTable(operation_entries((row.operations[0], row.latency_ms) for row in kept))
        prices = [table.price_ms(*position(row.operations[0])) for row in self.rows]
        return np.array([nan if ms is None else ms for ms in prices])

    def held_out_problems(self, held_out: HeldOut, *, level: float) -> Iterator[str]:
        """Outliers are those of a roofline, which prices every row without the others of its form."""
        roofline = RooflineFit(self.measurements, bytes_per_element=self.bytes_per_element)
        yield from outlier_problems(self.rows, hold_out(roofline.predict, self.measured_N, subject="operation"))
        needed = max(LEAST_ROWS, rows_needed(level))
        if len(held_out.rows) < needed:
            yield (
                f"{len(held_out.rows)} of {len(self.rows)} operations lie between others, so that a price for them "
                f"without their own time can be compared with it; a bound at level {level:g} needs {needed}: measure "
                "more operations of each form, or set model=roofline"
            )
        yield from rank_problems(held_out)

    def inferred(self, fitted: Fitted, *, num_held_out: int) -> Iterator[str]:
        yield (
            f"Error and bound are those of operations priced between the others; {len(self.rows) - num_held_out} of "
            f"{len(self.rows)} lie beside them and are left out of both."
        )
        yield "A network is priced as the sum of its operations, each measured alone: fusion and caches are in neither."
