"""The configuration of a search, checked as a whole before anything is loaded. Plain values in, typed values out."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from hardware_models.metrics import Margin
from trainers.runs.plugins import CLASSES, may_name_class, wrong_plugins
from trainers.runs.validation import problems_of, refusal

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Line = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]
# Part of a path, so no separators and no dots alone.
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=80)]
# One of digits alone is a number to YAML and to Hydra, and yet the name that was meant.
SweepName = Annotated[FolderName, BeforeValidator(lambda name: str(name) if type(name) is int else name)]
# What is not asked of a search, by dotted keys: where files lie, how many threads compute, who logs it. Threads
# round sums differently, as processors do: a result names both, and the same command is the same run on any machine.
# Keys that stand in a fingerprint only with a value.
ASKED_IF_SET = ("relaxation", "constraint", "sampler", "searcher", "evaluator", "remedy")
NOT_IN_FINGERPRINT = (
    *("paths", "sweep", "logger", "tags", "trial"),
    *("data.root", "trainer.threads", "trainer.checkpoint_seconds"),
)
SCHEDULE = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR"}


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Kind = TypeVar("Kind", bound=Section)


class TrainerConfig(Section):
    """Lengths, in steps and images, and rates of a search; the meaning of each key stands in conf/trainer/cpu.yaml."""

    steps: Annotated[int, Field(ge=1, le=10_000_000)]
    batch_size: Annotated[int, Field(ge=2, le=65_536)]
    warmup_share: Share
    arch_every: Count
    prune_events: Count
    prune_from: Share
    prune_to: Share
    offset_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    clip_norm: Positive
    candidates: Annotated[int, Field(ge=1, le=4096)]
    recalibration_images: Count
    validation_images: Count | None
    finetune_steps: Annotated[int, Field(ge=0)]
    finetune_lr: Positive
    max_cuts: Count
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    checkpoint_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _prunes_forward(self) -> "TrainerConfig":
        if self.prune_from >= self.prune_to:
            raise ValueError(f"prune_from must be below prune_to, got {self.prune_from} and {self.prune_to}")
        return self


class BoardConfig(Section):
    """Another machine, over SSH; the meaning of each key stands in conf/measure.yaml."""

    # A leading dash would be read as an option.
    host: Annotated[str, Field(pattern=r"^[^-\s][^\s]*$")] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    identity: Line | None = None
    ssh_config: Line | None = None
    python: Line = "python3"
    timeout_s: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 600

    def problems(self, key: str) -> list[str]:
        """What is wrong with it as the section `key`, beyond single values."""
        files = {name: text for name, text in (("identity", self.identity), ("ssh_config", self.ssh_config)) if text}
        missing = {name: text for name, text in files.items() if not os.path.isfile(os.path.expanduser(text))}
        found = [f"{key}.{name}: no such file: {text}" for name, text in missing.items()]
        if self.host is None and (files or self.port is not None):
            found.append(f"{key}.host: got none beside its other keys; name the machine, as {key}.host=pi@192.168.1.20")
        return found


class PathsConfig(Section):
    runs: Line
    data: Line
    cache: Line


class TrialConfig(Section):
    """The trial of an Optuna study that a search is; set by the sweeper."""

    storage: Line
    study: Line
    number: Annotated[int, Field(ge=0)]
    metric: Line = "val/acc"


class SearchConfig(Section):
    """One search. Components that have arguments of their own are mappings, checked where they are built."""

    space: dict[str, Any]
    hardware: Annotated[dict[FolderName, dict[str, Any]], Field(min_length=1)]  # whose files are named after them
    data: dict[str, Any]
    strategy: dict[str, Any]
    relaxation: dict[str, Any] | None = None  # these five replace parts of the strategy
    constraint: dict[str, Any] | None = None
    sampler: dict[str, Any] | None = None
    searcher: dict[str, Any] | None = None
    evaluator: dict[str, Any] | None = None
    remedy: Annotated[dict[str, dict[str, Any]], BeforeValidator(lambda found: found or {})] = {}  # by name
    optimizer: dict[str, Any]
    arch_optimizer: dict[str, Any]
    schedule: dict[str, Any] = SCHEDULE
    callbacks: list[dict[str, Any]] = []
    margin: Margin
    trainer: TrainerConfig
    boards: Annotated[dict[str, BoardConfig], BeforeValidator(lambda boards: {} if boards is None else boards)] = {}
    logger: dict[str, Any]
    tags: list[Line]
    trial: TrialConfig | None
    paths: PathsConfig
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    sweep: SweepName
    plugins: list[Line] = []

    @property
    def fingerprint_fields(self) -> dict[str, Any]:
        """What the search is asked: with the same threads, on the same kind of processor, the result is the same."""
        content = fingerprint_fields(self.model_dump(mode="json"))
        content["devices"] = list(self.hardware)  # they are taken in turn, so their order matters
        tables = table_hashes(content["hardware"])
        if tables:  # what a file holds, not where it lies, is what prices depend on
            content["tables"] = tables
        return content

    @property
    def digest(self) -> str:
        """sha256 of the fingerprint fields."""
        return hashlib.sha256(json.dumps(self.fingerprint_fields, sort_keys=True).encode()).hexdigest()

    @property
    def run_key(self) -> str:
        """Name of the run folder: readable, and the same for the same fingerprint."""
        return f"{self.space['name']}-{self.strategy['name']}-seed{self.seed}-{self.digest[:8]}"

    @property
    def run_folder(self) -> Path:
        return Path(os.path.expanduser(self.paths.runs)) / self.sweep / self.run_key


def fingerprint_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """A plain configuration, or what there is of one, without what is not asked of a search."""
    kept = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    defaults = {"plugins": [], "callbacks": [], "schedule": SCHEDULE}  # which earlier versions did not have
    kept = {key: value for key, value in kept.items() if key not in defaults or value != defaults[key]}
    boards = kept.pop("boards", None)
    if boards:
        kept["boards"] = sorted(boards)  # what is measured may be cut; where it is reached does not matter
    kept = {key: value for key, value in kept.items() if value or key not in ASKED_IF_SET}
    for key in NOT_IN_FINGERPRINT:
        section, _, name = key.partition(".")
        if not name:
            kept.pop(section, None)
        elif isinstance(kept.get(section), dict):
            kept[section].pop(name, None)
    return kept


def table_hashes(hardware: Any) -> list[str]:
    """sha256 of each file that look-up tables of these devices are read from, in the order of their paths."""
    paths = [path for path in sorted(_table_files(hardware)) if os.path.isfile(path)]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def _table_files(content: Any) -> set[Path]:
    """The files that look-up tables anywhere in `content` are read from."""
    if not isinstance(content, dict):
        return set()
    found = {path for value in content.values() for path in _table_files(value)}
    if content.get("model") == "table" and isinstance(content.get("file"), str):
        found.add(Path(os.path.expanduser(content["file"])))
    return found


def validate(content: Mapping[str, Any]) -> SearchConfig:
    """The checked configuration. Raises: InvalidInputError that lists every wrong key at once."""
    problems = wrong_plugins(content.get("plugins"))
    for key in ("space", "strategy", "data", "logger"):
        if isinstance(content.get(key), Mapping) and not isinstance(content[key].get("name"), str):
            problems.append(
                f"{key}.name: got {content[key].get('name')!r}, allowed: a name; choose one with {key}=<name>"
            )
    problems += _wrong_classes(content)
    config, wrong = checked_parts(SearchConfig, content, problems)
    problems += _boards(config) if not wrong & {"boards", "hardware"} else []
    if problems:
        raise refusal(problems)
    return config


def _wrong_classes(content: Mapping[str, Any]) -> list[str]:
    """What is wrong with the classes that sections name: code is of torch, or of a plug-in that the command names."""
    named = [(key, content.get(key, {"_target_": f"{module}.Default"}), module) for key, module in CLASSES.items()]
    callbacks = content.get("callbacks")
    named += [(f"callbacks[{n}]", each, "") for n, each in enumerate(callbacks if isinstance(callbacks, list) else [])]
    targets = [(key, section.get("_target_") if isinstance(section, Mapping) else None, m) for key, section, m in named]
    return [
        f"{key}._target_: got {target!r}; allowed: a class of {module or 'a plug-in'}"
        f"{', or of a plug-in' if module else ''} that the command names, as plugins=my_module"
        for key, target, module in targets
        if not may_name_class(target, module)
    ]


def checked_parts(schema: type[Kind], content: Mapping[str, Any], problems: list[str]) -> tuple[Kind, set[str]]:
    """The configuration as far as it is right, and the keys that are wrong, None in it; `problems` gets why."""
    try:
        return schema.model_validate(content), set()
    except ValidationError as error:
        problems += problems_of(error)
        wrong = {str(details["loc"][0]) for details in error.errors(include_url=False)}
    right = {
        name: TypeAdapter(field.rebuild_annotation()).validate_python(content[name])
        for name, field in schema.model_fields.items()
        if name in content and name not in wrong
    }
    return schema.model_construct(**dict.fromkeys(wrong), **right), wrong


def _boards(config: SearchConfig) -> list[str]:
    """What is wrong with the boards: onnxruntime in fp32 measures them, so their profiles must be of that."""
    problems = []
    for name, board in config.boards.items():
        key, profile = f"boards.{name}", config.hardware.get(name)
        problems += board.problems(key)
        if board.host is None:
            problems.append(f"{key}.host: got none; name the machine, as {key}.host=pi@192.168.1.20")
        if profile is None:
            problems.append(f"{key}: no such device; those of this search: {', '.join(config.hardware)}")
            continue
        if profile.get("units"):
            problems.append(
                f"{key}: a board runs the whole network; this device places it on several units; leave the board out"
            )
            continue
        if isinstance(profile.get("latency"), dict) and profile["latency"].get("model") == "host":
            problems.append(f"{key}: this device is the machine that searches; leave it out of boards")
        found = (profile.get("runtime"), profile.get("precision"))
        if found != ("onnxruntime", "fp32"):
            problems.append(
                f"{key}: its profile is of {found[0]} in {found[1]}, boards are measured with onnxruntime in fp32; "
                "measure and fit a profile with espalier-measure and espalier-calibrate, or leave the board out"
            )
    return problems
