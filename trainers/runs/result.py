"""The schema of result.json: how it is written, read and checked."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from hardware_models.metrics import METRICS, Margin
from trainers.runs.code import Code
from trainers.runs.config import FolderName, Positive, Share
from trainers.runs.files import read_as
from trainers.runs.result_parts import Accuracy, Count, Data, Number, OpenPart, Part, Validation
from trainers.runs.state import FINISHED, state_of

SCHEMA: Final = 1
Figures = dict[str, Number]  # by metric
MetricName = Annotated[str, Field(pattern=f"^({'|'.join(METRICS)})$")]
COUNTED = tuple(metric for metric in METRICS if metric != "latency_ms")
LATER = {"flash_kb", "sram_kb"}  # metrics that results of earlier versions lack


class Transfer(Part):
    """What the network of one device is predicted to cost on another, and whether it is within its budgets."""

    latency_ms: Number
    gflops: Number
    params_m: Number
    peak_memory_mb: Number
    flash_kb: Number | None = None  # null: of an earlier version, as the next
    sram_kb: Number | None = None
    latency_upper_ms: Number | None
    utilisation: Number
    within: bool


Transfers = dict[str, dict[str, Transfer]]  # by the device that the network was found for, and by that it runs on


class Measured(Part):
    """Latency of the exported network on the device, in ms; `latency_ms` is the median."""

    latency_ms: Number
    p50_ms: Number
    p90_ms: Number
    min_ms: Number
    repeats: Count
    threads: Count
    runtime: str
    versions: dict[str, str]
    machine: str


class Stay(Part):
    """Operations that run one after another on one unit of a device."""

    unit: str
    operations: list[str]


class CandidateRow(Part):
    """A network that was validated. `utilisation` is the share of its tightest budget.

    `evidence` are figures that decided beside the validation, by name; more is better.
    """

    notation: str
    utilisation: Number
    validation_accuracy: Share
    validation_loss: Number
    evidence: dict[str, Number] = Field(default_factory=dict)


class CutRow(CandidateRow):
    refuted_by: MetricName


class BestRow(CandidateRow):
    """One of the best networks of a device, in a file of its own. The first is the one taken.

    `predicted` are estimates; only the network that was taken is certified. `weights` are inherited from the supernet.
    """

    id: str
    architecture: str
    weights: str | None
    predicted: Figures


class ProfileError(OpenPart):
    """Relative error of the latency model on networks that the fit had not seen."""

    method: str
    n: Count
    mape: Number
    median_ape: Number
    within_20_share: Share
    spearman: Number


class Bound(OpenPart):
    level: Share
    n: Count
    factor: Number
    subject: str


class ProfileDomain(Part):
    """Least and most pixels of the inputs that the bound was taken from; beyond, its factor grows."""

    pixels: list[Count]
    growth: Number


class ProfileRecord(OpenPart):
    """What the latency figures of a device are worth. It has further fields where the profile has units or tables.

    The factor of `bound` is multiplied by `widening` for networks of inputs outside of `domain`.
    """

    name: str
    title: str
    runtime: str
    threads: int | None
    precision: str
    error: ProfileError | None
    error_reason: str | None = Field(default=None, exclude_if=lambda reason: reason is None)
    bound: Bound | None
    domain: ProfileDomain | None = Field(default=None, exclude_if=lambda domain: domain is None)
    widening: Number | None = Field(default=None, exclude_if=lambda widening: widening is None)
    source: str
    measured: list[str]
    inferred: list[str]


class Certified(Part):
    """The network of a device, what it costs, and how each budget stands: all that `verify` makes again.

    `predicted`, `upper`, `recounted` and `measured` are of different origin and never mix. `held` is the figure that
    decides whether a budget is met, and `held_by` its origin. `utilisation` is the share of each budget that is used.
    """

    architecture: str
    weights: str
    id: str
    notation: str
    met: bool
    refuted_by: MetricName | None
    binding: MetricName
    budgets: Annotated[dict[MetricName, Positive], Field(min_length=1)]
    margin: Margin
    utilisation: Figures
    predicted: Figures
    upper: Figures
    upper_level: Share | None
    upper_subject: str | None
    held: Figures
    held_by: dict[str, Annotated[str, Field(pattern="^(measured|recounted|upper|predicted)$")]]
    recounted: Figures
    measured: Measured | None
    measured_reason: str | None
    placement: list[Stay] | None
    profile: ProfileRecord

    @property
    def used(self) -> float:
        """Share of the binding budget that is used."""
        return self.utilisation[self.binding]

    @model_validator(mode="after")
    def _metrics_agree(self) -> "Certified":
        for field in ("utilisation", "held", "held_by"):
            _check_keys(field, getattr(self, field), self.budgets)
        _check_keys("predicted", self.predicted, METRICS)
        _check_keys("recounted", self.recounted, COUNTED)
        _check_keys("upper", self.upper, METRICS if self.upper_level else COUNTED)
        for field, metric in (("binding", self.binding), ("refuted_by", self.refuted_by)):
            if metric not in (None, *self.budgets):
                raise ValueError(f"{field}: got {metric}, which has no budget")
        return self


class DeployedFile(Part):
    """The file of a network: ONNX, from an image uint8 (H, W, C) of any size to the outputs of its classes.

    The centre of an image in the proportions of `size` (height, width) is scaled to it, and normalised by `mean` and
    `std` of pixel values 0..1. `channels` are those of the image.
    """

    path: str
    bytes: Count
    channels: Count
    size: list[Count]
    mean: list[Number]
    std: list[Number]
    classes: list[str]
    precision: Literal["fp32", "int8"] = "fp32"  # of the network; earlier versions had none else


class DeviceResult(Certified):
    """One device of a search: its certified network, and how that network was chosen.

    `trained_size` is the height and width of the images that the network was found with, `trained_smaller` whether it
    was smaller itself. Without a `file` it cannot be
    deployed: its accuracy at its own size is not known.
    """

    cut: list[CutRow]
    trained_size: list[Count] | None = None  # these two earlier versions did not have
    input_size: list[Count] | None = None
    trained_smaller: bool = False  # of fewer channels or cells, of the same choices
    file: DeployedFile | None = None
    accuracy: Accuracy
    validation: Validation
    larger_candidates_that_lost: list[CandidateRow] | None
    stale: list[str] = Field(
        default_factory=list
    )  # choices of the network that the pruning of the parent run had removed on all devices
    taken: CandidateRow
    best: list[BestRow] = Field(default_factory=list)  # which earlier versions did not keep
    decided_by: list[str] = Field(default_factory=list)  # the evidence that candidates were compared by
    agreement: dict[str, Number] = Field(default_factory=dict)  # Kendall's tau of all evidence with their order
    candidates: Annotated[list[CandidateRow], Field(min_length=1)]
    random_candidates: list[CandidateRow]

    @property
    def is_proxy(self) -> bool:
        """Whether the search trained a smaller network, or at another image size; then its accuracies are proxies."""
        return self.trained_smaller or self.trained_size != self.input_size

    def label(self, kind: str) -> str:
        """The name of an accuracy, as `proxy inherited` where it is one."""
        of_search = kind in ("supernet", "inherited", "random", "validation")
        at_proxy = of_search or (kind == "finetuned" and self.file is None)
        return f"proxy {kind}" if self.is_proxy and at_proxy else kind


class PriorRecord(Part):
    """Training-free scores of untrained networks.

    Kendall's `tau` is of their model on networks that it was not fitted to, `agreement` that of each score with the
    sum of all.
    """

    networks: Count
    tau: Number
    agreement: dict[str, Number]
    seconds: Number


class PruningRecord(Part):
    """Events of pruning, and at how many logits decided what went; at the others they were against the evidence.

    `agreement` is Kendall's tau, at the last event, of what the logits say with the losses of the networks drawn for
    the weights. None where weights are trained on mixtures, or too few were drawn.
    """

    events: Count
    by_logits: Count
    agreement: Number | None


class Search(Part):
    """Time, memory and course of a search; `choices_alive` and `worst_surviving_share` are by device.

    `entropy` and `step_over_floor` are of the training of a supernet, peaks of memory of the first of its processes.
    `cpu_seconds` are those of all threads for the prior, for training and for comparing networks, of all attempts that
    the result comes of; what is done with the networks that were found, from proof to export, is not of the search.
    """

    train_seconds: Number
    derive_seconds: Number
    cpu_seconds: Number | None = None  # which earlier versions did not count
    prior: PriorRecord | None = None
    steps: Count
    entropy: Share | None
    pruning: PruningRecord | None = None  # which earlier versions did not have
    step_over_floor: Number | None
    peak_memory_mb: Count | None
    accelerator: str = "cpu"  # these four earlier versions did not have
    processes: Count = 1
    precision: str = "32-true"
    peak_gpu_memory_mb: Count | None = None
    choices_alive: dict[str, Count]
    worst_surviving_share: dict[str, Number]


class Hashes(Part):
    config: str
    cost_table: str
    data_split: str


class Result(Part):
    """A result.json: what a finished search found, and what it depends on."""

    schema_: Literal[1] = Field(alias="schema")
    status: Literal["done", "unmet"]
    command: str
    attempts: Count
    space: str
    strategy: str
    seed: Count
    data: Data
    devices: Annotated[dict[FolderName, DeviceResult], Field(min_length=1)]  # whose files are named after them
    objective: dict[str, Number]
    transfer: Transfers
    search: Search
    hashes: Hashes
    files: dict[str, str]
    versions: dict[str, str]
    threads: Count
    processors: list[str]
    code: Code
    earlier_code: list[Code]

    @model_validator(mode="after")
    def _has_every_device(self) -> "Result":
        figures = {"validation_accuracy", "utilisation", "seconds"}
        for name, device in self.devices.items():
            figures |= {f"{name}/{figure}" for figure in ("validation_accuracy", *device.budgets)}
        _check_keys("objective", self.objective, figures)
        _check_keys("transfer", self.transfer, self.devices)
        for name, row in self.transfer.items():
            _check_keys(f"transfer.{name}", row, self.devices)
        _check_keys("search.choices_alive", self.search.choices_alive, self.devices)
        _check_keys("search.worst_surviving_share", self.search.worst_surviving_share, self.devices)
        return self


def read_result(path: Path) -> Result:
    """Raises: InvalidInputError that names each wrong field, or the file if it cannot be read."""
    return read_as(path, Result)


def missing_files(folder: Path) -> list[str]:
    """The files of a finished run that its folder lacks: its result, or what that lists. Raises: as `read_result`."""
    if state_of(folder).state not in FINISHED:
        return []
    if not (folder / "result.json").exists():
        return ["result.json"]
    return [name for name in read_result(folder / "result.json").files if not (folder / name).is_file()]


def _check_keys(field: str, mapping: Collection[str], due: Collection[str]) -> None:
    if set(mapping) | LATER != set(due) | LATER:
        raise ValueError(f"{field}: it has {', '.join(mapping)}; it must have {', '.join(due)}")
