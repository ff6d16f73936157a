"""The Hydra sweeper of studies: the search space is read from overrides, trials are jobs of any launcher.

Hydra takes sweepers from the namespace package `hydra_plugins` only, which packaging makes of this folder. It imports
every file there for each command, so all that is slow is imported where a study begins.
"""

from collections.abc import Iterable, Mapping, Sequence
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

    from trainers.cli.command import App
    from trainers.tuning.trials import Outcome, Trials
    from trainers.tuning.tuning_config import TuningConfig


class EspalierOptunaSweeper(Sweeper):
    """A study of Optuna; its settings stand in conf/hydra/sweeper/espalier_optuna.yaml."""

    def __init__(self, params: Mapping[str, str] | None = None, **settings: Any) -> None:
        self.params = dict(params or {})
        self.settings = settings
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.num_launched = 0  # jobs

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
        from trainers.cli.command import tell
        from trainers.tuning.study import current_trials, open_study
        from trainers.tuning.study_lines import last_lines
        from trainers.tuning.study_loop import run_study
        from trainers.tuning.study_storage import answering
        from trainers.tuning.trials import Trials

        config, fixed, space, unchanged = self._checked(arguments)
        with answering(config.url):
            study = open_study(config, space, unchanged)
            trials = Trials(study, config, space)
            ended = sum(trial.state.is_finished() for trial in current_trials(study))
            tell(f"study {config.study_name} at {config.url}  {ended}/{config.n_trials} trials")
            run_study(trials, lambda batch: self._launch(batch, fixed, trials), tell)
            tell("\n".join(last_lines(study, config)))
        return []

    def _checked(
        self, arguments: Sequence[str]
    ) -> "tuple[TuningConfig, list[str], dict[str, BaseDistribution], dict[str, Any]]":
        """The settings of the study, the overrides of every job, the search space, and values that no trial changes."""
        from search_spaces.errors import InvalidInputError
        from trainers.cli.composition import values_of_job, wrong_in_all
        from trainers.cli.searches import SEARCHES
        from trainers.cli.tune import STUDY_KEYS, TUNE
        from trainers.tuning.search_space import examples, fixed_values, unknown_figures
        from trainers.tuning.tuning_config import validate_tuning

        assert self.hydra_context is not None and self.config is not None
        loader, app = self.hydra_context.config_loader, SEARCHES.get(str(self.config.hydra.help.app_name))
        keys = STUDY_KEYS if app is TUNE else {}
        given = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        fixed, space, problems = read_space(OverridesParser.create(config_loader=loader).parse_overrides(given))
        swept = sorted(set(space) & set(keys.values()))
        problems += [f"{key}: got several values, allowed: one; it is a setting of the study" for key in swept]
        config, wrong = validate_tuning(self._settings(), keys)
        problems += wrong
        jobs = [
            values_of_job(loader, self.config, [*fixed, *parameter_overrides(params)]) for params in examples(space)
        ]
        problems += wrong_in_all(jobs, app.check) if app is not None else []
        if config is not None:
            problems += unknown_figures(jobs[0], [*config.objectives, *config.constraints], space)
        if problems:
            raise InvalidInputError("\n  ".join(["the study cannot be run:", *dict.fromkeys(problems)]))
        assert config is not None
        known: dict[Any, str] = {}
        identified = [job if app is None else _identified(app, job, known) for job in jobs]
        return config, fixed, space, fixed_values(identified, space, set(keys.values()))

    def _settings(self) -> dict[str, Any]:
        assert self.config is not None
        folder = str(self.config.hydra.sweep.dir)
        settings = OmegaConf.to_container(OmegaConf.create(self.settings), resolve=True)
        assert isinstance(settings, dict)
        defaults = {"storage": f"{folder}/study.db", "study_name": folder.rstrip("/").rpartition("/")[2]}
        return {str(k): defaults.get(str(k)) if v is None and k in defaults else v for k, v in settings.items()}

    def _launch(self, batch: "Sequence[Trial]", fixed: Sequence[str], trials: "Trials") -> "list[Outcome]":
        from trainers.tuning.trials import Outcome

        assert self.launcher is not None
        jobs = []
        for trial in batch:
            watch = [] if trials.config.pruner_name == "none" else [trial_override(trials, trial)]
            jobs.append([*fixed, *parameter_overrides(trial.params), *watch])
        try:
            returned = self.launcher.launch(jobs, initial_job_idx=self.num_launched)
        except (HydraException, OmegaConfBaseException):
            raise
        except Exception as error:  # of a launcher that has lost its jobs, as when a worker is killed
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return [Outcome("interrupted", {}, error=reason)] * len(batch)
        self.num_launched += len(jobs)
        return [outcome_of(job) for job in returned]


def _identified(app: "App", job: dict[str, Any], known: dict[Any, str]) -> dict[str, Any]:
    """The job with what its figures come from; as it is, if it can never run, as others of the study can."""
    from search_spaces.errors import InvalidInputError

    try:
        checked = app.check(job)
    except InvalidInputError:
        return job
    config = app.identify(checked, known)
    return {**job, "data": config.data, "measured_on": config.measured_on}


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
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if override.is_choice_sweep():  # of texts, as they stand in overrides: a value may be a list or a name of a group
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    sweep = override.value()
    assert isinstance(sweep, RangeSweep | IntervalSweep)
    if unknown := sweep.tags - {"log"}:
        raise ValueError(f"tag {min(unknown)}, allowed: log")
    log, low, high, step = "log" in sweep.tags, sweep.start, getattr(sweep, "end", None), None
    if isinstance(sweep, RangeSweep):
        values = sorted(sweep.range())
        if not values:
            raise ValueError("the range is empty")
        low, high, step = values[0], values[-1], abs(sweep.step) if len(values) > 1 else 1
    assert low is not None and high is not None
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=step)


def parameter_overrides(params: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in params.items()]


def trial_override(trials: "Trials", trial: "Trial") -> str:
    """What tells a job which trial it is, the same for each attempt at it."""
    from trainers.cli.overrides import quoted

    config = trials.config
    texts = {"storage": config.url, "study": config.study_name}
    parts = [f"{key}:{quoted(text)}" for key, text in texts.items()]
    return f"trial={{{','.join(parts)},number:{trials.attempts(trial)[0]}}}"


def outcome_of(job: JobReturn) -> "Outcome":
    """What a job came to, from what it returned or raised."""
    from trainers.runs.exit_status import status_of
    from trainers.tuning.trials import Outcome

    if job.status == JobStatus.COMPLETED:
        value = job.return_value
        return Outcome(value["status"], value["objective"], value["folder"], error=value.get("error"))
    ending = status_of(job._return_value)  # the property would raise it
    return Outcome(ending.state, {}, error=ending.reason)
