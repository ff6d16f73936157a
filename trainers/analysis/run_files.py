"""The files of a run folder, read as data and checked; nothing in them runs."""

# Shapes: E epochs, D devices, N choices of all decisions.

import csv
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hardware_models.profile import Metric
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import check_regular, text_of
from trainers.analysis.result_fields import NOTHING, Number, Part, Result, contradictions
from trainers.runs.validation import dotted, shown

TEXTS = ("device", "decision", "choice", "reason")  # columns of the pruning log that hold words
WHOLE = ("epoch", "step")
ALPHA_BYTES = 2**27  # of alphas.npz unpacked; 10 devices, 300 choices and 10,000 epochs are 120 MB
ROUNDING = 1e-5  # of probabilities in single precision, which may sum to a little more than 1


class _Named(Part):
    name: str


class _Profile(Part):
    budgets: dict[Metric, Number | None]


class _Config(Part):
    space: _Named
    strategy: _Named
    seed: int
    hardware: dict[str, _Profile]


@dataclass(frozen=True)
class Alphas:
    """Probability of each choice on each device after each epoch, `weights` (E, D, N).

    `epoch` and `step` (E,) say when, `device` (D,) where; `decision` and `choice` (N,) name the last axis.
    """

    epoch: NDArray[np.int64]
    step: NDArray[np.int64]
    weights: NDArray[np.float32]
    device: tuple[str, ...]
    decision: tuple[str, ...]
    choice: tuple[str, ...]


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which no run writes: a file of a few lines of them can stand for any number of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not read; write out what they stand for", mark)
        return super().compose_node(parent, index)


def read_result(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text_of(path), parse_constant=_no_number, parse_float=_finite)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"cannot read {path}: {error}; delete its folder and run the search again") from error
    return _checked(path, content, Result, contradictions)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _no_number(text)


def read_config(path: Path) -> dict[str, Any]:
    if not path.exists():  # a run that waits has none yet
        return {}
    try:
        content = yaml.load(text_of(path), Loader=_PlainLoader)
        yaml.safe_dump(content)  # so that what is nested too deeply to be written again is refused by name
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # a date such as 2026-99-99 is a ValueError
        raise InvalidInputError(f"cannot read {path}: {error}") from error
    return _checked(path, content, _Config)


def _checked(
    path: Path, content: Any, model: type[Part], between: Callable[[dict[str, Any]], Iterable[str]] = lambda content: ()
) -> dict[str, Any]:
    """`content` as it is. Raises: InvalidInputError that lists all that `model` refuses, or else what is `between`."""
    try:
        model.model_validate(content)
        lines = list(between(content))
    except ValidationError as error:
        lines = [_line(details) for details in error.errors(include_url=False)]
    if lines:
        raise InvalidInputError("\n  ".join([f"{path} is malformed:", *lines]))
    assert isinstance(content, dict)
    return content


def _line(details: ErrorDetails) -> str:
    """What is wrong with a field, without advice for a command line: a run's files are no one's to write."""
    place, got = dotted(details["loc"]) or "the whole", shown(details["input"])
    if details["type"] == "missing":
        return f"{place}: {NOTHING}"
    return f"{place}: got {got}; {details['msg'].removeprefix('Value error, ')}"


def read_table(path: Path, *, required: Sequence[str]) -> pd.DataFrame:
    """A CSV file of numbers, but for the columns of words; an empty cell is a missing number. Empty if there is none.

    Raises: InvalidInputError for a column that is missing, a row of another length, a cell that is no number.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(required))
    try:
        header, *rows = list(csv.reader(StringIO(text_of(path), newline=""), strict=True)) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidInputError(f"cannot read {path}: {error}") from error
    missing = sorted(set(required) - set(header))
    if missing or len(set(header)) < len(header):
        raise InvalidInputError(f"{path}: field {missing or header} missing or there twice; needed: {list(required)}")
    columns: dict[str, list[Any]] = {name: [] for name in header}
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InvalidInputError(f"{path}: line {line} has {len(row)} fields, the header {len(header)}")
        for name, cell in zip(header, row, strict=True):
            columns[name].append(cell if name in TEXTS else _number(path, cell, line=line, name=name))
    return pd.DataFrame(columns)


def _number(path: Path, cell: str, *, line: int, name: str) -> float:
    try:
        number = int(cell) if name in WHOLE else float(cell or "nan")
        if cell and not math.isfinite(number):
            raise ValueError("neither infinity nor NaN is a figure")
    except (ValueError, OverflowError) as error:
        allowed = "a whole number" if name in WHOLE else "a finite number, or nothing"
        problem = f"line {line}, field {name}: got {cell[:80]!r}; allowed: {allowed}"
        raise InvalidInputError(f"{path}: {problem}") from error
    return number


def read_alphas(path: Path) -> Alphas | None:
    if not path.exists():
        return None
    try:
        check_regular(path)
        # Opened here: np.load leaves a file open that is no archive.
        with path.open("rb") as archive:
            unpacked = sum(member.file_size for member in zipfile.ZipFile(archive).infolist())
            if unpacked > ALPHA_BYTES:
                raise ValueError(f"unpacked it is {unpacked:,} bytes, allowed: {ALPHA_BYTES:,}")
            archive.seek(0)
            with np.load(archive, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ("epoch", "step", "weights", "device", "decision", "choice")}
        if any(array.size > ALPHA_BYTES for array in arrays.values()):  # of values of no bytes
            raise ValueError("it has more values than bytes")
    except Exception as error:  # zipfile, zlib, struct and numpy have some ten kinds of it for a file that is not whole
        raise InvalidInputError(f"cannot read {path}: {error}") from error
    lengths = {name: (len(arrays[name]),) for name in arrays if name != "weights" and arrays[name].ndim == 1}
    shape = tuple(n for name in ("epoch", "device", "decision") for n in lengths.get(name, ()))
    kinds = {"epoch": "i", "step": "i", "weights": "f", "device": "U", "decision": "U", "choice": "U"}
    wrong = [name for name, kind in kinds.items() if arrays[name].dtype.kind != kind]
    if arrays["weights"].shape != shape or len(lengths) < 5:
        wrong.append("weights")
    if wrong or lengths["step"] != lengths["epoch"] or lengths["choice"] != lengths["decision"]:
        raise InvalidInputError(
            f"{path}: fields {wrong or ['step', 'choice']} do not fit together; got "
            f"{ ({name: (str(array.dtype), array.shape) for name, array in arrays.items()}) }"
        )
    weights = arrays["weights"]
    if not ((weights >= 0) & (weights <= 1 + ROUNDING)).all():
        raise InvalidInputError(f"{path}: field weights: allowed: probabilities in [0, 1]")
    words = {name: tuple(str(word) for word in arrays[name]) for name in ("device", "decision", "choice")}
    return Alphas(arrays["epoch"].astype(np.int64), arrays["step"].astype(np.int64), weights, **words)
