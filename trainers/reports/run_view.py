"""What the report of one run says, decided from its files; how it looks stands in the templates."""

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from markupsafe import Markup

from hardware_models.metrics import METRICS
from search_spaces.architecture import architecture_svg, read_architecture
from search_spaces.svg import STYLE, unstyled
from trainers.analysis.canvas import QUANTITIES, UNITS
from trainers.analysis.loading import Run
from trainers.analysis.run_plots import CHOSEN_LAST, plot_alphas, plot_costs, plot_pruning
from trainers.reports.plots import plot_candidates, plot_inside, plot_latency, share_words, themed_svg
from trainers.reports.quoting import Quote, derived, quoting, written
from trainers.runs import metric_names
from trainers.runs.result import Certified, Result
from trainers.runs.state import architecture_file
from trainers.runs.warnings import warnings_of
from trainers.search.console import held_against

SHOWN_EPOCHS = 12  # rows of the table of epochs; the file has all
SHOWN_CANDIDATES = 3  # of a kind and device, the best; the result has all
# What the state of a run means, and the colour of it.
STATES = {
    "done": ("good", "every device is within its budgets"),
    "unmet": ("bad", "a budget is not met"),
    "queued": ("open", "the run waits"),
    "running": ("open", "the run goes on"),
    "interrupted": ("open", "the run was interrupted and can go on"),
    "stopped": ("open", "the study of this trial pruned it"),
    "failed": ("bad", "the run failed"),
    "infeasible": ("bad", "no network of the space meets the budgets"),
}


@dataclass(frozen=True)
class Bar:
    """A budget as a bar: percent of its length that is predicted, that is checked, and the budget."""

    metric: str
    predicted: float
    held: float
    budget: float
    over: bool


def run_view(run: Run) -> dict[str, Any]:
    """All that the template of a run asks for. Raises: InvalidInputError for an architecture file that is not whole."""
    result = run.result
    devices = list(run.devices["device"])
    rows = run.metrics.to_dict("records")
    last = {str(name): value for name, value in rows[-1].items()} if rows else {}
    warnings = warnings_of(result) if result else []
    origin, quote = origin_of(run)
    return {
        "run": run,
        "name": run.path.name,
        "state": run.state.state,
        "tone": STATES[run.state.state][0],
        "meaning": STATES[run.state.state][1],
        "result": result,
        "devices": devices,
        "metrics": METRICS,
        "units": UNITS,
        "labels": QUANTITIES,
        "r": quoting(dict_of(result), None),  # the page says of which file
        "s": quoting(status_of(run), "status.json"),
        "c": quoting(run.config, "config.yaml"),
        "o": quote,
        "origin": origin,
        "last": quoting(last, "metrics.csv"),
        "derived": derived,
        "written": written,
        "shown_candidates": SHOWN_CANDIDATES,
        "drawing_style": Markup(STYLE),
        "num_met": sum(device.met for device in run.device_results.values()),
        "bars": {name: bars(device) for name, device in run.device_results.items()},
        "held_against": {name: held_against(device) for name, device in run.device_results.items()},
        "warnings": warnings,
        "warned": ", ".join(dict.fromkeys(warning.what for warning in warnings)),
        "epochs": epoch_rows(run),
        "pruned": pruned(run),
        "has_prune_log": (run.path / "prune.csv").is_file(),
        "beliefs": beliefs(run),
        "shares": {name: words for name in last if (words := share_words(name))},
        "costs": [(d, m) for d in devices for m in METRICS if metric_names.expected(d, m) in last],
        "expected": metric_names.expected,
        "worst": metric_names.worst,
        "config": yaml.safe_dump(run.config, sort_keys=False) if run.config else None,
        "commands": next_commands(run),
        **pictures(run),
    }


def status_of(run: Run) -> dict[str, Any]:
    """The fields of `status.json`, with the state as it really is: one that says it runs may be interrupted."""
    return run.state.model_dump(mode="json", by_alias=True)


def origin_of(run: Run, prefix: str = "") -> tuple[Mapping[str, Any], Quote]:
    """Where the hashes, code and versions of a run stand, and its quotes: the result, else the status."""
    if run.result is not None:
        content = dict_of(run.result)
        return content, quoting(content, f"{prefix}result.json")
    return run.state.origin, quoting(status_of(run), f"{prefix}status.json")


def dict_of(result: Result | None) -> dict[str, Any]:
    """What the file of a result holds; nothing without a result."""
    return {} if result is None else result.model_dump()


