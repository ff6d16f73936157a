"""Fits the shipped hardware profiles again from the measurements, and shows or writes their numbers.

    python tests/benchmarks/fit_profiles.py [--write]

Reads the data folder at $ESPALIER_DATA, or `shared/data` beside the repository. `--write` puts the fitted numbers into
conf/hardware/*.yaml and leaves every other character as it is; population and networks are written anew.
"""

import argparse
import csv
import gzip
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from hardware_models.calibration.fitting import (
    Array,
    conformal_factor,
    error_figures,
    fit_with_prior,
)
from hardware_models.calibration.roofline_design import roofline_amounts, roofline_columns, roofline_design
from hardware_models.domain import domain_of
from hardware_models.latency_models.roofline import PriceKind
from search_spaces.operation import Operation

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf" / "hardware"
POPULATION = ROOT / "hardware_models" / "calibration" / "population.yaml"
NETWORKS = ROOT / "hardware_models" / "importers" / "ncnn_networks.yaml"
DATA = Path(os.environ.get("ESPALIER_DATA", ROOT.parent / "shared" / "data"))
LEVEL = 0.9

# Device, threads and power mode of a column of ncnn's table.
Setting = tuple[str, ...]
# Keys of a YAML file down to a number, and the number.
Numbers = dict[tuple[str | int, ...], float | None]

NCNN = {  # device as ncnn's benchmark table begins its name, threads, power mode (0: all cores, 2: big cores)
    "flagship_phone": ("Qualcomm SM8550-AB Snapdragon 8 Gen 2", 4, 2),
    "mid_tablet": ("Qualcomm SDM660 Snapdragon 660", 8, 0),
    "iot_terminal": ("Raspberry Pi 3 Model B+", 4, 0),
    "snapdragon_8_gen_2": ("Qualcomm SM8550-AB Snapdragon 8 Gen 2", 8, 0),
    "snapdragon_888": ("Qualcomm Snapdragon 888", 8, 2),
    "snapdragon_855_plus": ("Qualcomm SM8150-AC Snapdragon 855+", 4, 2),
    "snapdragon_835": ("Qualcomm MSM8998 Snapdragon 835", 4, 2),
    "snapdragon_660": ("Qualcomm SDM660 Snapdragon 660", 1, 2),
    "raspberry_pi_3b_plus": ("Raspberry Pi 3 Model B+", 1, 0),
    "raspberry_pi_4": ("Raspberry Pi 4 Model B", 4, 0),
    "raspberry_pi_5": ("Raspberry Pi 5 Broadcom BCM2712, Cortex-A76", 4, 0),
    "jetson_nano": ("NVIDIA Jetson Nano", 4, 0),
    "rk3588": ("Rockchip RK3588 (Quad Core A76", 4, 2),
    "core_i7_13700k": ("Intel® Core™ i7-13700K", 16, 0),
    "ryzen_5700g": ("AMD Ryzen 5700g", 16, 0),
}
FITTED_KINDS: tuple[PriceKind, ...] = ("pointwise", "dense", "winograd", "depthwise", "grouped", "linear")
COLUMNS = roofline_columns(FITTED_KINDS, overhead_per_kind=False)
# Where nothing is known: 10^9 multiply-adds take as long as 10^9 bytes and as starting 1,000 operations. Hardly counts.
UNIT_COSTS = np.array([1e-3 if column == "overhead" else 1.0 for column in COLUMNS])

NCNN_SOURCE = (
    "Tencent/ncnn, benchmark/README.md and benchmark/models/*.param at commit a4d2ea1d4422c9e849f166fd7a4aefb52f942f6a "
    "(BSD-3-Clause)"
)


def leave_one_out(fit: Callable[[NDArray[np.bool_]], Array], x_NP: Array) -> Array:
    """Predictions (N,), each from `fit(kept)` with that measurement alone left out."""
    return np.array([row_P @ fit(np.arange(len(x_NP)) != i) for i, row_P in enumerate(x_NP)])


