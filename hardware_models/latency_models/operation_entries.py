"""Where an operation stands in a look-up table of operations."""

from collections.abc import Iterable
from math import exp, log, prod

from hardware_models.latency_models.interpolation import Category, Entry, Sizes
from hardware_models.latency_models.roofline import price_kind
from search_spaces.operation import Operation, kind_of


def position(operation: Operation) -> tuple[Category, Sizes]:
    """What an operation must share with an entry, and the sizes between which it may lie.

    Channels in and out (of grouped convolutions, the groups too), and the side of its maps: the fourth root of input
    and output height and width multiplied, so that every padding and stride has its own. A bias counts for nothing.
    """
    kind, record = price_kind(operation), kind_of(operation)
    category: Category = (
        operation.kind,
        *((kind,) if record.has_groups else ()),
        *((operation.kernel_notation, f"s{operation.stride}") if record.has_window else ()),
        *((operation.precision,) if operation.precision else ()),
    )
    (c_in, *in_sides), (c_out, *out_sides) = operation.in_shape, operation.out_shape
    channels = (c_in, c_out, operation.groups) if kind == "grouped" else (c_in, c_out)
    return category, (*map(float, channels), float(prod([*in_sides, *out_sides])) ** 0.25)


def operation_entries(measured: Iterable[tuple[Operation, float]]) -> list[Entry]:
    """One entry for each position among operations and their ms; those at one position give their geometric mean."""
    log_ms: dict[tuple[Category, Sizes], list[float]] = {}
    for operation, ms in measured:
        log_ms.setdefault(position(operation), []).append(log(ms))
    return [Entry(*place, exp(sum(logs) / len(logs))) for place, logs in log_ms.items()]
