"""The files of a run folder beside its result, read as data and checked; nothing in them runs."""

# Shapes: E epochs, D devices, N choices of all decisions.

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from hardware_models.field_errors import problems_of
from hardware_models.metrics import Metric
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import check_regular, text_of
from trainers.runs.result_parts import Number

TEXTS = ("device", "decision", "choice", "reason")  # columns of the pruning log that hold words
WHOLE = ("epoch", "step")
ALPHA_BYTES = 2**27  # bytes of alphas.npz unpacked; 10 devices, 300 choices and 10,000 epochs are 120 MB
ROUNDING = 1e-5  # of probabilities in single precision, which may sum to a little more than 1
# Of each array its kind of dtype, and its axes.
ALPHAS = {
    **{"epoch": ("i", "E"), "step": ("i", "E"), "weights": ("f", "EDN")},
    **{"device": ("U", "D"), "decision": ("U", "N"), "choice": ("U", "N")},
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class _Named(_Part):
    name: str


class _Profile(_Part):
    budgets: dict[Metric, Number | None]


class _Config(_Part):
    """What is read here of a configuration; a run of another version may have other fields."""

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


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a run; empty for a run that waits, which has none yet."""
    if not path.exists():
        return {}
    try:
        content = yaml.load(text_of(path), Loader=_PlainLoader)
        yaml.safe_dump(content)  # what is nested too deeply to be written again is refused here
        _Config.model_validate(content)
    except ValidationError as error:
        raise InvalidInputError("\n  ".join([f"{path} is malformed:", *problems_of(error)])) from error
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # a date such as 2026-99-99 is a ValueError
        raise InvalidInputError(f"cannot read {path}: {error}") from error
    assert isinstance(content, dict)
    return content


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which no run writes: a file of a few lines of them can stand for any number of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not read; write out what they stand for", mark)
        return super().compose_node(parent, index)


def read_table(path: Path, *, required: Sequence[str]) -> pd.DataFrame:
    """A CSV file of numbers, but for the columns of words; an empty cell is a missing number. Empty if there is none.

    Raises: InvalidInputError for a column that is missing, or with a cell that is no number.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(required))
    settings: dict[str, Any] = {"dtype": dict.fromkeys(TEXTS, str), "keep_default_na": False, "na_values": [""]}
    try:
        text = StringIO(text_of(path), newline="")
        frame = pd.read_csv(text, **settings, index_col=False)
    except (OSError, ValueError) as error:  # those of pandas are of ValueError
        raise InvalidInputError(f"cannot read {path}: {error}") from error
    missing = sorted(set(required) - set(frame.columns))
    numbers = [name for name in frame.columns if name not in TEXTS] if len(frame) else []
    wrong = [name for name in numbers if not _is_finite(frame[name], whole=name in WHOLE)]
    if missing or wrong:
        raise InvalidInputError(f"{path}: field {missing or wrong} missing, or not of finite numbers alone")
    return frame


def _is_finite(column: "pd.Series[Any]", *, whole: bool) -> bool:
    kinds = "i" if whole else "if"
    return column.dtype.kind in kinds and not np.isinf(column).any()


def read_alphas(path: Path) -> Alphas | None:
    """None where there is no file. Raises: InvalidInputError, naming the field, for one that no search writes."""
    if not path.exists():
        return None
    try:
        check_regular(path)
        with path.open("rb") as archive, np.load(archive, allow_pickle=False) as file:
            if sum(member.file_size for member in file.zip.infolist()) > ALPHA_BYTES:
                raise ValueError(f"unpacked it is larger than {ALPHA_BYTES:,} bytes")
            arrays = {name: file[name] for name in ALPHAS}
        if any(array.size > ALPHA_BYTES for array in arrays.values()):  # of values without bytes
            raise ValueError("it has more values than bytes")
    except Exception as error:  # zipfile, zlib, struct and numpy have some ten kinds of it for a file that is not whole
        raise InvalidInputError(f"cannot read {path}: {error}") from error
    sizes: dict[str, int] = {}
    wrong = [
        name
        for name, (kind, axes) in ALPHAS.items()
        if arrays[name].dtype.kind != kind
        or arrays[name].ndim != len(axes)
        or any(sizes.setdefault(axis, size) != size for axis, size in zip(axes, arrays[name].shape, strict=True))
    ]
    if wrong:
        raise InvalidInputError(f"{path}: fields {', '.join(wrong)} are not those of a search, or do not fit together")
    weights = arrays["weights"]
    if not ((weights >= 0) & (weights <= 1 + ROUNDING)).all():
        raise InvalidInputError(f"{path}: field weights: allowed: probabilities in [0, 1]")
    words = {name: tuple(map(str, arrays[name])) for name in ("device", "decision", "choice")}
    return Alphas(arrays["epoch"].astype(np.int64), arrays["step"].astype(np.int64), weights, **words)
