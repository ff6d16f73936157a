"""The section `logger` of a configuration, checked before any work."""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search_spaces.errors import InvalidInputError
from trainers.runs.validation import dotted, problems_of

ShortLine = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
# W&B takes 128 of these characters.
ProjectName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\\#?%:\x00-\x1f\x7f]+$")]
Mode = Literal["online", "offline", "disabled"]


class _Logger(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LocalConfig(_Logger):
    name: Literal["local"]


class CsvConfig(_Logger):
    name: Literal["csv"]


class TensorBoardConfig(_Logger):
    name: Literal["tensorboard"]


class MlflowConfig(_Logger):
    """The meaning of each key stands in conf/logger/mlflow.yaml."""

    name: Literal["mlflow"]
    uri: ShortLine | None
    experiment: ShortLine


class WandbConfig(_Logger):
    """The meaning of each key stands in conf/logger/wandb.yaml."""

    name: Literal["wandb"]
    project: ProjectName
    entity: ProjectName | None
    mode: Mode | None


LoggerConfig = LocalConfig | CsvConfig | TensorBoardConfig | MlflowConfig | WandbConfig
LOGGERS: dict[str, type[LoggerConfig]] = {
    "local": LocalConfig,
    "csv": CsvConfig,
    "tensorboard": TensorBoardConfig,
    "mlflow": MlflowConfig,
    "wandb": WandbConfig,
}
OPTIONAL = ("tensorboard", "mlflow")  # extras of the same name as their package
MAX_TAG = 64  # characters, of W&B
# Its own settings let a server that is not there answer for minutes; a user's go before these.
HASTY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def check_logger(content: Mapping[str, Any], *, tags: Sequence[str] = ()) -> LoggerConfig:
    """The checked section, for a run with these tags.

    Raises: InvalidInputError that lists every wrong key, or names what is not installed or does not answer.
    """
    name = content.get("name")
    if not isinstance(name, str) or name not in LOGGERS:
        raise InvalidInputError(f"logger.name: got {name!r}, allowed: {', '.join(LOGGERS)}; as logger=wandb")
    try:
        config = LOGGERS[name].model_validate(dict(content))
    except ValidationError as error:
        lines = problems_of(error, lambda place: dotted(("logger", *place)))
        raise InvalidInputError("\n  ".join([f"the logger {name} cannot be used:", *lines])) from error
    if name in OPTIONAL and find_spec(name) is None:
        raise InvalidInputError(
            f"logger={name} needs the package {name}, which is not installed: pip install 'espalier[{name}]'"
        )
    if isinstance(config, MlflowConfig):
        check_store(config)
    if isinstance(config, WandbConfig):
        long = [tag for tag in tags if len(tag) > MAX_TAG]
        if long:
            raise InvalidInputError(f"tags: W&B takes at most {MAX_TAG} characters each, got {long[0]!r}; shorten it")
        from trainers.loggers.wandb import check_mode

        check_mode(config.mode)
    return config


def check_store(config: MlflowConfig) -> None:
    """Raises: InvalidInputError if the store that is named does not answer; the default one is made with the run."""
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return
    hasty = {name: text for name, text in HASTY.items() if name not in os.environ}
    os.environ.update(hasty)
    from trainers.loggers.mlflow import open_store

    try:
        open_store(uri)
    finally:
        for name in hasty:
            os.environ.pop(name)
