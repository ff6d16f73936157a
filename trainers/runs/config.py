"""The configuration of a search, checked as a whole before anything is loaded. Plain values in, typed values out."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from hardware_models.measuring.board_address import BoardAddress, Line
from hardware_models.metrics import Margin
from trainers.runs.plugins import check_imported, may_name_class
from trainers.runs.validation import STRICT, checked

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# NamedPart of a path, so no separators and no dots alone.
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=80)]
# One of digits alone is a number to YAML and to Hydra, and yet the name that was meant.
SweepName = Annotated[FolderName, BeforeValidator(lambda name: str(name) if type(name) is int else name)]
# Only a command may name what is imported.
Plugins = Annotated[list[Line], AfterValidator(check_imported)]
# What is not asked of a search, by sections and keys: where files lie, how many threads compute, who logs it. Threads
# round sums differently, as processors do: a result names both, and the same command is the same run on any machine.
NOT_ASKED = ("paths", "sweep", "logger", "tags", "trial")
NOT_ASKED_IN = {
    "data": ("root", "cache", "memory_mb"),
    "trainer": ("threads", "checkpoint_seconds"),
    "parent": ("run",),
    "evaluator": ("file",),
}
# Keys that stand in a fingerprint only with a value.
ASKED_IF_SET = (
    "relaxation",
    "constraint",
    "sampler",
    "searcher",
    "evaluator",
    "prior",
    "remedy",
    "boards",
    "parent",
    "measured_on",
)
SCHEDULE = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR"}
ADDED_IN: dict[str, dict[str, Any]] = {
    "data": {"class_weights": "none", "sampling": "shuffled", "channels": None},
    "trainer": {
        **{"random_candidates": None, "deploy": False, "keep_best": 5, "keep_weights": "none", "keep": "none"},
        **{"devices": 1, "precision": "32-true"},
    },
    "prior": {"repeats": 1},
}
CPU = ("auto", "cpu")  # accelerators: `auto` stands for `gpu` only once the machine that computes has one
ADDED = {"plugins": [], "callbacks": [], "schedule": SCHEDULE}  # what earlier versions did not have, as they were


def _check_name(section: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(section.get("name"), str):
        raise ValueError(f"its name is {section.get('name')!r}; choose one with its own key, as space=mobile")
    return section


def _class_of(module: str) -> AfterValidator:
    """Code is of torch's `module`, or of a plug-in that the command names."""

    def check(section: dict[str, Any]) -> dict[str, Any]:
        target = section.get("_target_")
        if not may_name_class(target, module):
            allowed = f"a class of {module}, or of a plug-in" if module else "a class of a plug-in"
            raise ValueError(f"_target_ is {target!r}; allowed: {allowed} that the command names, as plugins=my_module")
        return section

    return AfterValidator(check)


NamedPart = Annotated[dict[str, Any], AfterValidator(_check_name)]
OptimizerPart = Annotated[dict[str, Any], _class_of("torch.optim")]
SchedulePart = Annotated[dict[str, Any], _class_of("torch.optim.lr_scheduler")]
CallbackPart = Annotated[dict[str, Any], _class_of("")]


class Section(BaseModel):
    model_config = STRICT


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
    random_candidates: Annotated[int, Field(ge=0, le=4096)] | None = None
    recalibration_images: Count
    validation_images: Count | None
    finetune_steps: Annotated[int, Field(ge=0)]
    finetune_lr: Positive
    deploy: bool = False  # as earlier versions did
    max_cuts: Count
    keep_best: Annotated[int, Field(ge=1, le=4096)] = 5
    keep: Literal["none", "supernet"] = "none"
    keep_weights: Literal["none", "best_k"] = "none"
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    checkpoint_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    accelerator: Literal["auto", "cpu", "gpu"] = "cpu"  # these three as earlier versions did
    devices: Annotated[int, Field(ge=1, le=64)] = 1
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    @property
    def step_images(self) -> int:
        """Images of an update, on all processes together."""
        return self.batch_size * self.devices

    @model_validator(mode="after")
    def _prunes_forward(self) -> "TrainerConfig":
        if self.prune_from >= self.prune_to:
            raise ValueError(f"prune_from must be below prune_to, got {self.prune_from} and {self.prune_to}")
        return self


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


class ParentConfig(Section):
    """The run whose supernet a run takes, by its folder and the sha256 of its result.json; set by espalier-derive.

    `points` names the device that each point of a front is of.
    """

    run: Line
    result: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    points: dict[FolderName, FolderName] = {}


