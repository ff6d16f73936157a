"""The schema of the result.json of a network that was trained again: how it is written and read."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import text_of
from trainers.runs.code import Code
from trainers.runs.files import read_as
from trainers.runs.result import DeployedFile
from trainers.runs.result_parts import Count, Data, Number, Part, Validation
from trainers.runs.state import FINISHED, state_of

SCHEMA: Final = 1
RESULT = "result.json"


class SeedResult(Part):
    """A training with one seed: scores after its last step, of the average of the weights where there is one."""

    seed: Count
    validation: Validation
    test: Validation
    train_loss: Number
    train_seconds: Number
    weights: str


class Spread(Part):
    """Mean of a figure over the seeds, and its standard deviation (of a sample); none of one seed."""

    mean: Number
    deviation: Number | None


class RetrainResult(Part):
    """What a finished training leaves. `deployed` is the score of the file of `best_seed`, the best by validation.

    `asked` is the protocol; with the data's `content` and the hashes of files it is what the run is known by.
    """

    schema_: Literal[1] = Field(alias="schema")
    kind: Literal["retrain"] = "retrain"
    status: Literal["done"]
    command: str
    attempts: Count
    space: str
    notation: str
    id: str
    input_size: list[Count]
    gflops: Number
    params_m: Number
    data: Data
    asked: dict[str, Any]
    steps: Count
    seeds: list[SeedResult]
    validation_accuracy: Spread
    test_accuracy: Spread
    best_seed: Count
    file: DeployedFile
    deployed: Validation
    files: dict[str, str]
    versions: dict[str, str]
    threads: Count
    processors: list[str]
    code: Code


def spread(figures: Sequence[float]) -> Spread:
    """Mean and deviation of figures, one for each seed."""
    deviation = statistics.stdev(figures) if len(figures) > 1 else None
    return Spread(mean=statistics.fmean(figures), deviation=deviation)


def best_of(seeds: Sequence[SeedResult]) -> SeedResult:
    """The most accurate on the validation images; of equals the one of least loss there, then the first."""
    return max(seeds, key=lambda each: (each.validation.accuracy, -each.validation.loss))


def is_retrained(folder: Path) -> bool:
    """Whether a folder has the result of a training, well formed or not, and not that of a search."""
    try:
        content = json.loads(text_of(folder / RESULT))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("kind") == "retrain"


def finished_in(folder: Path) -> RetrainResult | None:
    """The result of a finished run; none if it has not finished, or has lost a file.

    Raises: InvalidInputError, naming the field, if the result is malformed: from elsewhere.
    """
    try:
        is_finished = state_of(folder).state in FINISHED and (folder / RESULT).is_file()
    except InvalidInputError:  # no attempt was made, or its status was torn
        return None
    if not is_finished:
        return None
    result = read_as(folder / RESULT, RetrainResult)
    return None if lost_files(folder, result) else result


def lost_files(folder: Path, result: RetrainResult) -> list[str]:
    """The files of a result that its folder lacks."""
    return [name for name in result.files if not (folder / name).is_file()]
