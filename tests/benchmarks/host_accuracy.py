"""How well the `host` profile foretells this machine: random networks of two spaces, measured, none used to fit it.

    python tests/benchmarks/host_accuracy.py [--networks 40] [--threads 1] [--cache FOLDER]

The profile is measured now, or read from the cache. Each network is exported and timed by onnxruntime; all are timed in
turns, so that a disturbance of the machine falls on all alike. Prints errors per space and together, and the worst.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import yaml

from hardware_models.calibration.fitting import error_figures
from hardware_models.measuring.host_profile import measure_host_profile
from hardware_models.measuring.measure import export, time_in_turns
from hardware_models.profile import HardwareProfile, profile_from_dict
from search_spaces.architecture import SPACES
from search_spaces.blocks import without_resize
from search_spaces.space import Choice, SearchSpace

CONF = Path(__file__).resolve().parents[2] / "conf"
NUM_CLASSES = 10


def space_of(name: str) -> SearchSpace:
    spec = yaml.safe_load((CONF / "space" / f"{name}.yaml").read_text(encoding="utf-8"))
    return SPACES[spec.pop("name")](**spec, num_classes=NUM_CLASSES)


def connected_networks(space: SearchSpace, num: int, generator: np.random.Generator) -> Iterator[dict[str, Choice]]:
    """Random networks. A cell that passes nothing on is left out: it computes a constant, which runtimes fold away."""
    while num:
        choices = space.choices([int(generator.integers(len(decision.choices))) for decision in space.decisions])
        if space.name != "nasbench201" or passes_input(choices):
            num -= 1
            yield choices


def passes_input(cell: Mapping[str, Choice]) -> bool:
    """Whether some path of a NAS-Bench-201 cell leads from its input to its output."""
    edges = {(edge[-2], edge[-1]) for edge, operation in cell.items() if operation != "none"}
    return bool(
        {("0", "3")} & edges
        or {("0", "1"), ("1", "3")} <= edges
        or {("0", "2"), ("2", "3")} <= edges
        or {("0", "1"), ("1", "2"), ("2", "3")} <= edges
    )


def predicted_ms(profile: HardwareProfile, space: SearchSpace, choices: dict) -> float:
    prices = [profile.price(operation)["latency_ms"] for operation in space.operations(choices)]
    return profile.constant_ms + sum(prices)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--cache", type=Path, default=None)
    arguments = parser.parse_args()
    cache = arguments.cache or Path(tempfile.mkdtemp())
    profile = profile_from_dict("host", measure_host_profile(threads=arguments.threads, cache_dir=cache))
    generator = np.random.default_rng(12345)
    names, predicted, models = [], [], []
    for name in ("mobile", "nasbench201"):
        space = space_of(name)
        for choices in connected_networks(space, arguments.networks, generator):
            names.append((name, space.notation(choices)))
            predicted.append(predicted_ms(profile, space, choices))
            models.append(export(without_resize(space.network(choices)), space.input_shape(choices)))
    measured = time_in_turns(models, threads=arguments.threads, repeats=arguments.repeats)
    _print(names, np.array(predicted), np.array([m.p50_ms for m in measured]), profile)


def _print(
    names: list[tuple[str, str]], predicted_N: np.ndarray, measured_N: np.ndarray, profile: HardwareProfile
) -> None:
    print(f"\n{profile.title}; {profile.runtime}, {profile.threads} threads")
    print("space          n  mean error   median  within 20 %  Spearman  bound covers")
    spaces = np.array([space for space, _ in names])
    upper_N = np.array([profile.upper("latency_ms", ms) for ms in predicted_N])
    for label in ("mobile", "nasbench201", "both"):
        of = (spaces == label) | (label == "both")
        figures = error_figures(predicted_N[of], measured_N[of])
        print(
            f"{label:12s} {figures['n']:3d} {figures['mape']:11.1%} {figures['median_ape']:8.1%}"
            f" {figures['within_20_share']:12.0%} {figures['spearman']:9.3f} {(upper_N >= measured_N)[of].mean():13.0%}"
        )
    print("worst: predicted, measured ms")
    for i in np.argsort(-np.abs(predicted_N / measured_N - 1))[:5]:
        print(f"  {predicted_N[i]:8.3f} {measured_N[i]:8.3f}  {names[i][0]}: {names[i][1]}")


if __name__ == "__main__":
    main()
