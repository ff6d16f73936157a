"""What the report of a sweep says, decided from the files of its runs."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from hardware_models.metrics import METRICS
from trainers.analysis.canvas import QUANTITIES, UNITS
from trainers.analysis.devices import mean_transfer
from trainers.analysis.labels import differing, natural, run_labels
from trainers.analysis.loading import Run, Sweep
from trainers.analysis.seeds import stability
from trainers.analysis.sweep_plots import plot_anytime, plot_pareto
from trainers.reports.plots import themed_svg
from trainers.reports.quoting import Form, Quotes, decimals_of, derived, quotes_of
from trainers.reports.run_view import STATES as RUN_STATES
from trainers.runs.warnings import warnings_of
from trainers.sweeps.survey import NEVER_BEGAN
from trainers.sweeps.survey import Row as Surveyed

KINDS = ("finetuned", "balanced_finetuned", "inherited", "random", "supernet")
COMPARED = [*(f"accuracy_{kind}" for kind in KINDS), "predicted_latency_ms"]
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
    quotes: Quotes | None = None


def sweep_view(sweep: Sweep, surveyed: Sequence[Surveyed], *, commands: Sequence[str]) -> dict[str, Any]:
    """All that the template of a sweep asks for: `surveyed` has its runs and jobs, `commands` finish what is open.

    A run of which there is more than its state to tell is one of `sweep.runs`.
    """
    configs = [run.config for run in sweep.runs]
    words = dict(zip((run.path.name for run in sweep.runs), run_labels(configs), strict=True))
    sweep = replace(sweep, runs=tuple(sorted(sweep.runs, key=lambda run: natural(words[run.path.name]))))
    rows = sorted((row_of(each, sweep, words.get(each.run)) for each in surveyed), key=lambda row: natural(row.label))
    finished = [row for row in rows if row.run is not None and row.run.result is not None]
    states = [row.state for row in rows]
    done = states.count("done")
    return {
        "name": sweep.path.name,
        "state": f"{done} of {len(states)} done",
        "tones": {state: tone for state, (tone, _) in STATES.items()},
        "rows": rows,
        "keys": list(differing(configs)),
        "labels": QUANTITIES,
        "budgeted": [metric for metric in METRICS if sweep.table[f"budget_{metric}"].notna().any()],
        "origins": origins_of(rows),
        "finished": finished,
        "states": [(state, STATES[state], states.count(state)) for state in STATES if state in states],
        "done": done,
        "units": UNITS,
        "derived": derived,
        "decimals_of": decimals_of,
        "groups": groups_of(sweep),
        "transfers": transfers_of(sweep),
        "stability": stability_view(sweep),
        "warnings": warning_counts(sweep.runs),
        "seconds": sum(run.result.objective["seconds"] for run in sweep.runs if run.result is not None),
        "commands": next_commands(sweep, commands),
        **pictures(sweep),
    }


def row_of(surveyed: Surveyed, sweep: Sweep, label: str | None) -> Row:
    """The row of a run or job. Its state is that of the files quoted, where they are whole.

    It is labelled by its overrides, or by its folder, where its configuration does not tell it from others.
    """
    name = surveyed.run
    label = label or surveyed.overrides or name
    if name in sweep.unreadable:
        return Row(name, label, "unreadable", sweep.unreadable[name])
    run = next((run for run in sweep.runs if run.path.name == name), None)
    if run is None:
        return Row(name, label, surveyed.state, surveyed.reason)
    return Row(name, label, run.state.state, run.state.reason, run, quotes_of(run, f"{name}/"))


def transfers_of(sweep: Sweep) -> list[tuple[str, list[str], dict[Any, Any]]]:
    """Per search its devices, and for each pair of network and device its figures over the finished seeds."""
    finished = {label: [run for run in runs if run.result is not None] for label, runs in sweep.searches.items()}
    found = []
    for label, runs in finished.items():
        if runs:
            figures = mean_transfer(runs)
            found.append((label, list(figures.index.unique("device")), figures.to_dict("index")))
    return found


def origins_of(rows: Sequence[Row]) -> list[tuple[Origin, list[list[Row]]]]:
    """What results come of, each with the runs, those together that record the same."""
    runs = [(row, row.quotes.origin) for row in rows if row.quotes is not None]
    packages = dict.fromkeys(name for _, origin in runs for name in origin["versions"])
    versions: list[Origin] = [(name, ("versions", name), "code") for name in packages]
    found = []
    for words, (part, key), form in (*ORIGINS, *versions):
        alike: dict[str, list[Row]] = {}
        for row, origin in runs:
            alike.setdefault(repr(origin[part].get(key)), []).append(row)
        found.append(((words, (part, key), form), list(alike.values())))
    return found


def groups_of(sweep: Sweep) -> list[tuple[str, str, int, dict[Any, float], dict[Any, float]]]:
    """Each search and device, how many seeds have finished, and means and sample deviations over them, by figure."""
    done = sweep.table[sweep.table["accuracy_finetuned"].notna()].astype(dict.fromkeys(COMPARED, float))
    found = [
        (str(search), str(device), len(own), own.mean().to_dict(), own.std().to_dict())
        for (search, device), own in done.groupby(["search", "device"], sort=False)[COMPARED]
    ]
    return sorted(found, key=lambda group: natural(group[0]))


def stability_view(sweep: Sweep) -> dict[str, Any]:
    """Agreement across seeds per search and device; per decision, the mean over searches and devices, least first."""
    found = stability(sweep)
    means = found.decisions.groupby("decision", sort=False)[["agreement", "chance"]].mean().astype(float)
    decisions = list(means.sort_values("agreement", kind="stable").itertuples(name=None))
    return {"scores": found.scores.to_dict("records"), "decisions": decisions}


def warning_counts(runs: Sequence[Run]) -> list[tuple[str, str, int, int]]:
    """Each kind of warning with its reason, how often it was raised, and in how many runs."""
    raised: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for warned in warnings_of(run.result) if run.result else []:
            raised.setdefault((warned.what, warned.why), []).append(run.path.name)
    return [(*words, len(names), len(set(names))) for words, names in raised.items()]


def next_commands(sweep: Sweep, commands: Sequence[str]) -> list[tuple[str, str]]:
    """What to do now: finish what is open, and see how the sweep stands."""
    status = ("see how its runs stand", f"espalier-status {shlex.quote(str(sweep.path))}")
    return [*(("finish what is open; finished runs are skipped", command) for command in commands), status]


def pictures(sweep: Sweep) -> dict[str, Any]:
    pareto: list[Markup] = []
    found: dict[str, Any] = {"pareto": pareto}
    done = sweep.table[sweep.table["accuracy_inherited"].notna()]
    for number, device in enumerate(done["device"].unique()):
        words = f"Accuracy against latency of the networks for {device}; the numbers stand in the table below."
        pareto.append(themed_svg(plot_pareto(sweep.table, device=device), name=f"pareto{number}", words=words))
    if any(len(run.metrics) > 1 for run in sweep.runs):
        words = (
            "Best validation accuracy so far by step of training, mean over seeds; the runs' reports have the numbers."
        )
        found["anytime"] = themed_svg(plot_anytime(sweep), name="anytime", words=words)
    return found
