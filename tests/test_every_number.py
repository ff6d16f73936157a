"""Every number of a result.json is what its name says. A number that no rule here computes fails the test."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from recomputed import (
    IMAGES,
    SIDE,
    Whole,
    accuracy,
    alive,
    balanced,
    bounds,
    entropy,
    most_used,
    of_agreement,
    of_candidate,
    of_image,
    of_metrics,
    of_validation,
    prices,
    scored,
    used,
    widening,
    write_images,
)
from tiny_search import MOBILE, SHORT
from whole_searches import read_csv, run

GIVEN = (
    *MOBILE,
    *SHORT,
    "space.resolutions=[48]",
    "space.depths=[1]",  # so few networks that all of them can be priced
    "data=image_folder",
    "data.limit=null",
    "trainer.steps=12",
    "trainer.validation_images=null",
    "trainer.deploy=true",
    "trainer.keep=supernet",
    "trainer.keep_weights=best_k",
    "trainer.threads=1",
    "strategy.pool_size=32",
    "hardware.mid_tablet.budgets={latency_ms: 9, gflops: null}",
    "hardware.iot_terminal.budgets={latency_ms: 60, gflops: 0.005}",
)
CLOCKS = {  # of this machine at that time
    r"objective/seconds": (0, None),
    r"search/(train|derive|cpu)_seconds": (0, None),
    r"search/step_over_floor": (0, None),
    r"search/pruning/by_logits": (0, 8),
    r"search/pruning/agreement": (-1, 1),  # its losses are in no file
    r"search/peak_memory_mb": (50, 1e6),
}
D, N = r"(mid_tablet|iot_terminal)", r"(\d+)"
ROWS = r"(candidates|random_candidates|larger_candidates_that_lost|best)"
FIGURES = r"(utilisation|validation_accuracy|validation_loss|evidence/logits)"
COSTS = r"(latency_ms|gflops|params_m|peak_memory_mb|flash_kb|sram_kb)"
Rule = Callable[..., float]
RULES: dict[str, Rule] = {
    r"schema": lambda w: 1,
    r"attempts": lambda w: 1,
    r"seed": lambda w: w.plan.config.seed,
    r"threads": lambda w: torch.get_num_threads(),
    r"data/images/(weights|architecture)": lambda w, part: w.plan.data.size(part),
    r"data/images/validation": lambda w: sum(IMAGES["val"]),
    r"data/images/test": lambda w: sum(IMAGES["test"]),
    r"data/duplicates/test_in_training": lambda w: 2,
    r"data/duplicates/(test_in_validation|validation_in_training)": lambda w, kind: 1,
    r"data/duplicates/in_two_classes": lambda w: 2,
    r"data/majority/share": lambda w: max(IMAGES["test"]) / sum(IMAGES["test"]),
    rf"devices/{D}/budgets/{COSTS}": lambda w, d, m: w.plan.config.hardware[d]["budgets"][m],
    rf"devices/{D}/utilisation/{COSTS}": lambda w, d, m: (
        bounds(w, d, w.device(d)["notation"])[m] / w.device(d)["budgets"][m]
    ),
    rf"devices/{D}/(?:predicted|recounted)/{COSTS}": lambda w, d, m: prices(w, d, w.device(d)["notation"])[m],
    rf"devices/{D}/(?:upper|held)/{COSTS}": lambda w, d, m: bounds(w, d, w.device(d)["notation"])[m],
    rf"devices/{D}/upper_level": lambda w, d: w.plan.config.hardware[d]["bound"]["level"],
    rf"devices/{D}/profile/threads": lambda w, d: w.plan.config.hardware[d]["threads"],
    rf"devices/{D}/profile/(error|bound)/(\w+)": lambda w, d, part, key: w.plan.config.hardware[d][part][key],
    rf"devices/{D}/profile/domain/growth": lambda w, d: w.plan.config.hardware[d]["domain"]["growth"],
    rf"devices/{D}/profile/domain/pixels/{N}": lambda w, d, k: w.plan.config.hardware[d]["domain"]["pixels"][int(k)],
    rf"devices/{D}/profile/widening": lambda w, d: widening(w, d),
    rf"devices/{D}/(?:trained_size|input_size|file/size)/{N}": lambda w, d, k: SIDE,
    rf"devices/{D}/file/bytes": lambda w, d: (w.folder / w.device(d)["file"]["path"]).stat().st_size,
    rf"devices/{D}/file/channels": lambda w, d: 3,
    rf"devices/{D}/file/(mean|std)/{N}": of_image,
    rf"devices/{D}/accuracy/images": lambda w, d: sum(IMAGES["test"]),
    rf"devices/{D}/accuracy/(\w+)": lambda w, d, kind: accuracy(*scored(w, d, kind)),
    rf"devices/{D}/accuracy/balanced/(\w+)": lambda w, d, kind: balanced(*scored(w, d, kind)),
    rf"devices/{D}/validation/(\w+)": of_validation,
    rf"devices/{D}/taken/{FIGURES}": lambda w, d, figure: of_candidate(w, d, w.row(d, "taken"), figure),
    rf"devices/{D}/{ROWS}/{N}/{FIGURES}": lambda w, d, rows, n, figure: of_candidate(w, d, w.row(d, rows, n), figure),
    rf"devices/{D}/best/{N}/predicted/{COSTS}": lambda w, d, n, m: prices(w, d, w.row(d, "best", n)["notation"])[m],
    rf"devices/{D}/agreement/([\w/]+)": of_agreement,
    r"objective/validation_accuracy": lambda w: np.mean([of_validation(w, d, "accuracy") for d in w.devices]),
    r"objective/utilisation": lambda w: max(used(w, d, w.device(d)["notation"]) for d in w.devices),
    rf"objective/{D}/validation_accuracy": lambda w, d: of_validation(w, d, "accuracy"),
    rf"objective/{D}/{COSTS}": lambda w, d, m: bounds(w, d, w.device(d)["notation"])[m],
    rf"transfer/{D}/{D}/{COSTS}": lambda w, d, other, m: prices(w, other, w.device(d)["notation"])[m],
    rf"transfer/{D}/{D}/latency_upper_ms": lambda w, d, other: bounds(w, other, w.device(d)["notation"])["latency_ms"],
    rf"transfer/{D}/{D}/utilisation": lambda w, d, other: used(w, other, w.device(d)["notation"]),
    r"search/steps": lambda w: w.plan.config.trainer.steps,
    r"search/entropy": entropy,
    r"search/processes": lambda w: 1,
    r"search/pruning/events": lambda w: w.plan.config.trainer.prune_events,
    rf"search/choices_alive/{D}": lambda w, d: sum(map(len, alive(w, d))),
    rf"search/worst_surviving_share/{D}": most_used,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    root, began = write_images(tmp_path_factory.mktemp("images")), time.perf_counter()
    found = run(tmp_path_factory.mktemp("runs"), *GIVEN, f"data.root={root}")
    return Whole(**vars(found), root=root, seconds=time.perf_counter() - began)


def numbers(content: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(content, dict | list):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in pairs:
            yield from numbers(value, f"{path}/{key}" if path else str(key))
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield path, content


def test_every_number_is_what_its_name_says(whole: Whole) -> None:
    stored = json.loads((whole.folder / "result.json").read_text(encoding="utf-8"))
    unknown, wrong, seen = [], [], set()
    for path, value in numbers(stored):
        clocks = [limits for pattern, limits in CLOCKS.items() if re.fullmatch(pattern, path)]
        found = [(rule, match) for pattern, rule in RULES.items() if (match := re.fullmatch(pattern, path))]
        seen |= {pattern for pattern in RULES if re.fullmatch(pattern, path)}
        if clocks:
            ((least, most),) = clocks
            assert least < value < (2 * whole.seconds if most is None else most), path
        elif not found:
            unknown.append(path)
        elif value != pytest.approx(expected := found[0][0](whole, *found[0][1].groups()), rel=1e-4, abs=1e-4):
            wrong.append((path, value, expected))
    assert unknown == []
    assert wrong == []
    assert seen == set(RULES)


METRICS: dict[str, Rule] = {
    rf"hw/{D}/{COSTS}_(expected|budget|slack|worst)": of_metrics,
    rf"hw/{D}/met": lambda w, d: most_used(w, d) <= 1,
    r"arch/entropy": entropy,
    r"prune/choices_alive": lambda w: sum(len(left) for d in w.devices for left in alive(w, d)),
    r"step": lambda w: w.plan.config.trainer.steps,
}
DURING = {"epoch", "train/loss", "train/acc", "time/step_s", "val/loss", "val/acc"}  # of moments before the end


def test_metrics_of_the_last_epoch_are_what_their_names_say(whole: Whole) -> None:
    row = read_csv(whole.folder / "metrics.csv")[-1]
    computed = {}
    for name in row.keys() - DURING:
        ((rule, match),) = [(rule, match) for p, rule in METRICS.items() if (match := re.fullmatch(p, name))]
        computed[name] = float(rule(whole, *match.groups()))
    assert {name: float(row[name]) for name in computed} == pytest.approx(computed, rel=1e-4)
