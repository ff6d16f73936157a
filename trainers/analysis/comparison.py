"""Arms of a comparison beside one another: means and deviations over seeds, and differences of the same seed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, get_args

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from search_spaces.errors import InvalidInputError
from trainers.analysis.loading import Run, load_run
from trainers.runs.compare_result import (
    ALL_DEVICES,
    ARMS,
    LESS_IS_BETTER,
    SCHEMA,
    Arm,
    Arms,
    BenchmarkConfig,
    Comparison,
    Difference,
    Figure,
    Row,
    Spread,
    Verdict,
)
from trainers.runs.files import read_as
from trainers.runs.result import DeviceResult
from trainers.search.regret import regrets

CONFIDENCE = 0.95  # of the interval of a difference, of Student's t: about two standard errors for many seeds
FIGURES: tuple[Figure, ...] = get_args(Figure)
SEED_COLUMNS = ("arm", "seed", "device", "feasible", "cpu_seconds", "used", "tested", *FIGURES)


def comparison_runs(path: Path | str) -> pd.DataFrame:
    """A row per finished run and device of a comparison, the first arm first; and one of the means of its devices.

    Accuracies and `used`, of the binding budget, are shares; regret is in points, none where it is not known.
    Raises: InvalidInputError if the folder has no comparison, or for a file that is malformed.
    """
    return _by_seed(Path(path), _read_arms(Path(path)))[0]


def comparison_table(path: Path | str) -> pd.DataFrame:
    """The table of a comparison, a row per arm and device: `test_mean`, `test_deviation`, `test_difference_mean`, ...

    The columns are those of compare.csv. Raises: as `comparison_runs`.
    """
    return pd.DataFrame([flat(row) for row in load_comparison(path).rows])


def load_comparison(path: Path | str) -> Comparison:
    """What a comparison has come to, from the files of its runs. Raises: as `comparison_runs`."""
    return read_comparison(Path(path))[0]


def read_comparison(folder: Path) -> tuple[Comparison, pd.DataFrame]:
    """What `load_comparison` and `comparison_runs` give, with the files of the runs read once. Raises: as they do."""
    arms = _read_arms(folder)
    by_seed, runs, problems = _by_seed(folder, arms)
    first = next(iter(arms.arms))
    rows = [
        _row(arms, by_seed, name, device, first=first)
        for device in dict.fromkeys(by_seed["device"])
        for name in arms.arms
    ]
    results = [run.result for run in runs if run.result is not None]
    packages = dict.fromkeys(name for result in results for name in result.versions)
    found = Comparison(
        schema=SCHEMA,
        command=arms.command,
        written=datetime.now(UTC).replace(microsecond=0),
        machines=list(dict.fromkeys(name for result in results for name in result.processors)),
        versions={name: list(dict.fromkeys(r.versions.get(name, "none") for r in results)) for name in packages},
        cpu_seconds=arms.cpu_seconds,
        lengths={name: f"{arm.knob}={arm.length}" for name, arm in arms.arms.items()},
        rows=rows,
        warnings=[*problems, *_warnings(arms, rows)],
    )
    return found, by_seed


def flat(row: Row) -> dict[str, Any]:
    """A row as a line of a table."""
    found: dict[str, Any] = {}
    for key, value in row.model_dump(exclude={"differences"}).items():
        found |= {f"{key}_{name}": each for name, each in value.items()} if isinstance(value, dict) else {key: value}
    for name, difference in row.differences.items():
        found |= {f"{name}_difference_{key}": value for key, value in difference.model_dump().items()}
    return {key: value for key, value in found.items() if not key.endswith("_n")}


def spread(values: Iterable[float]) -> Spread | None:
    """Mean and sample deviation of what is known; none of nothing."""
    known = [value for value in values if not isnan(value)]
    if not known:
        return None
    return Spread(mean=fmean(known), deviation=stdev(known) if len(known) > 1 else None, n=len(known))


def difference(pairs: Sequence[tuple[float, float]], *, less_is_better: bool = False) -> Difference | None:
    """Of pairs (own, first) of the same seed: better or worse only where the interval of the mean leaves out 0."""
    differences = [own - first for own, first in pairs if not isnan(own - first)]
    if not differences:
        return None
    n, mean = len(differences), fmean(differences)
    if n == 1:
        return Difference(mean=mean, error=None, interval=None, n=n, verdict="cannot tell")
    error = stdev(differences) / n**0.5
    interval = float(student_t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * error
    verdict: Verdict = "cannot tell"
    if abs(mean) > interval:
        verdict = "better" if (mean < 0) == less_is_better else "worse"
    return Difference(mean=mean, error=error, interval=interval, n=n, verdict=verdict)


def _row(arms: Arms, by_seed: pd.DataFrame, name: str, device: str, *, first: str) -> Row:
    of_device = by_seed[by_seed["device"] == device]
    own = of_device[of_device["arm"] == name].set_index("seed")
    others = of_device[of_device["arm"] == first].set_index("seed")
    figures: dict[str, Any] = {key: spread(own[key].astype(float)) for key in ("cpu_seconds", "used", *FIGURES)}
    differences: dict[Figure, Difference] = {}
    for key in FIGURES if name != first else ():
        seeds = own.index.intersection(others.index)
        pairs = list(zip(own.loc[seeds, key].astype(float), others.loc[seeds, key].astype(float), strict=True))
        found = difference(pairs, less_is_better=key in LESS_IS_BETTER)
        if found is not None:
            differences[key] = found
    return Row(
        arm=name,
        device=device,
        seeds=len(arms.seeds),
        finished=len(own),
        feasible=int(own["feasible"].sum()),
        tested="; ".join(dict.fromkeys(own["tested"])) or "not known",
        differences=differences,
        **figures,
    )


def _by_seed(folder: Path, arms: Arms) -> tuple[pd.DataFrame, list[Run], list[str]]:
    """What `comparison_runs` gives, the runs, and what could not be read."""
    rows: list[dict[str, Any]] = []
    runs: list[Run] = []
    known: dict[str, float] = {}
    problems: list[str] = []
    for name, arm in arms.arms.items():
        for seed, run in zip(arms.seeds, _runs(folder, arm), strict=True):
            if run is None or run.result is None:
                continue
            runs.append(run)
            regret: Mapping[str, float] = {}
            table = arms.regret or _own_table(run.config)
            if table is not None:
                try:
                    regret = regrets(run.path, run.config, run.result, table, known)
                except InvalidInputError as error:
                    problems.append(f"regret is not known: {error}")
            rows += _rows_of(run, name, seed, regret)
    return pd.DataFrame(rows, columns=list(SEED_COLUMNS)), runs, list(dict.fromkeys(problems))


def _rows_of(run: Run, arm: str, seed: int, regret: Mapping[str, float]) -> list[dict[str, Any]]:
    result = run.result
    assert result is not None
    spent = np.nan if result.search.cpu_seconds is None else result.search.cpu_seconds
    rows: list[dict[str, Any]] = [
        {
            "arm": arm,
            "seed": seed,
            "device": name,
            "feasible": device.met,
            "cpu_seconds": spent,
            "used": device.used,
            "tested": _final_training(device, run.config["trainer"]),
            "validation": device.validation.accuracy,
            "test": device.accuracy.finetuned if device.accuracy.deployed is None else device.accuracy.deployed,
            "regret": regret.get(name, np.nan),
        }
        for name, device in result.devices.items()
    ]
    if len(rows) > 1:
        means = {key: fmean(float(row[key]) for row in rows) for key in ("used", *FIGURES)}
        rows.append({**rows[0], "device": ALL_DEVICES, "feasible": all(row["feasible"] for row in rows), **means})
    return rows


def _final_training(device: DeviceResult, trainer: Mapping[str, Any]) -> str:
    """What a network's test accuracy is of: the training after the search, which no CPU-seconds are counted of."""
    kind = device.label("finetuned" if device.accuracy.deployed is None else "deployed")
    if device.accuracy.inherited is None or device.trained_smaller:
        return f"{kind}, {trainer['steps']} steps from scratch"
    return f"{kind}, {trainer['finetune_steps']} steps from inherited weights"


