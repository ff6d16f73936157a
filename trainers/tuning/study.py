"""Studies: opened or continued, with the sampler and the pruner that their settings name."""

import json
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search_spaces.errors import InvalidInputError
from trainers.runs.metric_names import VALIDATION_ACCURACY
from trainers.tuning.study_storage import experimental, open_storage
from trainers.tuning.tuning_config import TuningConfig

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

ABOUT = "espalier"  # attribute of a study: what it was begun with


def open_study(config: TuningConfig, space: "Mapping[str, BaseDistribution]", fixed: Mapping[str, Any]) -> "Study":
    """The study of this name, begun now or continued.

    `fixed` are the values of the configuration that no trial changes. Raises: InvalidInputError if the study was
    begun with other ones, with another search space or with other objectives: its trials could not be compared.
    """
    import optuna
    from optuna.distributions import distribution_to_json

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    about = {
        "objectives": dict(config.objectives),
        "constraints": dict(config.constraints),
        "space": {name: distribution_to_json(distribution) for name, distribution in space.items()},
        "pruner": {**config.pruner.model_dump(), "name": config.pruner_name, "metric": VALIDATION_ACCURACY},
        "fixed": dict(fixed),
    }
    name, directions = config.study_name, list(config.objectives.values())
    study = optuna.create_study(
        storage=open_storage(config.url), study_name=name, directions=directions, load_if_exists=True
    )
    if not study.get_trials(deepcopy=False) and ABOUT not in study.user_attrs:
        with experimental():
            study.set_metric_names(list(config.objectives))
        study.set_user_attr(ABOUT, about)
    if problems := differences(study.user_attrs.get(ABOUT), about):
        title = f"the study {name} at {config.url} cannot be continued with this:"
        advice = "repeat its own command, or give the study another name or place"
        raise InvalidInputError("\n  ".join([title, *problems]) + f"\n{advice}")
    study.pruner = pruner_of_study(study)
    return study


def differences(begun: Any, now: Mapping[str, Any]) -> list[str]:
    """What a study was begun with beside what it is to be continued with, a line for each that differs."""
    if not isinstance(begun, dict) or set(begun) != set(now):
        return ["it was made by another program"]
    begun, now = json.loads(json.dumps(begun)), json.loads(json.dumps(now))
    pairs = {part: (begun[part], now[part]) for part in ("objectives", "constraints", "pruner")}
    for part in ("space", "fixed"):
        for key in sorted(set(begun[part]) | set(now[part])):
            pairs[key] = (begun[part].get(key, "nothing"), now[part].get(key, "nothing"))
    return [f"{key}: it has {_plain(old)}, now {_plain(new)}" for key, (old, new) in pairs.items() if old != new]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def attempts_before(trial: "FrozenTrial") -> list[int]:
    """The numbers of the trials that this one repeats, the first attempt first; Optuna writes them down."""
    history: list[int] = trial.system_attrs.get("retry_history", [])
    return history


def current_trials(study: "Study") -> "list[FrozenTrial]":
    """The trials of a study but for those that another one repeats."""
    trials = study.get_trials(deepcopy=False)
    repeated = {number for trial in trials for number in attempts_before(trial)}
    return [trial for trial in trials if trial.number not in repeated]


def sampler_of(config: TuningConfig, number: int) -> "BaseSampler":
    """The sampler that suggests trial `number`: what it draws follows from the seed, the number and earlier trials.

    So processes that share a study draw different numbers, and a study that was killed goes on as it would have.
    """
    import numpy as np
    from optuna.samplers import GPSampler, NSGAIISampler, TPESampler

    seed = None if config.seed is None else int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
    chosen = config.sampler
    if chosen.name == "tpe":
        return TPESampler(seed=seed, n_startup_trials=chosen.startup_trials)
    if chosen.name == "gp":
        return GPSampler(seed=seed, n_startup_trials=chosen.startup_trials)
    return NSGAIISampler(seed=seed, population_size=chosen.population)


def pruner_of_study(study: "Study") -> "BasePruner":
    """The pruner that a study was begun with."""
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    settings = study.user_attrs[ABOUT]["pruner"]
    if settings["name"] == "median":
        first = settings["warmup_epochs"] + 1  # epochs count from 1
        return MedianPruner(n_startup_trials=settings["startup_trials"], n_warmup_steps=first)
    if settings["name"] == "hyperband":
        return HyperbandPruner(min_resource=settings["warmup_epochs"] + 1)
    return NopPruner()


def comparable_study(storage: "BaseStorage", name: str) -> "Study":
    """A study as its pruner is to see it: without trials over a constraint, which are often the better ones."""
    from optuna import Study
    from optuna.samplers import RandomSampler
    from optuna.trial import FrozenTrial, TrialState

    class Comparable(Study):
        def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
            return feasible(super().get_trials(deepcopy, states))

    study = Comparable(name, storage, sampler=RandomSampler())  # that samples nothing here
    study.pruner = pruner_of_study(study)
    return study


def feasible(trials: "Sequence[FrozenTrial]") -> "list[FrozenTrial]":
    """The trials that meet every constraint."""
    return [trial for trial in trials if all(excess <= 0 for excess in trial.constraints.values())]
