"""What a study tells in words: a line for each trial, and at the end the best of them."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from trainers.tuning.trial_queue import ATTEMPT, SAME_AS
from trainers.tuning.tuning_config import TuningConfig

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

SHOWN = 10  # trials of the last table


def trial_line(study: "Study", trial: "FrozenTrial", config: TuningConfig) -> str:
    """`trial 3 (4/30)  done  validation_accuracy 0.91  optimizer.lr=0.012  best 0.93 of trial 1`"""
    ended = sum(t.state.is_finished() for t in study.get_trials(deepcopy=False))
    notes = trial.user_attrs
    word = notes["status"] if SAME_AS not in notes else f"same as trial {notes[SAME_AS]}, {notes['status']}"
    over = [name for name, excess in trial.constraints.items() if excess > 0 and name in config.constraints]
    parts = [f"trial {trial.number} ({ended}/{config.n_trials})", word + (f", over {', '.join(over)}" if over else "")]
    parts += [f"{name} {value:.4g}" for name, value in _figures(trial, config).items()]
    parts.append(_parameters(trial))
    if notes.get(ATTEMPT, 1) > 1:
        parts.append(f"attempt {notes[ATTEMPT]}")
    if notes.get("error") and notes["status"] != "stopped":
        parts.append(notes["error"].splitlines()[0])
    return "  ".join([*parts, _best(study, config)])


def last_lines(study: "Study", config: TuningConfig) -> list[str]:
    """The best trial, or the front, as a table; what became of the others; and how to look at the study."""
    best = study.best_trials
    states: dict[str, int] = {}
    for trial in study.get_trials(deepcopy=False):
        state = trial.user_attrs.get("status") or trial.state.name.lower()
        states[state] = states.get(state, 0) + 1
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    lines = ["", f"study {config.study_name}: {counts}"]
    if not best:
        over = any(excess > 0 for trial in study.get_trials(deepcopy=False) for excess in trial.constraints.values())
        lines.append("no trial has met every constraint" if over else "no trial has come to its end")
    elif len(config.objectives) == 1:
        ranked = sorted(_feasible(study), key=lambda t: t.values[0], reverse=_is_maximised(config))
        lines += _table(ranked[:SHOWN], config)
    else:
        lines.append(f"front of {len(best)}:")
        lines += _table(sorted(best, key=lambda t: t.values)[:SHOWN], config)
    where = config.place.path if config.place.kind == "journal" else config.place.url
    missing = "" if find_spec("optuna_dashboard") else "  (pip install optuna-dashboard)"
    return [*lines, f"next  optuna-dashboard {where}{missing}"]


def _table(trials: "Sequence[FrozenTrial]", config: TuningConfig) -> list[str]:
    names = list(dict.fromkeys([*config.objectives, *config.constraints]))
    rows = [["trial", *names, "parameters", "folder"]]
    for trial in trials:
        figures = [f"{trial.user_attrs['figures'][name]:.4g}" for name in names]
        rows.append([str(trial.number), *figures, _parameters(trial), trial.user_attrs.get("folder") or ""])
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _best(study: "Study", config: TuningConfig) -> str:
    best = study.best_trials
    if not best:
        return "best none yet"
    if len(config.objectives) > 1:
        return f"front {len(best)}"
    return f"best {best[0].values[0]:.4g} of trial {best[0].number}"


def _feasible(study: "Study") -> "list[FrozenTrial]":
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return [trial for trial in trials if all(value <= 0 for value in trial.constraints.values())]


def _is_maximised(config: TuningConfig) -> bool:
    return next(iter(config.objectives.values())) == "maximize"


def _figures(trial: "FrozenTrial", config: TuningConfig) -> Mapping[str, Any]:
    figures = trial.user_attrs.get("figures") or {}
    return {name: figures[name] for name in [*config.objectives, *config.constraints] if name in figures}


def _parameters(trial: "FrozenTrial") -> str:
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in trial.params.items()
    )