class PriorConfig(Section):
    """Training-free scores of networks within budget; the meaning of each key stands in conf/prior/zero_cost.yaml."""

    scores: Annotated[list[Line], Field(min_length=1)]
    networks: Annotated[int, Field(ge=8, le=100_000)]
    rounds: Annotated[int, Field(ge=0, le=1000)]
    networks_per_round: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=4, le=4096)]
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1  # as earlier versions did
    pool_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SearchConfig(Section):
    """One search. Components that have arguments of their own are mappings, checked where they are built."""

    space: NamedPart
    hardware: Annotated[dict[FolderName, dict[str, Any]], Field(min_length=1)]  # whose files are named after them
    data: NamedPart
    strategy: NamedPart
    relaxation: dict[str, Any] | None = None  # these five replace parts of the strategy
    constraint: dict[str, Any] | None = None
    sampler: dict[str, Any] | None = None
    searcher: dict[str, Any] | None = None
    evaluator: dict[str, Any] | None = None
    prior: PriorConfig | None = None
    remedy: Annotated[dict[str, dict[str, Any]], BeforeValidator(lambda found: found or {})] = {}  # by name
    optimizer: OptimizerPart
    arch_optimizer: OptimizerPart
    schedule: SchedulePart = SCHEDULE
    callbacks: list[CallbackPart] = []
    margin: Margin
    trainer: TrainerConfig
    boards: Annotated[dict[str, BoardAddress], BeforeValidator(lambda boards: {} if boards is None else boards)] = {}
    logger: NamedPart
    tags: list[Line]
    trial: TrialConfig | None
    paths: PathsConfig
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    sweep: SweepName
    plugins: Plugins = []
    parent: ParentConfig | None = None
    measured_on: dict[str, Line] = {}  # the machine that measures each measured device; found out, not set

    @model_validator(mode="after")
    def _boards_can_measure(self) -> "SearchConfig":
        problems = [line for name, board in self.boards.items() for line in self._wrong_board(name, board)]
        if problems:
            raise ValueError("\n  ".join(problems))
        return self

    def _wrong_board(self, name: str, board: BoardAddress) -> Iterator[str]:
        """What is wrong with a board: onnxruntime in fp32 measures whole networks there."""
        key, profile = f"boards.{name}", self.hardware.get(name)
        if board.host is None:
            yield f"{key}.host: got none; name the machine, as {key}.host=pi@192.168.1.20"
        else:
            yield from board.problems(key)
        if profile is None:
            yield f"{key}: no such device; those of this search: {', '.join(self.hardware)}"
        elif profile.get("units"):
            yield f"{key}: a board runs the whole network, this device several parts of it; leave the board out"
        elif (profile.get("runtime"), profile.get("precision")) != ("onnxruntime", "fp32"):
            yield (
                f"{key}: got a profile of {profile.get('runtime')} in {profile.get('precision')}; boards are measured "
                "with onnxruntime in fp32; fit a profile with espalier-calibrate, or leave the board out"
            )
        elif isinstance(profile.get("latency"), dict) and profile["latency"].get("model") == "host":
            yield f"{key}: this device is the machine that searches; leave it out of boards"

    @property
    def fingerprint_fields(self) -> dict[str, Any]:
        """What the search is asked: with the same threads, on the same kind of processor, the result is the same."""
        content = fingerprint_fields(self.model_dump(mode="json"))
        content["devices"] = list(self.hardware)  # they are taken in turn, so their order matters
        tables = table_hashes(content["hardware"], self.evaluator)
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


def is_host(mapping: Mapping[str, Any]) -> bool:
    latency = mapping.get("latency")
    return isinstance(latency, dict) and latency.get("model") == "host"


def fingerprint_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """A plain configuration, or what there is of one, without what is not asked of a search."""
    kept: dict[str, Any] = {}
    for key, value in content.items():
        if key in NOT_ASKED or (key in ASKED_IF_SET and not value) or (key in ADDED and value == ADDED[key]):
            continue
        if key == "boards":
            kept[key] = sorted(value)  # what is measured may be cut; where it is reached does not matter
        elif isinstance(value, Mapping):
            left_out, added = NOT_ASKED_IN.get(key, ()), ADDED_IN.get(key, {}).items()
            kept[key] = {
                name: each for name, each in value.items() if name not in left_out and (name, each) not in added
            }
            if key == "trainer" and kept[key].get("accelerator") in CPU:
                del kept[key]["accelerator"]
        else:
            kept[key] = value
    return kept


def dotted_values(content: Any, prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by their dotted keys."""
    if not (isinstance(content, Mapping) and content):
        return {prefix: content}
    found: dict[str, Any] = {}
    for name, value in content.items():
        found |= dotted_values(value, f"{prefix}.{name}" if prefix else str(name))
    return found


def table_hashes(hardware: Any, evaluator: Any) -> list[str]:
    """sha256 of each file that look-up tables of devices, by their paths, and then the evaluator's are read from."""
    paths = [*sorted(set(_table_files(hardware))), *_file_of(evaluator)]
    paths = [path for path in paths if os.path.isfile(path)]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def _file_of(evaluator: Any) -> list[Path]:
    file = evaluator.get("file") if isinstance(evaluator, Mapping) else None
    return [Path(os.path.expanduser(file))] if isinstance(file, str) else []


def _table_files(content: Any) -> Iterator[Path]:
    """The files that look-up tables anywhere in `content` are read from."""
    if isinstance(content, dict):
        if content.get("model") == "table" and isinstance(content.get("file"), str):
            yield Path(os.path.expanduser(content["file"]))
        for value in content.values():
            yield from _table_files(value)


def validate(content: Mapping[str, Any]) -> SearchConfig:
    """The checked configuration. Raises: InvalidInputError that lists every wrong key at once."""
    return checked(SearchConfig, content)
