"""Studies in tests whose trials this process runs itself, without jobs."""

import subprocess
from pathlib import Path
from typing import Any

from optuna import Trial
from optuna.distributions import FloatDistribution

from trainers.tuning.study import open_study
from trainers.tuning.trials import PROCESS, Outcome, Trials
from trainers.tuning.tuning_config import TuningConfig, validate_tuning

SPACE = {"x": FloatDistribution(0, 1)}


def config(folder: Path, **changes: Any) -> TuningConfig:
    content = {
        **{"storage": f"{folder}/study.db", "study_name": "s", "n_trials": 9, "n_jobs": 1, "seed": 0},
        **{"timeout_s": None, "objectives": None, "constraints": {}},
        "sampler": {"name": "tpe", "startup_trials": 10},
        "pruner": {"name": "median", "startup_trials": 1, "warmup_epochs": 0},
    }
    found, problems = validate_tuning(content | changes, {})
    assert found is not None and problems == []
    return found


def trials_of(settings: TuningConfig, space: Any = SPACE) -> Trials:
    """The trials of one more process that runs the study."""
    return Trials(open_study(settings, space, {}), settings, space)


def ended(accuracy: float, **figures: float) -> Outcome:
    return Outcome("done", {"validation_accuracy": accuracy, **figures})


def lose(trial: Trial) -> None:
    """The process that runs a trial is gone."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    trial.set_user_attr(PROCESS, {**trial.user_attrs[PROCESS], "pid": gone.pid})