def reference_times(log_ms: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Times of each network on a typical device: the median over devices once the speed of each is divided out.

    `log_ms` gives, for each device, the logarithm of the times of the networks that it ran.
    """
    networks = sorted({network for times in log_ms.values() for network in times})
    table_DN = np.array([[times.get(network, np.nan) for network in networks] for times in log_ms.values()])
    for _ in range(10):  # alternate medians; both converge within a few rounds
        centre_N = np.nanmedian(table_DN, axis=0)
        table_DN = table_DN - np.nanmedian(table_DN - centre_N, axis=1, keepdims=True)
    return dict(zip(networks, np.exp(np.nanmedian(table_DN, axis=0)), strict=True))


def rows(name: str) -> Iterator[dict[str, str]]:
    with gzip.open(DATA / name, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


@cache
def ncnn_networks() -> dict[str, list[Operation]]:
    """Layers of each fp network of ncnn's benchmark: the table's, and squeeze-excite."""
    networks: dict[str, list[Operation]] = {}
    for row in rows("latency/ncnn_network_layers.csv.gz"):
        if row["network"].endswith("_int8"):
            continue
        size = {key: int(row[key]) for key in ("in_w", "in_h", "cin", "out_w", "out_h", "cout")}
        in_shape, out_shape = (size["cin"], size["in_h"], size["in_w"]), (size["cout"], size["out_h"], size["out_w"])
        if row["type"] == "InnerProduct":
            operation = Operation("linear", (size["cin"] * size["in_h"] * size["in_w"], 1, 1), (size["cout"], 1, 1))
        else:
            kernel, stride, groups = (int(row[key]) for key in ("kernel", "stride", "groups"))
            operation = Operation("conv", in_shape, out_shape, kernel=kernel, stride=stride, groups=groups)
        if operation.macs != int(row["macs"]):
            raise ValueError(f"{row['network']}, {row['name']}: {operation.macs} multiply-adds, not {row['macs']}")
        networks.setdefault(row["network"], []).append(operation)
    return {name: list(with_squeeze_excite(layers)) for name, layers in networks.items()}


def with_squeeze_excite(layers: Sequence[Operation]) -> Iterator[Operation]:
    """The layers, with what the table leaves out of squeeze-excite: its pool and its scale.

    They stand around two layers of one pixel behind a map, the second of as many channels as the map.
    """
    excited: Operation | None = None
    for before, layer, after in zip([None, *layers[:-1]], layers, [*layers[1:], None], strict=True):
        if before and after and before.out_shape[1] > layer.in_shape[1] == after.in_shape[1] == 1:
            channels = before.out_shape[0]
            if channels == layer.in_shape[0] == after.out_shape[0] > layer.out_shape[0]:
                excited = before
                yield Operation("global_pool", before.out_shape, (channels, 1, 1))
        yield layer
        if excited and before and before.in_shape[1] == 1:
            yield Operation("scale", excited.out_shape, excited.out_shape)
            excited = None


@cache
def ncnn_times() -> dict[Setting, dict[str, float]]:
    """Least time in ms of each network on the CPU, per device, threads and power mode. The least is the most stable."""
    times: dict[Setting, dict[str, float]] = {}
    for row in rows("latency/ncnn_device_benchmark.csv.gz"):
        if row["gpu_device"] == "-1.0":  # empty where the table does not say
            setting = (row["device"], row["num_threads"], row["powersave"])
            network = row["network"].replace("-ssd", "_ssd").replace("mobilenet-yolo", "mobilenet_yolo")
            times.setdefault(setting, {})[network] = float(row["min_ms"])
    return times


def typical_device(times: Mapping[Setting, Mapping[str, float]]) -> np.ndarray:
    """Coefficients of the device whose times are the medians over settings once the speed of each is divided out."""
    features = ncnn_features()
    reference = reference_times({str(s): {n: log(ms) for n, ms in t.items()} for s, t in times.items()})
    reference_NP = np.stack([features[n] for n in reference])
    return fit_with_prior(reference_NP, np.array(list(reference.values())), UNIT_COSTS, strength=0.003)


@cache
def ncnn_features() -> dict[str, np.ndarray]:
    networks = ncnn_networks()
    features_NP = roofline_design(COLUMNS, UNIT_COSTS).features(roofline_amounts(list(networks.values())))
    return dict(zip(networks, features_NP, strict=True))


def usable_times() -> dict[Setting, dict[str, float]]:
    """Times of the networks whose layers are known."""
    known = ncnn_features()
    return {setting: {n: ms for n, ms in t.items() if n in known} for setting, t in ncnn_times().items()}


def leave_one_network_out(own: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and measured times of the networks that a setting ran, each left out of its fit.

    A network that is left out is left out of the other devices' tables as well.
    """
    times, features = usable_times(), ncnn_features()
    others = {s: t for s, t in times.items() if s[0] != own[0] and len(t) >= 12}
    ran = sorted(times[own])
    x_NP, y_N = np.stack([features[n] for n in ran]), np.array([times[own][n] for n in ran])

    def fit(kept_N: np.ndarray) -> np.ndarray:
        left_out = {n for n, kept in zip(ran, kept_N, strict=True) if not kept}
        known = {s: {n: ms for n, ms in t.items() if n not in left_out} for s, t in others.items()}
        return fit_with_prior(x_NP[kept_N], y_N[kept_N], typical_device(known))

    return leave_one_out(fit, x_NP), y_N


def fit_ncnn(name: str) -> Numbers:
    """Numbers of one device: a fit drawn to the other devices' typical network times, its held-out errors and bound."""
    device, threads, power_mode = NCNN[name]
    times, features = usable_times(), ncnn_features()
    wanted = (str(threads), str(power_mode))
    (own,) = (setting for setting in times if setting[0].startswith(device) and setting[1:] == wanted)
    predicted_N, y_N = leave_one_network_out(own)
    x_NP = np.stack([features[n] for n in sorted(times[own])])
    prior_P = typical_device({s: t for s, t in times.items() if s[0] != own[0] and len(t) >= 12})
    model = roofline_design(COLUMNS, prior_P).model(fit_with_prior(x_NP, y_N, prior_P), FITTED_KINDS)
    numbers: Numbers = {("error", key): value for key, value in error_figures(predicted_N, y_N).items()}
    numbers |= {("bound", "n"): len(y_N), ("bound", "factor"): conformal_factor(predicted_N, y_N, level=LEVEL)}
    numbers |= domain_numbers([ncnn_networks()[n] for n in times[own]])
    for key in ("weight_gb_per_s", "activation_gb_per_s"):
        numbers["latency", key] = getattr(model, key)
    for kind, rate in model.kinds.items():
        numbers["latency", "kinds", kind, "throughput_gops"] = rate.throughput_gops
        numbers["latency", "kinds", kind, "overhead_ms"] = rate.overhead_ms
    return numbers


def domain_numbers(networks: Sequence[Sequence[Operation]]) -> Numbers:
    domain = domain_of(networks)
    return {("domain", "growth"): domain.growth} | {("domain", "pixels", i): domain.pixels[i] for i in range(2)}


def fit_population() -> dict[str, Any]:
    """The content of population.yaml: the typical roofline and the spread of all settings about it."""
    times, features = {s: t for s, t in usable_times().items() if len(t) >= 12}, ncnn_features()
    typical_P = typical_device(times)
    logs, residuals = [], []
    for setting_times in times.values():
        x_NP, y_N = np.stack([features[n] for n in setting_times]), np.array(list(setting_times.values()))
        coefficients_P = fit_with_prior(x_NP, y_N, typical_P)
        logs.append(np.log(coefficients_P / typical_P))
        residuals += list(np.abs(x_NP @ coefficients_P / y_N - 1))
    logs_DP = np.array(logs)
    speed_D = np.median(logs_DP, axis=1)
    deviation_P = (logs_DP - speed_D[:, None]).std(axis=0)
    return {
        "columns": {
            column: {"typical": float(f"{typical:.4g}"), "log_deviation": float(f"{deviation:.3g}")}
            for column, typical, deviation in zip(COLUMNS, typical_P, deviation_P, strict=True)
        },
        "noise": float(f"{1.48 * np.median(residuals):.3g}"),
        "slowest_over_typical": float(f"{np.exp(speed_D.max()):.3g}"),
        "fastest_over_typical": float(f"{np.exp(speed_D.min()):.3g}"),
        "settings": len(times),
        "devices": len({setting[0] for setting in times}),
        "networks": len({network for setting_times in times.values() for network in setting_times}),
        "source": NCNN_SOURCE,
    }


FITS: dict[str, Callable[[str], Numbers]] = dict.fromkeys(NCNN, fit_ncnn)


def shipped_number(mapping: Any, keys: tuple[str | int, ...]) -> float | None:
    for key in keys:
        mapping = mapping[key]
    return mapping


def with_numbers(text: str, numbers: Numbers) -> str:
    """YAML `text` with these numbers in place of its own, to four digits; comments and layout stay."""
    spans = []
    for keys, number in numbers.items():
        node: Any = yaml.compose(text)
        for key in keys:
            node = node.value[key] if isinstance(key, int) else next(v for k, v in node.value if k.value == key)
        shown = "null" if number is None else str(number) if isinstance(number, int) else f"{float(f'{number:.4g}')}"
        spans.append((node.start_mark.index, node.end_mark.index, shown))
    for start, end, shown in sorted(spans, reverse=True):
        text = text[:start] + shown + text[end:]
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the fitted numbers into conf/hardware/*.yaml")
    write = parser.parse_args().write
    show_or_write(FITS, write=write)
    population = yaml.safe_dump(fit_population(), sort_keys=False, width=120)
    print(f"\npopulation\n{population}")
    if write:
        POPULATION.write_text(population, encoding="utf-8")
        NETWORKS.write_text(networks_text(), encoding="utf-8")


def networks_text() -> str:
    """The layers of ncnn's networks in YAML, each by its notation with how often a network runs it."""
    counts = {name: Counter(layer.notation for layer in layers) for name, layers in ncnn_networks().items()}
    head = f"Layers of the networks of ncnn's benchmark and how often each runs; from fit_profiles.py.\n# {NCNN_SOURCE}"
    rows = (line for name, own in counts.items() for line in (f"{name}:", *(f"  {k}: {n}" for k, n in own.items())))
    return "\n".join([f"# {head}", *rows, ""])


def show_or_write(fits: Mapping[str, Callable[[str], Numbers]], *, write: bool) -> None:
    """Shipped numbers beside fitted ones; `write` puts these into the files."""
    for name, fit in fits.items():
        path = CONF / f"{name}.yaml"
        numbers, text = fit(name), path.read_text(encoding="utf-8")
        print(f"\n{name:45s} {'shipped':>10s} {'refitted':>10s}")
        for keys, number in numbers.items():
            shipped = shipped_number(yaml.safe_load(text), keys)
            print(f"  {'.'.join(map(str, keys)):43s} {_show(shipped):>10s} {_show(number):>10s}")
        if write:
            path.write_text(with_numbers(text, numbers), encoding="utf-8")


def _show(number: float | None) -> str:
    return "null" if number is None else f"{number:.4g}"


if __name__ == "__main__":
    main()
