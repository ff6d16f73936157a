"""The Hydra sweeper of studies: what is searched over is read from overrides, trials are jobs of any launcher.

Hydra takes sweepers from the namespace package `hydra_plugins` only, which packaging makes of this folder. It imports
every file there for each command, so all that is slow is imported where a study begins.
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

    from trainers.tuning.trial_queue import Outcome
    from trainers.tuning.tuning_config import TuningConfig

REFERENCE = re.compile(r"\$\{([\w.]+)\}")


class EspalierOptunaSweeper(Sweeper):
    """A study of Optuna; its settings stand in conf/hydra/sweeper/espalier_optuna.yaml."""

    def __init__(self, params: Mapping[str, str] | None = None, **settings: Any) -> None:
        self.params = dict(params or {})
        self.settings = settings
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.launched = 0  # jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Runs the study.

        Raises: InvalidInputError that lists everything wrong with it, before any work; StudyError if its storage goes
        away.
        """
        from trainers.tuning.studies import open_study
        from trainers.tuning.study_lines import last_lines
        from trainers.tuning.study_loop import run_study
        from trainers.tuning.study_place import answering
        from trainers.tuning.trial_queue import Turns

        config, fixed, space, jobs = self._checked(arguments)
        with answering(config.place):
            study = open_study(config, space, fixed_values(jobs, space, self._own_keys()))
            ended = sum(trial.state.is_finished() for trial in study.trials)
            _print(f"study {config.study_name} at {config.place.url}  {ended}/{config.n_trials} trials")
            run_study(Turns(study, config, space), lambda trials: self._launch(trials, fixed, config), _print)
            for line in last_lines(study, config):
                _print(line)
        return []

    def _checked(
        self, arguments: Sequence[str]
    ) -> "tuple[TuningConfig, list[str], dict[str, BaseDistribution], list[dict[str, Any]]]":
        """The settings of the study, the overrides of every job, the search space, and configurations of a few jobs."""
        from trainers.cli.composition import values_of_job, wrong_in_all
        from trainers.cli.tune import SEARCHES
        from trainers.runs.exit_status import StudyRefusedError
        from trainers.tuning.tuning_config import validate_tuning

        assert self.hydra_context is not None and self.config is not None
        given = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        fixed, space, problems = read_space(parser.parse_overrides(given))
        swept = sorted(set(space) & set(self._own_keys()))
        problems += [f"{key}: got several values, allowed: one; it is a setting of the study" for key in swept]
        config, wrong = validate_tuning(self._settings(), self._keys())
        problems += wrong
        loader, app = self.hydra_context.config_loader, SEARCHES.get(str(self.config.hydra.help.app_name))
        jobs = [values_of_job(loader, self.config, [*fixed, *overrides]) for overrides in examples(space)]
        problems += wrong_in_all(jobs, app.check) if app is not None else []
        if config is not None:
            problems += unknown_figures(jobs[0], [*config.objectives, *config.constraints], space)
        if problems:
            raise StudyRefusedError("\n  ".join(["the study cannot be run:", *dict.fromkeys(problems)]))
        assert config is not None
        return config, fixed, space, jobs

    def _settings(self) -> dict[str, Any]:
        assert self.config is not None
        folder = str(self.config.hydra.sweep.dir)
        settings = OmegaConf.to_container(OmegaConf.create(self.settings), resolve=True)
        assert isinstance(settings, dict)
        defaults = {"storage": f"{folder}/study.db", "study_name": folder.rstrip("/").rpartition("/")[2]}
        return {str(k): defaults.get(str(k)) if v is None and k in defaults else v for k, v in settings.items()}

    def _keys(self) -> dict[str, str]:
        """Setting: key under which the user sets it, which may be one that the setting refers to."""
        assert self.config is not None
        raw = OmegaConf.to_container(self.config.hydra.sweeper, resolve=False)
        return {name: _referred(value) or f"hydra.sweeper.{name}" for name, value in dotted(raw).items()}

    def _own_keys(self) -> list[str]:
        """Keys of the configuration that are settings of the study."""
        return [key for key in self._keys().values() if not key.startswith("hydra.")]

    def _launch(self, trials: "Sequence[Trial]", fixed: Sequence[str], config: "TuningConfig") -> "list[Outcome]":
        from trainers.tuning.study_loop import JobsLostError

        assert self.launcher is not None
        batch = []
        for trial in trials:
            watch = [] if config.pruner_name == "none" else [trial_override(config, trial.number)]
            batch.append([*fixed, *parameter_overrides(trial.params), *watch])
        try:
            jobs = self.launcher.launch(batch, initial_job_idx=self.launched)
            self.launched += len(batch)
        except (HydraException, OmegaConfBaseException):
            raise
        except Exception as error:
            raise JobsLostError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
        return [outcome_of(job) for job in jobs]


def _print(line: str) -> None:
    print(line, flush=True)


def _referred(value: Any) -> str | None:
    """The key that a setting refers to."""
    found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return found.group(1) if found else None


def read_space(overrides: Iterable[Override]) -> "tuple[list[str], dict[str, BaseDistribution], list[str]]":
    """Overrides that every job gets, distribution of each key that is searched over, and what is wrong."""
    fixed: dict[str, str] = {}
    space: dict[str, BaseDistribution] = {}
    problems: list[str] = []
    for override in overrides:
        key = override.get_key_element()
        fixed.pop(key, None)
        space.pop(key, None)  # the last one counts, as everywhere in Hydra
        if not override.is_sweep_override():
            assert override.input_line is not None
            fixed[key] = override.input_line
            continue
        try:
            space[key] = distribution_of(override)
        except (ValueError, HydraException) as error:
            problems.append(f"{override.input_line}: {error}")
    if not space and not problems:
        problems.append(
            "nothing to search over; give a key several values, as 'optimizer.lr=tag(log,interval(0.003,0.3))'"
        )
    return list(fixed.values()), space, problems


