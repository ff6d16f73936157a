"""How far a roofline's bound must be widened for networks of other input sizes than those that it was fitted to.

    python tests/benchmarks/bound_domain.py [--repeats 20]

Two tables. ncnn's: rooflines of its devices, fitted to networks of some input sizes, beside the times of the others;
reads the data folder at $ESPALIER_DATA, or `shared/data` beside the repository. This machine's: a roofline fitted to
random mobile networks of 128 to 224 pixels a side, beside the times of networks of 16 to 96, onnxruntime, one thread.
A ratio is that of pixels; `power` is the least p for which the bound times ratio ** p covers the share LEVEL.
"""

import argparse
from collections.abc import Callable, Sequence
from datetime import date
from math import ceil
from random import Random

import numpy as np
from fit_profiles import LEVEL, leave_one_out, ncnn_features, ncnn_networks, typical_device, usable_times

from hardware_models.calibration.fitting import Array, conformal_factor, fit_with_prior
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_design import network_design, roofline_amounts
from hardware_models.domain import Domain, domain_of
from hardware_models.measuring.measure import machine_description, time_in_turns, versions
from hardware_models.measuring.random_networks import STRIDES, Network, mobile_network

INSIDE, OUTSIDE = (128, 160, 192, 224), (16, 20, 32, 48, 64, 96)
SMALL_STRIDES = (1, 1, 2, 2, 1, 2)  # below 64 pixels, as the space `mobile` has them
NUM_INSIDE, NUM_EACH = 40, 15


def excess(x_NP: Array, y_N: Array, prior_P: Array, others_MP: Array, others_M: Array) -> Array:
    """Times of other networks (M,) over the bound of a fit to these."""
    held_out_N = leave_one_out(lambda kept_N: fit_with_prior(x_NP[kept_N], y_N[kept_N], prior_P), x_NP)
    factor = conformal_factor(held_out_N, y_N, level=LEVEL)
    return others_M / (factor * (others_MP @ fit_with_prior(x_NP, y_N, prior_P)))


def power(excess_M: Array, ratio_M: Array) -> float:
    """The ranked power that the bounds must grow with."""
    rank = ceil((len(excess_M) + 1) * LEVEL - 1e-9)
    return float(np.sort(np.log(excess_M) / np.log(ratio_M))[rank - 1])


def show(what: str, excess_M: Array, ratio_M: Array) -> None:
    print(
        f"{what:34s} n {len(excess_M):4d}  ratio {ratio_M.min():5.1f}–{ratio_M.max():5.1f}  "
        f"within the bound {np.mean(excess_M <= 1):6.1%}  power {power(excess_M, ratio_M):6.3f}"
    )


def ratio(domain: Domain, pixels: int) -> float:
    return domain.model_copy(update={"growth": 1.0}).widening([pixels])


def of_ncnn(what: str, fits: Callable[[int], bool]) -> None:
    """A row: every device's roofline of the networks whose input's pixels `fits` keeps, and the other networks."""
    features, layers = ncnn_features(), ncnn_networks()
    pixels = {name: domain_of([own]).pixels[0] for name, own in layers.items()}
    kept = {name for name in layers if fits(pixels[name])}
    domain = domain_of(layers[name] for name in kept)
    all_times = usable_times()
    inside = {s: {n: ms for n, ms in times.items() if n in kept} for s, times in all_times.items()}
    inside = {setting: times for setting, times in inside.items() if len(times) >= 12}
    prior_P = typical_device(inside)
    found, ratios = [], []
    for setting, times in inside.items():
        others = [name for name in all_times[setting] if name not in kept]
        if others:
            stacked = [np.stack([features[name] for name in names]) for names in (times, others)]
            others_ms = np.array([all_times[setting][name] for name in others])
            found += list(excess(stacked[0], np.array(list(times.values())), prior_P, stacked[1], others_ms))
            ratios += [ratio(domain, pixels[name]) for name in others]
    show(what, np.array(found), np.array(ratios))


def of_this_machine(repeats: int) -> None:
    random = Random(0)
    inside = [mobile_network(random, resolution=random.choice(INSIDE)) for _ in range(NUM_INSIDE)]
    outside = [
        mobile_network(random, resolution=side, strides=STRIDES if side >= 64 else SMALL_STRIDES)
        for side in OUTSIDE
        for _ in range(NUM_EACH)
    ]
    models = [network.graph.model() for network in [*inside, *outside]]
    times_N = np.empty(len(models))
    for chosen in np.array_split(np.random.default_rng(0).permutation(len(models)), 10):  # all at once need 11 GB
        timed = time_in_turns([models[i] for i in chosen], threads=1, repeats=repeats)
        times_N[chosen] = [found.min_ms for found in timed]
    amounts_NF = roofline_amounts([network.operations for network in [*inside, *outside]])
    design = network_design(load_population(), amounts_NF[:NUM_INSIDE])
    x_NP = design.features(amounts_NF)
    excess_M = excess(x_NP[:NUM_INSIDE], times_N[:NUM_INSIDE], design.prior_P, x_NP[NUM_INSIDE:], times_N[NUM_INSIDE:])
    ratio_M = ratios_of(inside, outside)
    for side in OUTSIDE:
        own_M = np.array([network.operations[0].in_shape[1] == side for network in outside])
        show(f"this machine, {side} pixels a side", excess_M[own_M], ratio_M[own_M])
    show("this machine, all of these", excess_M, ratio_M)


def ratios_of(inside: Sequence[Network], outside: Sequence[Network]) -> Array:
    domain = domain_of(network.operations for network in inside)
    return np.array([ratio(domain, domain_of([network.operations]).pixels[0]) for network in outside])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    print(f"{date.today().isoformat()}, {machine_description()}, {versions()}; level {LEVEL:g}")
    of_ncnn("ncnn, fitted from 224 a side up", lambda pixels: pixels >= 224**2)
    of_ncnn("ncnn, fitted up to 227 a side", lambda pixels: pixels <= 227**2)
    of_this_machine(repeats)


if __name__ == "__main__":
    main()
