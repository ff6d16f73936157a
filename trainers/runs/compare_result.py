"""The files of a comparison: `arms.json`, what was planned before any run, and `compare.json`, what came of it."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, Field

from hardware_models.measuring.board_address import Line
from trainers.runs.config import FolderName, Positive, Section, Share
from trainers.runs.result_parts import Count, Number, Part

ARMS, COMPARISON, TABLE, PICTURE = "arms.json", "compare.json", "compare.csv", "compare.png"
SCHEMA: Final = 1
ALL_DEVICES = "mean of devices"
Figure = Literal["validation", "test", "regret"]
LESS_IS_BETTER = ("regret",)
Verdict = Literal["better", "worse", "cannot tell"]


class BenchmarkConfig(Section):
    """A benchmark's table, whose accuracies in % say how far a network is from the best within its budgets."""

    file: Line
    column: Line
    notation: Line


class CompareConfig(Section):
    """What is asked of a comparison beside its searches; the meaning of each key stands in conf/compare.yaml."""

    arms: Annotated[dict[FolderName, dict[str, Any]], Field(min_length=2)]
    seeds: Annotated[int, Field(ge=1, le=1000)]
    cpu_seconds: Positive
    tolerance: Annotated[Share, Field(gt=0)]
    regret: BenchmarkConfig | None


class Probe(Part):
    """A short search of so many steps or candidates, and what it cost."""

    length: Count
    cpu_seconds: Number


class Arm(Part):
    """An arm: its own overrides, and the number of steps or candidates that its CPU-seconds are enough for.

    `asked` is the hash of its configuration without these and the seed. `runs` are its run folders, a seed each.
    """

    overrides: list[str]
    asked: str
    knob: Literal["trainer.steps", "trainer.candidates"]
    length: Count
    probes: list[Probe]
    runs: list[str]


class Arms(Part):
    """Content of arms.json. `machine` is what the probes ran on."""

    schema_: Literal[1] = Field(alias="schema")
    command: str
    planned: AwareDatetime
    machine: str
    versions: dict[str, str]
    cpu_seconds: Number
    tolerance: Number
    seeds: list[int]
    regret: BenchmarkConfig | None
    arms: dict[FolderName, Arm]


class Spread(Part):
    """Mean and sample deviation of `n` seeds; one seed has no deviation."""

    mean: Number
    deviation: Number | None
    n: Count


class Difference(Part):
    """Mean difference to the first arm, by seed, with its standard error and the half width of its 95 % interval."""

    mean: Number
    error: Number | None
    interval: Number | None
    n: Count
    verdict: Verdict


class Row(Part):
    """An arm on a device, or over all: of `seeds`, those that finished and those of a network within every budget.

    `used` is the share of the binding budget, `cpu_seconds` those of the search for all devices. Accuracies are shares,
    regret is in points. `tested` says what the test accuracy is of.
    """

    arm: str
    device: str
    seeds: Count
    finished: Count
    feasible: Count
    cpu_seconds: Spread | None
    used: Spread | None
    validation: Spread | None
    test: Spread | None
    regret: Spread | None
    tested: str
    differences: dict[Figure, Difference]


class Comparison(Part):
    """Content of compare.json. `warnings` say what makes arms hard to compare."""

    schema_: Literal[1] = Field(alias="schema")
    command: str
    written: datetime
    machines: list[str]
    versions: dict[str, list[str]]
    cpu_seconds: Number
    lengths: dict[str, str]
    rows: list[Row]
    warnings: list[str]
