"""What a study prints: a line for each trial, and at the end the best of them."""

from collections import Counter
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
    parts += _facts(trial, config)
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
        best = [trial for trial in feasible(trials) if trial.state.name == "COMPLETE"]
        best.sort(key=lambda trial: trial.values[0], reverse="maximize" in config.objectives.values())
    else:
        lines.append(f"front of {len(best)}:")
    for trial in best[:SHOWN]:
        lines.append("  ".join([f"trial {trial.number}", *_facts(trial, config), str(trial.user_attrs["folder"])]))
    missing = "" if find_spec("optuna_dashboard") else "  (pip install optuna-dashboard)"
    return [*lines, f"next  optuna-dashboard {config.url.removeprefix('journal:///')}{missing}"]


def _facts(trial: "FrozenTrial", config: TuningConfig) -> list[str]:
    """Its objectives and constraints, as far as it has them, and its parameters."""
    names, figures = dict.fromkeys([*config.objectives, *config.constraints]), trial.user_attrs["figures"]
    parameters = {k: f"{value:.4g}" if isinstance(value, float) else value for k, value in trial.params.items()}
    shown = " ".join(f"{key}={value}" for key, value in parameters.items())
    return [*(f"{name} {figures[name]:.4g}" for name in names if name in figures), shown]


def _best(study: "Study") -> str:
    best = study.best_trials
    if not best:
        return "best none yet"
    if len(study.directions) > 1:
        return f"front {len(best)}"
    return f"best {best[0].values[0]:.4g} of trial {best[0].number}"
