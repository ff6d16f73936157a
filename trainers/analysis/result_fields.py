"""What every result.json holds: its fields, and the devices and metrics that several of them name alike."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hardware_models.profile import METRICS, Margin, Metric
from trainers.runs.config import FolderName

Number = Annotated[float, Field(allow_inf_nan=False)]
Budget = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Figures = dict[Metric, Number]
NOTHING = "got nothing; every search writes it"
COUNTED = tuple(metric for metric in METRICS if metric != "latency_ms")
OF_DEVICES = ("choices_alive", "worst_surviving_share")  # of `search`
OF_BUDGETS = ("budgets", "utilisation", "held", "held_by")
OBJECTIVES = ("validation_accuracy", "utilisation", "seconds")


class Part(BaseModel):
    """A mapping of a file whose fields must be there, null too; it may have others."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class _Images(Part):
    weights: int
    architecture: int
    validation: int
    test: int


class _Data(Part):
    name: str
    origin: str
    split_hash: str
    images: _Images


class _Transfer(Part):
    latency_ms: Number
    gflops: Number
    params_m: Number
    peak_memory_mb: Number
    latency_upper_ms: Number | None
    utilisation: Number
    within: bool


class _Measured(Part):
    latency_ms: Number
    p50_ms: Number
    p90_ms: Number
    min_ms: Number
    repeats: int
    threads: int
    runtime: str
    versions: dict[str, str]
    machine: str


class _Stay(Part):
    unit: str
    operations: list[str]


class _Accuracy(Part):
    supernet: Number
    inherited: Number
    finetuned: Number
    random: Number
    images: int


class _Validation(Part):
    accuracy: Number
    loss: Number
    images: int


class _Candidate(Part):
    notation: str
    utilisation: Number
    validation_accuracy: Number
    validation_loss: Number


class _Cut(_Candidate):
    refuted_by: Metric


class _Error(Part):
    method: str
    n: int
    mape: Number
    median_ape: Number
    within_20_share: Number
    spearman: Number


class _Bound(Part):
    level: Number
    n: int
    factor: Number
    subject: str


class _Profile(Part):
    name: str
    title: str
    runtime: str
    threads: int | None
    precision: str
    error: _Error | None
    bound: _Bound | None
    source: str
    measured: list[str]
    inferred: list[str]


class _Device(Part):
    architecture: str
    weights: str
    id: str
    notation: str
    met: bool
    refuted_by: Metric | None
    binding: Metric
    budgets: dict[Metric, Budget]
    margin: Margin
    utilisation: Figures
    predicted: Figures
    upper: Figures
    upper_level: Number | None
    upper_subject: str | None
    held: Figures
    held_by: dict[Metric, Literal["measured", "recounted", "upper", "predicted"]]
    recounted: Figures
    measured: _Measured | None
    measured_reason: str | None
    placement: list[_Stay] | None
    cut: list[_Cut]
    accuracy: _Accuracy
    validation: _Validation
    larger_candidates_that_lost: list[_Candidate] | None
    taken: _Candidate
    candidates: Annotated[list[_Candidate], Field(min_length=1)]
    random_candidates: list[_Candidate]
    profile: _Profile


class _Search(Part):
    train_seconds: Number
    derive_seconds: Number
    steps: int
    entropy: Number
    step_over_floor: Number
    peak_memory_mb: int | None
    choices_alive: dict[str, int]
    worst_surviving_share: dict[str, Number]


class _Hashes(Part):
    config: str
    cost_table: str
    data_split: str


class _Code(Part):
    version: str
    commit: str | None
    changed: bool | None
    sha256: str
    plugins: dict[str, dict[str, str | None]] = {}


class Result(Part):
    """A result.json, but for what `contradictions` tells."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    status: Literal["done", "unmet"]
    command: str
    attempts: int
    space: str
    strategy: str
    seed: int
    data: _Data
    devices: Annotated[dict[FolderName, _Device], Field(min_length=1)]  # whose files are named after them
    objective: dict[str, Number]
    transfer: dict[str, dict[str, _Transfer]]
    search: _Search
    hashes: _Hashes
    files: dict[str, str]
    versions: dict[str, str]
    threads: int
    processors: list[str]
    code: _Code
    earlier_code: list[_Code]


def contradictions(result: Mapping[str, Any]) -> Iterator[str]:
    """A line for each metric or device that one field of a valid result names and another lacks."""
    devices, transfer, search = result["devices"], result["transfer"], result["search"]
    named = {"devices": devices, "transfer": transfer, **{f"transfer.{name}": row for name, row in transfer.items()}}
    yield from _lacking(named | {f"search.{key}": search[key] for key in OF_DEVICES})
    objectives = list(OBJECTIVES)
    for name, device in devices.items():
        place = f"devices.{name}"
        yield from _lacking({f"{place}.{key}": device[key] for key in OF_BUDGETS})
        for key in ("binding", "refuted_by"):
            if device[key] not in (None, *device["budgets"]):
                yield f"{place}.{key}: got {device[key]!r}; allowed: {', '.join(device['budgets'])}"
        yield from _lacking({f"{place}.predicted": device["predicted"]}, METRICS)
        yield from _lacking({f"{place}.upper": device["upper"]}, COUNTED if device["upper_level"] is None else METRICS)
        yield from _lacking({f"{place}.recounted": device["recounted"]}, COUNTED)
        objectives += [f"{name}/{key}" for key in ("validation_accuracy", *device["held"])]
    yield from _lacking({"objective": result["objective"]}, objectives)


def _lacking(mappings: Mapping[str, Mapping[str, Any]], keys: Iterable[str] = ()) -> Iterator[str]:
    """A line for each of `keys`, and of those of any of `mappings`, that one lacks; they are named by their place."""
    due = dict.fromkeys([*keys, *(key for mapping in mappings.values() for key in mapping)])
    for place, mapping in mappings.items():
        yield from (f"{place}.{key}: {NOTHING}" for key in due if key not in mapping)
