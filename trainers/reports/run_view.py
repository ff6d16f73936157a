"""What the report of one run says, decided from its files; how it looks stands in the templates."""

import shlex
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup

from hardware_models.metrics import METRICS
from search_spaces.architecture import architecture_svg, read_architecture
from search_spaces.svg import STYLE, unstyled
from trainers.analysis.canvas import QUANTITIES, UNITS
from trainers.analysis.loading import Run
from trainers.analysis.run_plots import CHOSEN_LAST, front_points, plot_alphas, plot_costs, plot_front, plot_pruning
from trainers.reports.plots import plot_candidates, plot_inside, plot_latency, share_words, themed_svg
from trainers.reports.quoting import Quote, derived, quotes_of, quoting, written
from trainers.runs import metric_names
from trainers.runs.state import architecture_file
from trainers.runs.warnings import warnings_of
from trainers.search.verdict import held_against

SHOWN_EPOCHS = 12  # rows of the table of epochs; the file has all
DRAWN_EPOCHS = 40  # points of a line, so that a report of many epochs stays small
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


def run_view(run: Run) -> dict[str, Any]:
    """All that the template of a run asks for. Raises: InvalidInputError for an architecture file that is not whole."""
    devices = list(run.devices["device"])
    last = list(run.metrics.columns) if len(run.metrics) else []
    tone, meaning = STATES[run.state.state]
    return {
        "run": run,
        "name": run.path.name,
        "state": run.state.state,
        "tone": tone,
        "meaning": meaning,
        "result": run.result,
        "devices": devices,
        "metrics": METRICS,
        "units": UNITS,
        "labels": QUANTITIES,
        **vars(quotes_of(run)),
        "derived": derived,
        "written": written,
        "shown_candidates": SHOWN_CANDIDATES,
        "drawing_style": Markup(STYLE),
        "held_against": {name: held_against(device) for name, device in run.device_results.items()},
        "warnings": warnings_of(run.result) if run.result else [],
        "epochs": epoch_rows(run),
        "pruned": Counter(zip(run.prunes["device"], run.prunes["reason"], strict=True)),
        "has_prune_log": (run.path / "prune.csv").is_file(),
        "beliefs": beliefs(run),
        "shares": {name: words for name in last if (words := share_words(name))},
        "costs": [(d, m) for d in devices for m in METRICS if metric_names.expected(d, m) in last],
        "names": metric_names,
        "config": yaml.safe_dump(run.config, sort_keys=False) if run.config else None,
        "commands": next_commands(run),
        "drawings": drawings(run),
        "is_front": bool(front_points(run)),
        "plots": plots(run),
    }


def drawings(run: Run) -> dict[str, Markup]:
    """The network of each device as SVG: text of its own, whose words were escaped where it was made."""
    files = {name: architecture_file(run.path, name) for name in run.device_results}
    return {name: Markup(unstyled(architecture_svg(read_architecture(file)))) for name, file in files.items()}


def plots(run: Run) -> dict[str, Markup]:
    """Plots as SVG by name; those are left out that the run has nothing for, or that a table says all of."""
    results, metrics, alphas = run.device_results, run.metrics, run.alphas
    drawn = replace(run, metrics=metrics.iloc[spaced(len(metrics), DRAWN_EPOCHS)])
    has_result, has_epochs, has_alphas = bool(results), len(metrics) > 1, alphas is not None and len(alphas.epoch) > 1
    latency = "Accuracy against latency of each device's network; the numbers stand in the table of accuracies."
    candidates = "Validation accuracy of candidates and of random networks against the share of the budget they use."
    costs = "Expected and largest cost of each device over the epochs; the numbers stand in the table of epochs."
    inside = "Losses, entropy and shares of operations over the epochs; the numbers stand in the table of epochs."
    pruning = "Choices pruned on each device by step of training; the numbers stand in the table of pruning."
    shares = "Probabilities of choices on each device over the epochs; the last stand in the table of choices."
    front = "Validation accuracy of each point of the front against its cost; the numbers stand in front.csv."
    has_points, has_inherited = bool(front_points(run)), bool(run.devices["accuracy_inherited"].notna().any())
    found: list[tuple[str, bool, Any, Any, str]] = [
        ("front", has_points, plot_front, run, front),
        ("latency", has_inherited and not has_points, plot_latency, run, latency),
        ("candidates", has_result and not has_points, plot_candidates, results, candidates),
        ("costs", has_epochs, plot_costs, drawn, costs),
        ("inside", has_epochs, plot_inside, drawn, inside),
        ("pruning", bool((~run.prunes["reason"].isin(CHOSEN_LAST)).any()), plot_pruning, run, pruning),
        ("beliefs", has_alphas, plot_alphas, run, shares),
    ]
    return {name: themed_svg(draw(of), name=name, words=words) for name, is_drawn, draw, of, words in found if is_drawn}


def spaced(count: int, most: int) -> list[int]:
    """At most so many of `count` places, evenly spaced, the first and the last among them."""
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)}) if count else []


def epoch_rows(run: Run) -> list[tuple[int, Quote]]:
    """Line of the table and quote of some epochs."""
    rows: list[Any] = run.metrics.to_dict("records")
    return [(i + 2, quoting(rows[i], None)) for i in spaced(len(rows), SHOWN_EPOCHS)]


def beliefs(run: Run) -> list[tuple[str, list[tuple[str, float]]]]:
    """Each decision with, per device, its likeliest choice and that one's probability after the last epoch."""
    alphas = run.alphas
    if alphas is None or not len(alphas.epoch):
        return []
    found = []
    for name in dict.fromkeys(alphas.decision):
        places = np.flatnonzero([decision == name for decision in alphas.decision])
        best = [places[weights_N[places].argmax()] for weights_N in alphas.weights[-1]]
        shares = [float(weights_N[place]) for weights_N, place in zip(alphas.weights[-1], best, strict=True)]
        found.append((name, list(zip([alphas.choice[place] for place in best], shares, strict=True))))
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
