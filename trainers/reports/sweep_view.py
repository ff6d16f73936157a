"""What the report of a sweep says, decided from the files of its runs."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import mean, stdev
from typing import Any

from markupsafe import Markup

from hardware_models.metrics import METRICS
from trainers.analysis.canvas import QUANTITIES, UNITS
from trainers.analysis.labels import differing, natural, run_labels
from trainers.analysis.loading import Run, Sweep
from trainers.analysis.seeds import by_settings, labels_of, stability
from trainers.analysis.sweep_plots import plot_anytime, plot_pareto
from trainers.reports.plots import themed_svg
from trainers.reports.quoting import Form, Quote, decimals_of, derived, quoting
from trainers.reports.run_view import STATES as RUN_STATES
from trainers.reports.run_view import dict_of, origin_of, status_of
from trainers.runs.warnings import warnings_of
from trainers.sweeps.survey import NEVER_BEGAN
from trainers.sweeps.survey import Row as Surveyed

ACCURACIES = ("finetuned", "inherited", "random", "supernet")
Origin = tuple[str, tuple[str, str], Form]  # something that results come of: words, its field, how it is written
ORIGINS: tuple[Origin, ...] = (
    ("split of the data", ("hashes", "data_split"), "code"),
    ("cost table", ("hashes", "cost_table"), "code"),
    ("Espalier", ("code", "version"), "code"),
    ("commit", ("code", "commit"), "code"),
    ("its files changed since", ("code", "changed"), "number"),
    ("hash of its files", ("code", "sha256"), "code"),
)
# What the state of a run or job means, and the colour of it.
STATES = {
    **RUN_STATES,
    "refused": ("bad", "the configuration cannot be used"),
    "unreadable": ("bad", "a file is malformed"),
    NEVER_BEGAN: ("bad", "its sweep ended before its turn"),
}


NOTHING = quoting({}, "")


@dataclass(frozen=True)
class Row:
    """A run in the table of a sweep, with its quotes, or a job that there is no whole run of, with none.

    `label` says what tells it from the others, `name` its folder.
    """

    name: str
    label: str
    state: str
    reason: str | None
    run: Run | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    r: Quote = NOTHING
    s: Quote = NOTHING
    c: Quote = NOTHING
    o: Quote = NOTHING

    @property
    def tone(self) -> str:
        return STATES[self.state][0]


@dataclass(frozen=True)
class Spread:
    """Mean and sample deviation of a figure over the seeds of one search; no deviation of a single seed."""

    mean: float
    deviation: float | None

    @property
    def decimals(self) -> int:
        """Those of both: a deviation of more would claim what its mean does not."""
        return decimals_of(self.mean)


@dataclass(frozen=True)
class Group:
    """One search of a sweep on one device: the same settings but for the seed."""

    label: str
    device: str
    seeds: int
    figures: dict[str, Spread]


def sweep_view(sweep: Sweep, surveyed: Sequence[Surveyed], *, commands: Sequence[str]) -> dict[str, Any]:
    """All that the template of a sweep asks for: `surveyed` has its runs and jobs, `commands` finish what is open.

    A run of which there is more than its state to tell is one of `sweep.runs`.
    """
    loaded = {run.path.name: run for run in sweep.runs}
    configs = [run.config for run in sweep.runs]
    words = dict(zip(loaded, run_labels(configs), strict=True))
    sweep = replace(sweep, runs=tuple(sorted(sweep.runs, key=lambda run: natural(words[run.path.name]))))
    rows = [
        row_of(each, loaded.get(each.run), sweep.unreadable.get(each.run), label=words.get(each.run))
        for each in surveyed
    ]
    rows.sort(key=lambda row: natural(row.label))
    finished = [run for run in sweep.runs if run.result is not None]
    states = [row.state for row in rows]
    labels = labels_of(sweep)
    done = states.count("done")
    return {
        "name": sweep.path.name,
        "state": f"{done} of {len(states)} done",
        "rows": rows,
        "keys": list(differing(configs)),
        "labels": QUANTITIES,
        "budgeted": [metric for metric in METRICS if sweep.table[f"budget_{metric}"].notna().any()],
        "origins": origins_of(rows),
        "finished": [row for row in rows if row.run is not None and row.run.result is not None],
        "states": [(state, STATES[state], states.count(state)) for state in STATES if state in states],
        "done": done,
        "units": UNITS,
        "derived": derived,
        "groups": groups_of(sweep, labels),
        "transfers": transfers_of(sweep, labels),
        "stability": stability_view(sweep),
        "warnings": warning_counts(finished),
        "seconds": sum(run.result.objective["seconds"] for run in finished if run.result),
        "commands": next_commands(sweep, commands),
        **pictures(sweep, bool(finished)),
    }


def row_of(surveyed: Surveyed, run: Run | None, unreadable: str | None, *, label: str | None = None) -> Row:
    """The row of a run or job. Its state is that of the files quoted, where they are whole.

    It is labelled by its overrides, or by its folder, where its configuration does not tell it from others.
    """
    label = label or surveyed.overrides or surveyed.run
    if run is None:
        state, reason = ("unreadable", unreadable) if unreadable else (surveyed.state, surveyed.reason)
        return Row(surveyed.run, label, state, reason)
    origin, quote = origin_of(run, f"{surveyed.run}/")
    return Row(
        *(surveyed.run, label, run.state.state, run.state.reason, run, origin),
        r=quoting(dict_of(run.result), None),  # its row in a table says of which run
        s=quoting(status_of(run), f"{surveyed.run}/status.json"),
        c=quoting(run.config, f"{surveyed.run}/config.yaml"),
        o=quote,
    )


def origins_of(rows: Sequence[Row]) -> list[tuple[Origin, list[list[Row]]]]:
    """What results come of, each with the runs, those together that record the same."""
    runs = [row for row in rows if row.run is not None]
    packages = dict.fromkeys(name for row in runs for name in row.origin["versions"])
    versions: list[Origin] = [(name, ("versions", name), "code") for name in packages]
    found = []
    for origin in (*ORIGINS, *versions):
        part, key = origin[1]
        alike: dict[str, list[Row]] = {}
        for row in runs:
            alike.setdefault(repr(row.origin[part].get(key)), []).append(row)
        found.append((origin, list(alike.values())))
    return found


def groups_of(sweep: Sweep, labels: dict[str, str]) -> list[Group]:
    """Each search and device with mean and deviation over its finished seeds."""
    found = []
    for settings, runs in by_settings(sweep).items():
        results = [run.device_results for run in runs if run.result is not None]
        for device in results[0] if results else ():
            own = [result[device] for result in results]
            figures = {kind: spread(getattr(found.accuracy, kind) for found in own) for kind in ACCURACIES}
            figures["latency_ms"] = spread(found.predicted["latency_ms"] for found in own)
            found.append(Group(labels[settings], device, len(results), figures))
    return found


def spread(values: Iterable[float]) -> Spread:
    found = list(values)
    return Spread(mean(found), stdev(found) if len(found) > 1 else None)


def transfers_of(
    sweep: Sweep, labels: dict[str, str]
) -> list[tuple[str, list[str], dict[Any, tuple[float, int, int]], dict[str, float]]]:
    """Per search its devices; for each pair of network and device, mean latency, how many are within, how many; and
    for each network its mean accuracy."""
    found = []
    for settings, runs in by_settings(sweep).items():
        results = [run.result for run in runs if run.result is not None]
        devices = list(results[0].devices) if results else []
        means = {}
        for network, device in product(devices, devices):
            rows = [result.transfer[network][device] for result in results]
            means[network, device] = mean(r.latency_ms for r in rows), sum(r.within for r in rows), len(rows)
        accuracy = {name: mean(result.devices[name].accuracy.finetuned for result in results) for name in devices}
        if means:
            found.append((labels[settings], devices, means, accuracy))
    return found


def stability_view(sweep: Sweep) -> dict[str, Any]:
    """Agreement across seeds per search and device; per decision, the mean over searches and devices, least first."""
    found = stability(sweep)
    means = found.decisions.groupby("decision", sort=False)[["agreement", "chance"]].mean().astype(float)
    decisions = list(means.sort_values("agreement", kind="stable").itertuples(name=None))
    return {"scores": found.scores.to_dict("records"), "decisions": decisions}


def warning_counts(finished: Sequence[Run]) -> list[tuple[str, str, int, int]]:
    """Each kind of warning with its reason, how often it was raised, and in how many runs."""
    raised: dict[tuple[str, str], list[str]] = {}
    for run in finished:
        for warned in warnings_of(run.result) if run.result else []:
            raised.setdefault((warned.what, warned.why), []).append(run.path.name)
    return [(*words, len(names), len(set(names))) for words, names in raised.items()]


def next_commands(sweep: Sweep, commands: Sequence[str]) -> list[tuple[str, str]]:
    """What to do now: finish what is open, and see how the sweep stands."""
    status = ("see how its runs stand", f"espalier-status {shlex.quote(str(sweep.path))}")
    return [*(("finish what is open; finished runs are skipped", command) for command in commands), status]


def pictures(sweep: Sweep, finished: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"pareto": []}
    if finished:
        for number, device in enumerate(dict.fromkeys(sweep.table["device"].dropna())):
            if sweep.table[(sweep.table["device"] == device)]["accuracy_inherited"].notna().any():
                words = f"Accuracy against latency of the networks for {device}; the numbers stand in the table below."
                svg = themed_svg(plot_pareto(sweep.table, device=device), name=f"pareto{number}", words=words)
                found["pareto"].append(Markup(svg))  # its words were escaped where it was made
    if any(len(run.metrics) > 1 for run in sweep.runs):
        words = (
            "Best validation accuracy so far by step of training, mean over seeds; the runs' reports have the numbers."
        )
        found["anytime"] = Markup(themed_svg(plot_anytime(sweep), name="anytime", words=words))
    return found
