"""Runs that differ in nothing but their seed: how far their networks agree, and how they get on over time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from search_spaces.architecture import Architecture, build_space, read_architecture
from search_spaces.errors import InvalidInputError
from search_spaces.space import Choice, SearchSpace
from trainers.analysis.loading import Run, Sweep
from trainers.runs.metric_names import STEP, STEP_SECONDS, VALIDATION_ACCURACY
from trainers.runs.state import architecture_file

GROUP_COLUMNS = ("space", "strategy", "settings", "search", "device")
DECISION_COLUMNS = (*GROUP_COLUMNS, "place", "decision", "pairs", "agreement", "chance")
SCORE_COLUMNS = (*GROUP_COLUMNS, "seeds", "decisions", "agreement", "chance")


@dataclass(frozen=True)
class Stability:
    """Agreement of networks across seeds, per decision and as the mean over decisions.

    `agreement` is the share of `pairs` of seeds that chose alike, `chance` what it would be if every choice were as
    likely: one over their number. `place` is that of the decision in its space. `settings`, a hash, is the same for
    runs that differ in nothing but the seed; `search` says in words how they differ from others.
    """

    decisions: pd.DataFrame
    scores: pd.DataFrame


def used_decisions(space: SearchSpace, choices: Mapping[str, Choice]) -> dict[str, Choice]:
    """The choices that make this network: any other in their place would give another one.

    A block beyond the depth of its stage does not, nor does a decision of one choice.
    """
    notation = space.notation(choices)
    return {
        decision.name: choices[decision.name]
        for decision in space.decisions
        if any(
            space.notation({**choices, decision.name: other}) != notation
            for other in decision.choices
            if other != choices[decision.name]
        )
    }


def stability(sweep: Sweep) -> Stability:
    """How far the networks of one search with several seeds agree; frames without rows if no search has two.

    A decision counts in pairs whose networks both use it, and is left out where no pair does. Chance takes all choices
    as equally likely; under a budget they are not, so hold the score against that of `strategy=random` on the same
    budgets. Raises: InvalidInputError for an architecture file that is not whole.
    """
    decisions, scores = [], []
    for label, runs in sweep.searches.items():
        finished = [run for run in runs if run.result is not None]
        for device in runs[0].config["hardware"] if len(finished) > 1 else ():
            names = {key: runs[0].config[key]["name"] for key in ("space", "strategy")}
            group = {**names, "settings": runs[0].settings, "search": label, "device": device}
            rows = list(agreements([read_architecture(architecture_file(run.path, device)) for run in finished]))
            decisions += [{**group, **row} for row in rows]
            means = pd.DataFrame(rows, columns=["agreement", "chance"]).mean()
            scores.append({**group, "seeds": len(finished), "decisions": len(rows), **dict(means)})
    return Stability(
        pd.DataFrame(decisions, columns=list(DECISION_COLUMNS)), pd.DataFrame(scores, columns=list(SCORE_COLUMNS))
    )


def agreements(networks: Sequence[Architecture]) -> Iterator[dict[str, Any]]:
    """A row per decision that two networks or more of one space use: pairs of them, the share alike, chance."""
    space = build_space(networks[0])
    if any((network.space, network.spec) != (networks[0].space, networks[0].spec) for network in networks):
        raise InvalidInputError(f"networks of different spaces {sorted({n.space for n in networks})} have no agreement")
    used = [used_decisions(space, network.choices) for network in networks]
    for place, decision in enumerate(space.decisions):
        taken = [choices[decision.name] for choices in used if decision.name in choices]
        pairs = list(combinations(taken, 2))
        if pairs:
            alike = sum(a == b for a, b in pairs) / len(pairs)
            yield {
                "place": place,
                "decision": decision.name,
                "pairs": len(pairs),
                "agreement": alike,
                "chance": 1 / len(decision.choices),
            }


def anytime(run: Run) -> pd.DataFrame:
    """At the end of each epoch: `step`, `seconds`, and `best_accuracy`, the best validation accuracy so far.

    Seconds are those of training steps. The accuracy is that of the networks which the search would return then, with
    shared weights, on part of the validation split: it ranks moments of a search and is no result.
    """
    metrics = run.metrics
    seconds = metrics[STEP] * metrics[STEP_SECONDS]  # a mean over all steps so far
    best = metrics[VALIDATION_ACCURACY].cummax()
    return pd.DataFrame({"step": metrics[STEP], "seconds": seconds, "best_accuracy": best})
