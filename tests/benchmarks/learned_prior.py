"""What devices measured before have in common: the prior that the shipped populations were made with."""

# Shapes: D devices, N networks, P features, K ways in which devices differ by construction.

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hardware_models.calibration.device_prior import DeviceBelief, at_least, reweight, speed_of
from hardware_models.calibration.fitting import Array

EM_ROUNDS = 15
LEAST_NOISE = 0.003  # relative: below it, sums of exact tables would leave nothing to learn from


def learn_prior(
    devices: Sequence[tuple[Array, Array]], *, shrinkage: float = 0.1, structure_PK: Array | None = None
) -> DeviceBelief:
    """The prior that devices measured before, each (x_NP, y_N in ms), have in common; by expectation maximisation.

    The covariance is drawn by `shrinkage` to its diagonal: a few devices cannot tell all correlations. Columns of
    `structure_PK` are added as directions of deviation: ways in which any device may differ (its rate of
    multiply-adds, say) though the known ones do not, each in coefficients.
    """
    start_P = np.array([np.median([y.mean() for _, y in devices])]) * np.ones(devices[0][0].shape[1])
    total = np.concatenate([x for x, _ in devices]).mean(axis=0) @ start_P
    mean_P = start_P / max(total, np.finfo(float).tiny)
    prior = DeviceBelief(mean_P, np.diag(mean_P**2) + np.outer(mean_P, mean_P), noise=0.1)
    # Noise is each device's own: some timers are ten times better than others.
    fits = [DeviceBelief(mean_P, prior.covariance_PP, prior.noise)] * len(devices)
    for _ in range(EM_ROUNDS):
        unit = [(x_NP, speed_of(prior, x_NP, y_N)[1]) for x_NP, y_N in devices]
        fits = [reweight(prior, fit, x, y, nonnegative=False) for fit, (x, y) in zip(fits, unit, strict=True)]
        fits = [
            replace(fit, noise=max(_spread(fit, x, y), LEAST_NOISE)) for fit, (x, y) in zip(fits, unit, strict=True)
        ]
        mean_P = np.mean([fit.mean_P for fit in fits], axis=0)
        spread = [np.outer(f.mean_P - mean_P, f.mean_P - mean_P) + f.covariance_PP for f in fits]
        prior = DeviceBelief(mean_P, np.mean(spread, axis=0), float(np.median([fit.noise for fit in fits])))
    covariance_PP = prior.covariance_PP
    covariance_PP = (1 - shrinkage) * covariance_PP + shrinkage * np.diag(np.diag(covariance_PP))
    if structure_PK is not None:
        covariance_PP = covariance_PP + structure_PK @ structure_PK.T
    return DeviceBelief(prior.mean_P, covariance_PP, prior.noise)


def _spread(fit: DeviceBelief, x_NP: Array, y_N: Array) -> float:
    """Spread of the relative residuals: 1.48 of their median size, as for a Gaussian."""
    predicted_N = x_NP @ fit.mean_P
    return 1.48 * float(np.median(np.abs(y_N - predicted_N) / at_least(predicted_N, y_N)))
