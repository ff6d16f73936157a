"""Additive regression with an empirical-Bayes prior over devices: what other devices teach about a new one.

The time of a network is its features times the coefficients of the device, y = x @ c (1 + error). Coefficients of a
device, divided by its speed, are drawn from one Gaussian, learned from devices measured before. A new device then needs
a few measurements, its posterior is closed-form, and its variance says what to measure next.
"""

# Shapes: N networks, M measured ones, P features.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hardware_models.calibration.fitting import Array

# Student-t degrees of freedom of a measurement's error: glitches count little. A usual choice for robust regression;
# Lange, Little and Taylor 1989, "Robust statistical modeling using the t distribution", JASA 84.
DEGREES_OF_FREEDOM = 4.0
REWEIGHTINGS = 8  # converges to three digits on the tables used here


@dataclass(frozen=True)
class DeviceBelief:
    """Coefficients of a device, in ms per unit of a feature: Gaussian of `mean_P` and `covariance_PP`.

    A prior is of a device whose speed is 1. `noise` is the relative error, as a fraction, of a measurement about the
    additive model.
    """

    mean_P: Array
    covariance_PP: Array
    noise: float

    def predict_ms(self, x_NP: Array) -> Array:
        """Times (N,) of networks, in ms."""
        return x_NP @ self.mean_P

    def deviation_ms(self, x_NP: Array) -> Array:
        """Standard deviations (N,) of one measurement of each network about its prediction, in ms."""
        variance_N = np.einsum("np,pq,nq->n", x_NP, self.covariance_PP, x_NP)
        return np.sqrt(variance_N + (self.noise * self.predict_ms(x_NP)) ** 2)


def fit_device(prior: DeviceBelief, x_MP: Array, y_M: Array, *, nonnegative: bool = False) -> DeviceBelief:
    """The device that was measured at features `x_MP` to take `y_M` ms, drawn to `prior` where that says nothing.

    c = mean + S x' (x S x' + R)^-1 (y / s - x mean), R = (noise x c)^2 / q with Student-t weights q, s the speed.
    `nonnegative` keeps every coefficient at 0 or above; the covariance stays that of the fit without this bound.
    """
    fit, (speed, scaled_M) = prior, speed_of(prior, x_MP, y_M)
    for _ in range(REWEIGHTINGS):
        fit = reweight(prior, fit, x_MP, scaled_M, nonnegative=nonnegative)
    return DeviceBelief(fit.mean_P * speed, fit.covariance_PP * speed**2, fit.noise)


def choose_measurements(prior: DeviceBelief, candidates_NP: Array, num: int) -> list[int]:
    """Which `num` candidates to measure on a new device, best first: each where the prediction is least certain.

    Greedy Bayesian D-optimal design. Give ordinary networks only: degenerate ones are the most uncertain and teach
    least about the rest.
    """
    remaining_NP = candidates_NP @ prior.covariance_PP
    variance_N = np.einsum("np,np->n", remaining_NP, candidates_NP)
    noise_N = (prior.noise * (candidates_NP @ prior.mean_P)) ** 2
    chosen: list[int] = []
    for _ in range(min(num, len(candidates_NP))):
        gain_N = variance_N / np.maximum(noise_N, np.finfo(float).tiny)
        gain_N[chosen] = -np.inf
        best = int(np.argmax(gain_N))
        chosen.append(best)
        cross_N = remaining_NP @ candidates_NP[best]
        scale = variance_N[best] + noise_N[best]
        # One more measurement takes cross' cross / scale away from the covariance of all predictions.
        remaining_NP = remaining_NP - np.outer(cross_N, remaining_NP[best]) / scale
        variance_N = np.maximum(variance_N - cross_N**2 / scale, 0)
    return chosen


def _posterior(prior: DeviceBelief, x_MP: Array, y_M: Array, precision_M: Array) -> tuple[Array, Array]:
    """Mean and covariance, in the form that needs no inverse of the prior's covariance, which may be singular."""
    information_PP = x_MP.T @ (x_MP * precision_M[:, None])
    inner_PP = np.eye(len(prior.mean_P)) + information_PP @ prior.covariance_PP
    covariance_PP = np.linalg.solve(inner_PP.T, prior.covariance_PP.T).T
    covariance_PP = (covariance_PP + covariance_PP.T) / 2
    residual_M = y_M - x_MP @ prior.mean_P
    return prior.mean_P + covariance_PP @ (x_MP.T @ (precision_M * residual_M)), covariance_PP


def _nonnegative_mode(mean_P: Array, covariance_PP: Array) -> Array:
    """The most probable point without a negative coordinate: least squares in the posterior's own metric."""
    values_P, vectors_PP = np.linalg.eigh(covariance_PP)
    root_P = 1 / np.sqrt(np.maximum(values_P, values_P.max() * 1e-12))
    whitener_PP = root_P[:, None] * vectors_PP.T
    unit_P = np.linalg.norm(whitener_PP, axis=0)
    return nnls(whitener_PP / unit_P, whitener_PP @ mean_P, maxiter=50 * len(mean_P))[0] / unit_P


def speed_of(prior: DeviceBelief, x_MP: Array, y_M: Array) -> tuple[float, Array]:
    """How many times slower a device is than the prior's, and its times with that divided out."""
    speed = float(np.median(y_M / at_least(x_MP @ prior.mean_P, y_M)))
    return speed, y_M / speed


def reweight(prior: DeviceBelief, fit: DeviceBelief, x_MP: Array, y_M: Array, *, nonnegative: bool) -> DeviceBelief:
    """The fit of a device of speed 1 with measurements weighted by how well the last fit met them."""
    # Relative to the prediction: relative to the time, one glitch near 0 ms would outweigh all other measurements.
    predicted_M = x_MP @ fit.mean_P
    size_M = fit.noise * at_least(predicted_M, y_M)
    is_first = fit.mean_P is prior.mean_P
    error_M = np.zeros(len(y_M)) if is_first else (y_M - predicted_M) / size_M
    weight_M = (DEGREES_OF_FREEDOM + 1) / (DEGREES_OF_FREEDOM + error_M**2)
    mean_P, covariance_PP = _posterior(prior, x_MP, y_M, weight_M / size_M**2)
    if nonnegative and (mean_P < 0).any():
        mean_P = _nonnegative_mode(mean_P, covariance_PP)
    return DeviceBelief(mean_P, covariance_PP, fit.noise)


def at_least(predicted_N: Array, measured_N: Array) -> Array:
    """Predictions kept away from zero, where a relative error would have no meaning."""
    floor: NDArray[np.float64] = np.maximum(predicted_N, 0.1 * np.abs(measured_N))
    return floor
