"""What look-up tables of measured blocks have in common: how a row becomes operations, and which devices there are."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from hardware_models.measuring.csv_file import CsvFile, Milliseconds, Row, parsed, refusal
from hardware_models.measuring.measurements import MeasuredRow, Measurements, Subject
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, Shape


def _shape(text: str) -> Shape:
    """Channels, height and width of HEIGHTxWIDTHxCHANNELS; one number is a vector."""
    sizes = [int(size) for size in text.split("x")]
    if len(sizes) not in (1, 3) or min(sizes) < 1:
        raise ValueError("allowed: HEIGHTxWIDTHxCHANNELS, as 112x112x16, or the length of a vector")
    return (sizes[2], sizes[0], sizes[1]) if len(sizes) == 3 else (sizes[0], 1, 1)


Whole = Annotated[int, Field(ge=1, le=999_999)]
Flag = Annotated[int, Field(ge=0, le=1)]
MapShape = Annotated[Shape, BeforeValidator(_shape)]


class Block(Row, ABC):
    """A measured block. `time` is in the column that a table names so for a device; others are not looked at."""

    time: Milliseconds

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def operations(self) -> Iterable[Operation]:
        """What it consists of; nothing where a space has no such operations."""

    def need(self, column: str) -> int:
        """The number in a column that not every block has. Raises: ValueError if it is empty."""
        number: int | None = getattr(self, column)
        if number is None:
            raise ValueError(f"{column}: got nothing; allowed: a number, for such a block")
        return number

    @model_validator(mode="after")
    def _possible(self) -> "Block":
        for operation in self.operations():
            parsed(operation.notation)
        return self


def read_blocks(
    file: CsvFile,
    model: type[Block],
    *,
    key: Sequence[str],
    time: str,
    per_ms: float = 1.0,
    subject: Subject = "block",
    constants: Mapping[str, str] | None = None,
) -> Measurements:
    """The blocks that consist of operations a space may have, their times in the column `time`, `per_ms` to a ms.

    Raises: InvalidInputError that lists what is wrong with the file, line by line, or that there is no such block.
    """
    blocks = file.renamed(time, "time").rows(model, key=key)
    rows = [MeasuredRow(block.name, block.time / per_ms, tuple(block.operations()), block.line, {}) for block in blocks]
    known = tuple(row for row in rows if row.operations)
    if not known:
        raise refusal(file.path, ["none of its blocks consists of operations that a space may have"])
    return Measurements(file.path, subject, known, constants or {})


def check_device(file: CsvFile, device: str | None, devices: Iterable[str]) -> None:
    """Raises: InvalidInputError, naming the devices of a file, if `device` is none of them."""
    known = list(devices)
    if device not in known:
        raise InvalidInputError(
            f"device: got {device!r}; allowed: one of the devices of {file.path}: {', '.join(known)}"
        )


def columns_of(file: CsvFile, prefix: str) -> list[str]:
    """The devices of a file that has a column for each, the name of which begins with `prefix`."""
    return [column.removeprefix(prefix) for column in file.columns if column.startswith(prefix)]


def mbconv(
    in_shape: Shape,
    c_out: int,
    *,
    hidden: int | None,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    squeezed: int | None = None,
) -> Iterator[Operation]:
    """An inverted residual: expansion, depthwise, squeeze-excite, projection, and the addition of an equal input.

    No expansion where `hidden` is None, no squeeze-excite where `squeezed` is. `groups` are those of the two pointwise
    convolutions. Maps have input / stride pixels along a side, rounded up.
    """
    c_in, height, width = in_shape
    c_mid = c_in if hidden is None else hidden
    sides = -(-height // stride), -(-width // stride)
    if hidden is not None:
        yield Operation("conv", in_shape, (c_mid, height, width), groups=groups)
    yield Operation("conv", (c_mid, height, width), (c_mid, *sides), kernel, stride, groups=c_mid)
    if squeezed is not None:
        yield from squeeze_excite((c_mid, *sides), squeezed)
    yield Operation("conv", (c_mid, *sides), (c_out, *sides), groups=groups)
    if (c_out, *sides) == in_shape:
        yield Operation("add", in_shape, in_shape)


def squeeze_excite(shape: Shape, squeezed: int) -> Iterator[Operation]:
    """A global pool, two pointwise convolutions by way of `squeezed` channels, and one factor per channel."""
    one, few = (shape[0], 1, 1), (squeezed, 1, 1)
    yield Operation("global_pool", shape, one)
    yield Operation("conv", one, few)
    yield Operation("conv", few, one)
    yield Operation("scale", shape, shape)


def eighths(channels: float) -> int:
    """The nearest multiple of 8, at least 8, to which these networks round their channels."""
    return max(8, int(channels + 4) // 8 * 8)
