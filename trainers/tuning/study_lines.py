"""What a study prints: a line for each trial, and at the end the best of them."""

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from trainers.tuning.study import attempts_before, current_trials, feasible
from trainers.tuning.tuning_config import TuningConfig

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

SHOWN = 10  # trials of the last table


def trial_line(study: "Study", trial: "FrozenTrial", config: TuningConfig) -> str:
    """`trial 3 (4/30)  done  validation_accuracy 0.91  optimizer.lr=0.012  best 0.93 of trial 1`"""
    notes, attempts = trial.user_attrs, attempts_before(trial)
    ended = sum(other.state.is_finished() for other in current_trials(study))
    over = [name for name, excess in trial.constraints.items() if excess > 0 and name in config.constraints]
    word = notes["status"] + (f", over {', '.join(over)}" if over else "")
    parts = [f"trial {trial.number} ({ended}/{config.n_trials})", word]
    names, figures = dict.fromkeys([*config.objectives, *config.constraints]), notes["figures"]
    parts += [f"{name} {figures[name]:.4g}" for name in names if name in figures]
    parts.append(_parameters(trial))
    if attempts:
        parts.append(f"attempt {len(attempts) + 1} of trial {attempts[0]}")
    if notes.get("error") and notes["status"] != "stopped":
        parts.append(notes["error"].splitlines()[0])
    return "  ".join([*parts, _best(study)])


def last_lines(study: "Study", config: TuningConfig) -> list[str]:
    """The best trial, or the front, as a table; what became of the others; and how to look at the study."""
    trials, best = current_trials(study), study.best_trials
    states = Counter(trial.user_attrs.get("status") or trial.state.name.lower() for trial in trials)
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    lines = ["", f"study {config.study_name}: {counts}"]
    if not best:
        lines.append(f"no trial has {'come to its end' if feasible(trials) == trials else 'met every constraint'}")
    elif len(config.objectives) == 1:
        ended = [trial for trial in feasible(trials) if trial.state.name == "COMPLETE"]
        is_maximised = next(iter(config.objectives.values())) == "maximize"
        lines += _table(sorted(ended, key=lambda t: t.values[0], reverse=is_maximised)[:SHOWN], config)
    else:
        lines.append(f"front of {len(best)}:")
        lines += _table(sorted(best, key=lambda t: t.values)[:SHOWN], config)
    where = config.url.removeprefix("journal:///")
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


def _best(study: "Study") -> str:
    best = study.best_trials
    if not best:
        return "best none yet"
    if len(study.directions) > 1:
        return f"front {len(best)}"
    return f"best {best[0].values[0]:.4g} of trial {best[0].number}"


def _parameters(trial: "FrozenTrial") -> str:
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in trial.params.items()
    )
