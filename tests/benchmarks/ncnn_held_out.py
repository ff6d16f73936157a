"""Held-out errors on ncnn's benchmark: a network left out of a device, a device of which five networks are measured.

    python tests/benchmarks/ncnn_held_out.py

Every setting (device, threads, power mode) that the table gives on a CPU, networks in floating point whose layers are
known. Figures are medians over settings of the mean absolute percentage error, and shares of all predictions. Reads the
data folder at $ESPALIER_DATA, or `shared/data` beside the repository.

- known elsewhere: the network was measured on other devices, not on this one. The prior holds its time on each
  of them; a device's own other settings count as this device.
- new: the network was measured nowhere. A roofline prices it by its layers.
- plain: as new, by non-negative least squares of eight features, without a prior.
"""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from fit_profiles import Setting, leave_one_network_out, leave_one_out, ncnn_networks, reference_times, usable_times
from learned_prior import learn_prior
from scipy.optimize import nnls

from hardware_models.calibration.device_prior import DeviceBelief, choose_measurements, fit_device
from hardware_models.calibration.roofline_design import roofline_amounts, roofline_columns, roofline_design

NUM_MEASURED = 5
PLAIN = roofline_columns(("pointwise", "dense", "depthwise", "grouped", "linear"), overhead_per_kind=False)

# Measured and predicted times (N,) of one setting.
Pairs = tuple[np.ndarray, np.ndarray]


@cache
def times() -> dict[Setting, dict[str, float]]:
    return usable_times()


@cache
def other_devices(device: str) -> tuple[DeviceBelief, dict[str, np.ndarray]]:
    """The prior of all devices but this one, and each network's feature: itself, at its time on a typical device."""
    others = {setting: t for setting, t in times().items() if setting[0] != device}
    logs = {str(s): {network: float(np.log(ms)) for network, ms in t.items()} for s, t in others.items()}
    typical = reference_times(logs)
    feature = dict(zip(typical, np.diag(list(typical.values())), strict=True))
    devices = [(np.stack([feature[n] for n in t]), np.array(list(t.values()))) for t in others.values()]
    return learn_prior(devices), feature


def known_elsewhere(setting: Setting) -> Pairs:
    prior, feature = other_devices(setting[0])
    x_NP = np.stack([feature[network] for network in times()[setting]])
    y_N = np.array(list(times()[setting].values()))
    return y_N, leave_one_out(lambda kept_N: fit_device(prior, x_NP[kept_N], y_N[kept_N]).mean_P, x_NP)


def five_measured(setting: Setting) -> Pairs:
    """Five designed measurements; the rest predicted."""
    prior, feature = other_devices(setting[0])
    x_NP = np.stack([feature[network] for network in times()[setting]])
    y_N = np.array(list(times()[setting].values()))
    return _rest(prior, x_NP, y_N, np.array(choose_measurements(prior, x_NP, NUM_MEASURED)))


def five_at_random(setting: Setting) -> Pairs:
    """Five random measurements, over ten draws; the rest predicted."""
    prior, feature = other_devices(setting[0])
    x_NP = np.stack([feature[network] for network in times()[setting]])
    y_N = np.array(list(times()[setting].values()))
    generator = np.random.default_rng(0)
    draws = [_rest(prior, x_NP, y_N, generator.choice(len(y_N), NUM_MEASURED, replace=False)) for _ in range(10)]
    return np.concatenate([y for y, _ in draws]), np.concatenate([p for _, p in draws])


def _rest(prior: DeviceBelief, x_NP: np.ndarray, y_N: np.ndarray, measured: np.ndarray) -> Pairs:
    rest = np.setdiff1d(np.arange(len(y_N)), measured)
    return y_N[rest], fit_device(prior, x_NP[measured], y_N[measured]).predict_ms(x_NP[rest])


def new(setting: Setting) -> Pairs:
    predicted_N, y_N = leave_one_network_out(setting)
    return y_N, predicted_N


def plain(setting: Setting) -> Pairs:
    networks = ncnn_networks()
    amounts_NF = roofline_amounts([networks[network] for network in times()[setting]])
    x_NP = roofline_design(PLAIN, np.ones(len(PLAIN))).features(amounts_NF)
    y_N = np.array(list(times()[setting].values()))

    def fit(kept_N: np.ndarray) -> np.ndarray:
        return nnls(x_NP[kept_N] / y_N[kept_N, None], np.ones(int(kept_N.sum())))[0]

    return y_N, leave_one_out(fit, x_NP)


ROWS: dict[str, tuple[Callable[[Setting], Pairs], str]] = {
    "network left out, known elsewhere": (known_elsewhere, "10.0 %, 75 %"),
    "device left out, five designed": (five_measured, "15.0 %"),
    "device left out, five random": (five_at_random, ""),
    "network left out, new": (new, ""),
    "network left out, new, plain": (plain, ""),
}


def figures(predict: Callable[[Setting], Pairs]) -> tuple[float, float, float, int]:
    """Median over settings of the mean error, share of predictions within 20 %, 90 % quantile over settings, count."""
    errors = list(_errors(predict))
    means = [float(error_N.mean()) for error_N in errors]
    within = float((np.concatenate(errors) <= 0.2).mean())
    return float(np.median(means)), within, float(np.quantile(means, 0.9)), len(errors)


def _errors(predict: Callable[[Setting], Pairs]) -> Iterator[np.ndarray]:
    for setting in times():
        measured_N, predicted_N = predict(setting)
        yield np.abs(predicted_N / measured_N - 1)


def main() -> None:
    print(f"{'':36s} {'median':>8s} {'90 %':>8s} {'within 20 %':>12s} {'settings':>9s}   asked")
    for name, (predict, asked) in ROWS.items():
        median, within, high, count = figures(predict)
        print(f"{name:36s} {median:8.1%} {high:8.1%} {within:12.1%} {count:9d}   {asked}", flush=True)


if __name__ == "__main__":
    main()
