"""The section `logger` of a configuration, checked before any work."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search_spaces.errors import InvalidInputError

Line = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
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
    uri: Line | None
    experiment: Line


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


def check_logger(content: Mapping[str, Any]) -> LoggerConfig:
    """The checked section. Raises: InvalidInputError that lists every wrong key, or names what is not installed."""
    name = content.get("name")
    if not isinstance(name, str) or name not in LOGGERS:
        raise InvalidInputError(f"logger.name: got {name!r}, allowed: {', '.join(LOGGERS)}; as logger=wandb")
    try:
        config = LOGGERS[name].model_validate(dict(content))
    except ValidationError as error:
        lines = [f"the logger {name} cannot be used:"]
        for details in error.errors(include_url=False):
            got = "nothing" if details["type"] == "missing" else repr(details["input"])
            lines.append(f"logger.{'.'.join(map(str, details['loc']))}: got {got}; {details['msg']}")
        raise InvalidInputError("\n  ".join(lines)) from error
    if name in OPTIONAL and find_spec(name) is None:
        raise InvalidInputError(
            f"logger={name} needs the package {name}, which is not installed: pip install 'espalier[{name}]'"
        )
    if isinstance(config, WandbConfig):
        from trainers.tracking.wandb_tracker import check_mode

        check_mode(config.mode)
    return config
