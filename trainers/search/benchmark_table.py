"""Networks looked up in the table of a benchmark: nothing is trained to compare them."""

import csv
import gzip
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from hardware_models.placement.placed_space import unplaced
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import bytes_of
from search_spaces.space import SearchSpace, Supernet
from trainers.deploy.standalone import Score
from trainers.search.evaluation import Evaluator
from trainers.search.plan import Plan

Text = Annotated[str, Field(min_length=1)]


class BenchmarkTable(Evaluator):
    """A network's accuracy is that of its row of a CSV file, in %, the file gzipped where its name ends so.

    Column `notation` has networks as the space writes them, `column` their accuracies. A score that was looked up
    counts no images, and its loss is 0. Raises: InvalidInputError for a network that the table lacks.
    """

    def __init__(self, plan: Plan, supernet: Supernet | None, *, file: Text, column: Text, notation: Text) -> None:
        super().__init__(plan, supernet)
        self.file = file
        self.accuracies = read_accuracies(file, column=column, notation=notation)

    @classmethod
    def check(cls, space: SearchSpace, arguments: Mapping[str, str]) -> None:
        accuracies, (own, _) = read_accuracies(**arguments), unplaced(space, _first(space))
        if not any(_is_of(own, notation) for notation in accuracies):
            raise InvalidInputError(
                f"evaluator.notation: got {arguments['notation']}, and no row of {arguments['file']} has a network of "
                f"the space {own.name} there; one is written {own.notation(_first(own))!r}"
            )

    def validate(self, indices: tuple[int, ...]) -> Score:
        space, choices = unplaced(self.plan.space, self.plan.space.choices(indices))
        notation = space.notation(choices)
        if notation not in self.accuracies:
            raise InvalidInputError(
                f"evaluator.file: {self.file} has no network {notation!r}; take a table of the whole space {space.name}"
            )
        return Score(self.accuracies[notation], 0.0, 0)


def read_accuracies(file: str, *, column: str, notation: str) -> dict[str, float]:
    """Accuracy as a share by notation. Raises: InvalidInputError for a file that has none, saying where."""
    path = Path(os.path.expanduser(file))
    try:
        content = bytes_of(path)
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text))
        columns = list(rows.fieldnames or ())
        for key, name in (("column", column), ("notation", notation)):
            if name not in columns:
                listed = ", ".join(columns[:12])
                raise InvalidInputError(f"evaluator.{key}: {file} has no column {name!r}; its first are {listed}")
        return {row[notation]: _share(row[column], f"{file}, line {rows.line_num}") for row in rows}
    except (OSError, EOFError, ValueError, csv.Error) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"evaluator.file: cannot read {file}: {error}; name a CSV file") from error


def _share(text: str | None, place: str) -> float:
    try:
        percent = float(text or "")
    except ValueError:
        percent = math.nan
    if not 0 <= percent <= 100:
        raise InvalidInputError(f"evaluator.column: got {text!r} in {place}; allowed: 0 to 100, an accuracy in %")
    return percent / 100


def _first(space: SearchSpace) -> dict[str, int | float | str]:
    return {decision.name: decision.choices[0] for decision in space.decisions}


def _is_of(space: SearchSpace, notation: str) -> bool:
    try:
        space.parse(notation)
    except InvalidInputError:
        return False
    return True