def bars(device: Certified) -> list[Bar]:
    """A bar per budget; its length is the budget, or what is checked against it where that is more."""
    found = []
    for metric, budget in device.budgets.items():
        held = device.utilisation[metric] * budget
        predicted = min(device.predicted[metric], held)
        longest = max(held, budget)
        parts = [round(100 * part / longest, 1) for part in (predicted, held, budget)]
        found.append(Bar(metric, parts[0], parts[1], parts[2], over=held > budget))
    return found


def pictures(run: Run) -> dict[str, Any]:
    """Drawings and plots as SVG; those that need a result are left out where there is none."""
    found: dict[str, Any] = {"drawings": {}}
    if run.result is not None:
        devices = run.result.devices
        for name in devices:
            drawing = architecture_svg(read_architecture(architecture_file(run.path, name)))
            found["drawings"][name] = Markup(unstyled(drawing))  # own text, its words escaped where it is made
        words = "Accuracy against latency of each device's network; the numbers stand in the table of accuracies."
        found["latency_plot"] = Markup(themed_svg(plot_latency(devices), name="latency", words=words))
        words = "Validation accuracy of candidates and of random networks against the share of the budget they use."
        found["candidates_plot"] = Markup(themed_svg(plot_candidates(devices), name="candidates", words=words))
    if len(run.metrics) > 1:  # of one epoch, a table says all
        words = "Expected and largest cost of each device over the epochs; the numbers stand in the table of epochs."
        found["costs_plot"] = Markup(themed_svg(plot_costs(run), name="costs", words=words))
        words = "Losses, entropy and shares of operations over the epochs; the numbers stand in the table of epochs."
        found["inside_plot"] = Markup(themed_svg(plot_inside(run), name="inside", words=words))
    if (run.prunes["reason"] != CHOSEN_LAST).any():
        words = "Choices pruned on each device by step of training; the numbers stand in the table of pruning."
        found["pruning_plot"] = Markup(themed_svg(plot_pruning(run), name="pruning", words=words))
    if run.alphas is not None and len(run.alphas.epoch) > 1:
        words = "Probabilities of choices on each device over the epochs; the last stand in the table of choices."
        found["beliefs_plot"] = Markup(themed_svg(plot_alphas(run), name="beliefs", words=words))
    return found


def epoch_rows(run: Run) -> list[tuple[int, Quote]]:
    """Line of the table and quote of some epochs, evenly spaced, the first and the last among them."""
    count = len(run.metrics)
    kept = sorted({round(i * (count - 1) / (SHOWN_EPOCHS - 1)) for i in range(SHOWN_EPOCHS)}) if count else []
    rows: list[Any] = run.metrics.to_dict("records")
    return [(i + 2, quoting(rows[i], None)) for i in kept]


def pruned(run: Run) -> list[tuple[str, str, int]]:
    """Device, reason, and how many choices went there for it, in the order of the pruning log."""
    counts = Counter(zip(run.prunes["device"], run.prunes["reason"], strict=True))
    return [(device, reason, count) for (device, reason), count in counts.items()]


def beliefs(run: Run) -> list[tuple[str, list[tuple[str, float]]]]:
    """Each decision with, per device, its likeliest choice and that one's probability after the last epoch."""
    alphas = run.alphas
    if alphas is None or not len(alphas.epoch):
        return []
    decisions = list(dict.fromkeys(alphas.decision))
    places = {name: [i for i, other in enumerate(alphas.decision) if other == name] for name in decisions}
    found = []
    for name in decisions:
        best = []
        for weights_N in alphas.weights[-1]:
            place = max(places[name], key=lambda i: float(weights_N[i]))
            best.append((alphas.choice[place], float(weights_N[place])))
        found.append((name, best))
    return found


def next_commands(run: Run) -> list[tuple[str, str]]:
    """What to do now, as words and a command line each."""
    folder, command = shlex.quote(str(run.path)), run.state.command
    again = [("go on from the last checkpoint", command)]
    match run.state.state:
        case "done" | "unmet":
            first = next(iter(run.device_results))
            architecture = shlex.quote(f"architecture={architecture_file(run.path, first)}")
            found = [
                ("recount and check all of this", f"espalier-report verify {folder}"),
                ("time the network on a machine", f"espalier-measure {architecture}"),
            ]
            if command.startswith("espalier-search") and not {"-m", "--multirun"} & set(command.split()):
                found.append(("see whether another seed agrees", f"{command} seed={run.config['seed'] + 1}"))
            return found
        case "failed":
            return [("read what went wrong", f"less {shlex.quote(str(run.path / 'run.log'))}"), *again]
        case "infeasible":
            return [("raise its budgets, or widen the space, in the command", command)]
        case "running" | "queued":
            return [("see how far it is", f"espalier-status {shlex.quote(str(run.path.parent))}")]
        case _:
            return again