def distribution_of(override: Override) -> "BaseDistribution":
    """The distribution that a sweep override means. Raises: ValueError if it is none."""
    from optuna.distributions import CategoricalDistribution

    if override.is_choice_sweep():  # of texts, as they stand in overrides: a value may be a list or a name of a group
        choices = list(dict.fromkeys(override.sweep_string_iterator()))
        if not choices:
            raise ValueError("it has no choices")
        return CategoricalDistribution(choices)
    sweep = override.value()
    assert isinstance(sweep, RangeSweep | IntervalSweep)
    unknown = sorted(sweep.tags - {"log"})
    if unknown:
        raise ValueError(f"tag {unknown[0]}, allowed: log")
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None and sweep.end is not None
        return _numbers(sweep.start, sweep.end, None, log="log" in sweep.tags)
    values = sorted(sweep.range())
    if not values:
        raise ValueError("the range is empty")
    step = values[1] - values[0] if len(values) > 1 else 1
    return _numbers(values[0], values[-1], abs(sweep.step) if len(values) > 1 else step, log="log" in sweep.tags)


def _numbers(low: float, high: float, step: float | None, *, log: bool) -> "BaseDistribution":
    from optuna.distributions import FloatDistribution, IntDistribution

    if low > high:
        raise ValueError(f"its start {low} is above its end {high}")
    if log and low <= 0:
        raise ValueError(f"its start is {low}, and a logarithm needs one above 0")
    if log and step not in (None, 1):
        raise ValueError("a range of steps has no logarithm; use an interval")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=None if log else step)


def parameter_overrides(params: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in params.items()]


def examples(space: "Mapping[str, BaseDistribution]") -> list[list[str]]:
    """Overrides of a few trials that together take each choice and both ends of each interval."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    ends: dict[str, Sequence[Any]] = {}
    for key, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            ends[key] = distribution.choices
        elif isinstance(distribution, FloatDistribution | IntDistribution):
            ends[key] = [distribution.low, distribution.high]
    longest = max((len(values) for values in ends.values()), default=1)
    return [parameter_overrides({key: v[min(k, len(v) - 1)] for key, v in ends.items()}) for k in range(longest)]


def trial_override(config: "TuningConfig", number: int) -> str:
    """What tells a job which trial it is, so that it may be stopped."""
    from trainers.cli.overrides import quoted

    texts = {"storage": config.place.url, "study": config.study_name, "metric": config.pruner.metric}
    parts = [f"{key}:{quoted(text)}" for key, text in texts.items()]
    return f"trial={{{','.join(parts)},number:{number}}}"


def fixed_values(jobs: Iterable[Mapping[str, Any]], space: Iterable[str], own: Container[str]) -> dict[str, Any]:
    """Dotted key: value, of what the results of these jobs depend on besides the trial; all values, if it has several.

    Those follow from choices of the space, as the learning rates that optimizers come with. Keys of the space are left
    out, and the study's `own` with all below them.
    """
    from trainers.runs.config import fingerprint_fields, table_hashes

    searched = {key.lstrip("+") for key in space}
    found: dict[str, list[Any]] = {}
    for job in jobs:
        hardware = job.get("hardware")
        more = {"content of look-up tables": table_hashes(hardware), "order of devices": list(hardware or ())}
        for key, value in (dotted(fingerprint_fields(job), own) | more).items():
            if key not in searched and value not in found.setdefault(key, []):
                found[key].append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def dotted(content: Any, left_out: Container[str] = (), prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by their dotted keys, without those `left_out` and what is below them."""
    if not (isinstance(content, Mapping) and content):
        return {prefix: content}
    found: dict[str, Any] = {}
    for name, value in content.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if key not in left_out:
            found |= dotted(value, left_out, key)
    return found


def unknown_figures(content: Mapping[str, Any], names: Iterable[str], space: Mapping[str, Any]) -> list[str]:
    """What is wrong with names of objectives, where the jobs are searches whose devices are known by now."""
    hardware = content.get("hardware")
    if not isinstance(hardware, Mapping) or any(key.lstrip("+").startswith("hardware") for key in space):
        return []
    allowed = ["validation_accuracy", "utilisation", "seconds"]
    for device, profile in hardware.items():
        budgets = profile.get("budgets") if isinstance(profile, Mapping) else None
        limited = [metric for metric, limit in (budgets or {}).items() if limit is not None]
        allowed += [f"{device}/{figure}" for figure in ("validation_accuracy", *limited)]
    return [
        f"{name}: no such figure of a search; allowed: {', '.join(allowed)}" for name in names if name not in allowed
    ]


def outcome_of(job: JobReturn) -> "Outcome":
    """What a job came to, from what it returned or raised."""
    from trainers.runs.exit_status import status_of
    from trainers.tuning.trial_queue import Outcome

    if job.status == JobStatus.COMPLETED:
        value = job.return_value
        return Outcome(value["status"], value["objective"], value["folder"])
    ending = status_of(job._return_value)  # the property would raise it
    return Outcome(ending.state, {}, error=ending.reason)
