"""Fits the phones' profiles again from their block table, and shows or writes their numbers.

    python tests/benchmarks/fit_block_profiles.py [--write]

Prints the held-out errors by kind of block as well. Reads the data folder at $ESPALIER_DATA, or `shared/data` beside
the repository. `--write` puts the numbers into conf/hardware/*.yaml and leaves every other character as it is.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import yaml
from fit_profiles import CONF, LEVEL, Numbers, domain_numbers, shipped_number, with_numbers
from table_interpolation import PhoneBlock, channels, kind, phone_blocks

from hardware_models.calibration.fitting import conformal_factor, error_figures, fit_nonnegative
from hardware_models.calibration.roofline_design import roofline_amounts, roofline_columns, roofline_design
from hardware_models.latency_models.roofline import PriceKind

PHONES = {"pixel1": "pixel1", "pixel4": "pixel4", "pixel6": "pixel6", "xiaomi_11": "xiaomi11"}  # profile: column
# Attention and feed-forward blocks stay out: products and layer norms, which no operation stands for, are part of them.
FITTED_BLOCKS = ("firstconv", "conv", "transds", "mbpool")
FITTED_KINDS: tuple[PriceKind, ...] = ("pointwise", "dense", "depthwise", "linear", "pool", "elementwise")
COLUMNS = roofline_columns(FITTED_KINDS, overhead_per_kind=False)
DESIGN = roofline_design(COLUMNS, np.ones(len(COLUMNS)))
FOLDS = 10


def fitted_blocks(name: str) -> Sequence[PhoneBlock]:
    return [block for block in phone_blocks(PHONES[name]) if kind(block) in FITTED_BLOCKS]


def folds(blocks: Sequence[PhoneBlock]) -> np.ndarray:
    """The fold of each block, from 0. Blocks of one (cin, cout) share theirs, whatever their kind."""
    pairs = sorted({channels(block)[1] for block in blocks})
    order = np.random.default_rng(0).permutation(len(pairs))
    fold = {pair: int(place) % FOLDS for pair, place in zip(pairs, order, strict=True)}
    return np.array([fold[channels(block)[1]] for block in blocks])


def held_out(blocks: Sequence[PhoneBlock]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times predicted by the fits without a block's fold, measured times, and the coefficients of the fit to all."""
    x_NP = DESIGN.features(roofline_amounts([block.operations for block in blocks]))
    y_N, fold_N = np.array([block.entry.ms for block in blocks]), folds(blocks)
    predicted_N = np.empty(len(blocks))
    for fold in range(FOLDS):
        out_N = fold_N == fold
        predicted_N[out_N] = x_NP[out_N] @ fit_nonnegative(x_NP[~out_N], y_N[~out_N])
    return predicted_N, y_N, fit_nonnegative(x_NP, y_N)


def fit_phone(name: str) -> Numbers:
    """Numbers of one phone: a fit to all of its blocks, errors and bound from pairs of channels left out in turn."""
    predicted_N, y_N, coefficients_P = held_out(fitted_blocks(name))
    model = DESIGN.model(coefficients_P, FITTED_KINDS)
    numbers: Numbers = {("error", key): value for key, value in error_figures(predicted_N, y_N).items()}
    numbers |= {("bound", "n"): len(y_N), ("bound", "factor"): conformal_factor(predicted_N, y_N, level=LEVEL)}
    numbers |= domain_numbers([block.operations for block in fitted_blocks(name)])
    for key in ("weight_gb_per_s", "activation_gb_per_s"):
        numbers["latency", key] = getattr(model, key)
    rates = model.kinds | {"grouped": model.kinds["depthwise"]}  # not in the table: the slowest kind of convolution
    for price_kind, rate in rates.items():
        numbers["latency", "kinds", price_kind, "throughput_gops"] = rate.throughput_gops
        numbers["latency", "kinds", price_kind, "overhead_ms"] = rate.overhead_ms
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the fitted numbers into conf/hardware/*.yaml")
    write = parser.parse_args().write
    for name in PHONES:
        path, numbers = CONF / f"{name}.yaml", fit_phone(name)
        text = path.read_text(encoding="utf-8")
        print(f"\n{name:45s} {'shipped':>10s} {'refitted':>10s}")
        for keys, number in numbers.items():
            shipped = shipped_number(yaml.safe_load(text), keys)
            print(f"  {'.'.join(map(str, keys)):43s} {_show(shipped):>10s} {_show(number):>10s}")
        _print_residuals(fitted_blocks(name))
        if write:
            path.write_text(with_numbers(text, numbers), encoding="utf-8")


def _print_residuals(blocks: Sequence[PhoneBlock]) -> None:
    predicted_N, y_N, _ = held_out(blocks)
    for name in FITTED_BLOCKS:
        error_N = (predicted_N / y_N - 1)[[kind(block) == name for block in blocks]]
        mape, mean = float(np.abs(error_N).mean()), float(error_N.mean())
        print(f"  {name:10s} {len(error_N):5d} blocks: MAPE {mape:6.1%}, mean error {mean:+6.1%}")


def _show(number: float | None) -> str:
    return "null" if number is None else f"{number:.4g}"


if __name__ == "__main__":
    main()
