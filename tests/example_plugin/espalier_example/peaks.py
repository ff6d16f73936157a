"""A latency model of one's own: an operation takes as long as the slower of its work and its bytes."""

from typing import ClassVar, Literal

import numpy as np
from scipy.optimize import minimize

from hardware_models.calibration.held_out import Mask
from hardware_models.calibration.model_fit import MODEL_FITS, Fitted, ModelFit
from hardware_models.latency_models.latency_model import LATENCY_MODELS, LatencyModel
from hardware_models.schema import NonNegative, Positive
from search_spaces.operation import Operation


@LATENCY_MODELS.register("peaks")
class Peaks(LatencyModel):
    """A profile has `latency: {model: peaks, peak_gops: 20.0, gb_per_s: 8.0, overhead_ms: 0.01}`."""

    formula: ClassVar[str] = "Time of an operation = the larger of work / peak and bytes / bandwidth, and its start."

    model: Literal["peaks"]
    peak_gops: Positive
    gb_per_s: Positive
    overhead_ms: NonNegative

    @property
    def priced(self) -> str:
        return "every operation"

    @property
    def monotone(self) -> bool:
        return True

    def price_ms(self, operation: Operation, *, bytes_per_element: int) -> float | None:
        elements = operation.params + operation.in_elements + operation.out_elements
        work_ms = operation.macs / self.peak_gops * 1e-6
        return max(work_ms, elements * bytes_per_element / self.gb_per_s * 1e-6) + self.overhead_ms


@MODEL_FITS.register("peaks")
class PeaksFit(ModelFit):
    """Makes `espalier-calibrate model=peaks` work; a model without a fit has its numbers from elsewhere."""

    def fit(self, kept_N: Mask) -> Fitted:
        kept = np.flatnonzero(kept_N)
        amounts = [
            np.array([[op.macs, op.params + op.in_elements + op.out_elements] for op in self.rows[i].operations])
            for i in kept
        ]

        def loss(logs: np.ndarray) -> float:
            peak_gops, gb_per_s, overhead_ms = np.exp(logs)
            scale = np.array([1e-6 / peak_gops, self.bytes_per_element * 1e-6 / gb_per_s])
            sums_N = [(amount * scale).max(axis=1).sum() + overhead_ms * len(amount) for amount in amounts]
            return float(np.abs(np.log(np.array(sums_N) / self.measured_N[kept])).mean())

        found = minimize(loss, np.log([20.0, 8.0, 0.01]), method="Nelder-Mead", options={"maxiter": 150})
        names = ("peak_gops", "gb_per_s", "overhead_ms")
        numbers = dict(zip(names, map(float, np.exp(found.x)), strict=True))
        return Fitted(Peaks.model_validate({"model": "peaks", **numbers}))