def _own_table(config: Mapping[str, Any]) -> BenchmarkConfig | None:
    """The table that a run's own evaluator looks networks up in."""
    section = config.get("evaluator") or {}
    if section.get("name") != "table":
        return None
    return BenchmarkConfig(**{key: value for key, value in section.items() if key != "name"})


def _runs(folder: Path, arm: Arm) -> list[Run | None]:
    return [load_run(folder / name) if (folder / name / "status.json").is_file() else None for name in arm.runs]


def _read_arms(folder: Path) -> Arms:
    if not (folder / ARMS).is_file():
        raise InvalidInputError(f"no comparison in {folder}: it has no {ARMS}; give the folder of espalier-compare")
    return read_as(folder / ARMS, Arms)


def _warnings(arms: Arms, rows: Sequence[Row]) -> list[str]:
    """What makes arms hard to compare: costs apart from one another or from what was asked, other final trainings."""
    found = []
    costs = {row.arm: row.cpu_seconds.mean for row in rows if row.cpu_seconds is not None}
    asked, allowed = arms.cpu_seconds, arms.tolerance
    for name, seconds in costs.items():
        if abs(seconds - asked) > allowed * asked:
            found.append(
                f"{name} cost {seconds:.3g} CPU-seconds, {seconds / asked - 1:+.0%} of the {asked:g} asked for"
            )
    if costs and max(costs.values()) - min(costs.values()) > allowed * asked:
        found.append(
            f"the costs of arms differ by {(max(costs.values()) - min(costs.values())) / asked:.0%} of what was asked, "
            f"more than {allowed:.0%}: they are not equal"
        )
    tested = Counter(row.tested for row in rows if row.finished)
    if len(tested) > 1:
        found.append(
            f"test accuracies are of different trainings ({' and '.join(tested)}): train the networks again by one "
            "protocol, with espalier-retrain, before they are compared"
        )
    missing = {row.arm: row.seeds - row.finished for row in rows if row.finished < row.seeds}
    found += [f"{name}: {count} of {len(arms.seeds)} seeds have no result" for name, count in missing.items()]
    found += [f"{name}: none of its seeds has a result" for name in arms.arms if name not in {row.arm for row in rows}]
    return found
