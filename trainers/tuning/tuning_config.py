"""The settings of a study, checked as a whole before anything is opened. Plain values in, typed values out."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from hardware_models.field_errors import Place, problems_of
from search_spaces.errors import InvalidInputError
from trainers.runs.config import Count, Line, Positive, Section
from trainers.tuning.study_storage import storage_url

Direction = Literal["maximize", "minimize"]
Figure = Annotated[float, Field(allow_inf_nan=False)]
DEFAULT_OBJECTIVES: dict[str, Direction] = {"validation_accuracy": "maximize"}
DEFAULT_CONSTRAINTS = {"utilisation": 1.0}  # a network over a budget is no answer


class SamplerConfig(Section):
    """What suggests trials: TPE or a Gaussian process after random `startup_trials`, or NSGA-II by a `population`."""

    name: Literal["tpe", "gp", "nsga2"]
    startup_trials: Count = 10
    population: Annotated[int, Field(ge=2)] = 20


class PrunerConfig(Section):
    """What prunes trials, from the validation accuracy of their epochs. `auto`: median if one objective allows."""

    name: Literal["auto", "none", "median", "hyperband"]
    startup_trials: Annotated[int, Field(ge=0)]
    warmup_epochs: Annotated[int, Field(ge=0)]


class TuningConfig(Section):
    """A study; the meaning of each key stands in conf/hydra/sweeper/espalier_optuna.yaml."""

    storage: Line
    study_name: Line
    n_trials: Annotated[int, Field(ge=1, le=1_000_000)]
    n_jobs: Annotated[int, Field(ge=1, le=10_000)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None
    timeout_s: Positive | None
    objectives: Annotated[
        dict[Line, Direction],
        Field(min_length=1),
        BeforeValidator(lambda given: DEFAULT_OBJECTIVES if given is None else given),
    ]
    constraints: Annotated[
        dict[Line, Figure], BeforeValidator(lambda given: DEFAULT_CONSTRAINTS if given is None else given)
    ]
    sampler: SamplerConfig
    pruner: PrunerConfig

    @property
    def url(self) -> str:
        return storage_url(self.storage)

    @property
    def pruner_name(self) -> str:
        """The pruner in force: none, median or hyperband."""
        if self.pruner.name != "auto":
            return self.pruner.name
        return "median" if self._rises and next(iter(self.objectives)).endswith("validation_accuracy") else "none"

    @property
    def _rises(self) -> bool:
        """Whether there is one objective, which gets better as the validation accuracy of epochs does."""
        return list(self.objectives.values()) == ["maximize"]

    def problems(self, keys: Mapping[str, str]) -> list[str]:
        """What is wrong with it beyond single values; `keys` are the names under which a user sets its fields."""
        found, name = [], self.pruner.name
        try:
            _ = self.url
        except InvalidInputError as error:
            found.append(f"{_shown(('storage',), keys)}: {error}")
        if name in ("median", "hyperband") and not self._rises:
            found.append(
                f"{_shown(('pruner', 'name'), keys)}: {name} prunes by validation accuracy and needs one objective to "
                f"maximize, got {self.objectives}; choose none, or another objective"
            )
        return found


def validate_tuning(content: Mapping[str, Any], keys: Mapping[str, str]) -> tuple[TuningConfig | None, list[str]]:
    """The settings, none if not of their form, and all that is wrong with them under the keys that a user sets."""
    try:
        config = TuningConfig.model_validate(content)
    except ValidationError as error:
        return None, problems_of(error, lambda place: _shown(place, keys))
    return config, config.problems(keys)


def _shown(place: Place, keys: Mapping[str, str]) -> str:
    """The key under which a user sets the setting at `place`."""
    name = ".".join(map(str, place))
    for setting, key in keys.items():
        if name == setting or name.startswith(f"{setting}."):
            return key + name.removeprefix(setting)
    return f"hydra.sweeper.{name}"
