"""What a device prices: one operation with its shapes. Its kind says how it is counted, priced, found and built."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any

from search_spaces.errors import InvalidInputError
from search_spaces.registry import Registry

Shape = tuple[int, int, int]  # channels, height, width; a series is (channels, length, 1), one vector (channels, 1, 1)
Sizes = tuple[int, ...]  # of a tensor without its batch dimension, as torch has it

_SIZE = "([0-9]{1,9})"  # bounded, so that no text makes a number that cannot be computed with
_NOTATION = re.compile(
    rf"([a-z_0-9]+) {_SIZE}x{_SIZE}x{_SIZE} -> {_SIZE}x{_SIZE}x{_SIZE}"
    rf"(?: k{_SIZE}(?:x{_SIZE})?)?(?: s{_SIZE})?(?: g{_SIZE})?(?: (bias|nobias))?(?: (fp32|fp16|int8))?"
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a network at batch size 1, as it is deployed: batch norm folded, activation fused.

    `kind` is the name of an `OperationKind` in `KINDS`. `in_shape` and `out_shape` are (channels, height, width).
    `kernel` is the height of its window, and its width too where `kernel_width` is None.
    `held` counts the elements of other tensors that must stay in memory while it runs (a residual input, say); it
    changes peak memory and no other cost. `precision` is that of its numbers; None means the profile's.
    """

    kind: str
    in_shape: Shape
    out_shape: Shape
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = True
    held: int = 0
    precision: str | None = None
    kernel_width: int | None = None

    def __post_init__(self) -> None:
        kind_of(self)
        if self.kernel_width == self.kernel:
            object.__setattr__(self, "kernel_width", None)  # one way to say it

    @property
    def notation(self) -> str:
        """One line, as `conv 16x112x112 -> 24x56x56 k3 s2`; `parse_operation` reads it back, all but `held`.

        After the shapes stand kernel, stride and groups where they are not 1, `nobias` where there is none, and the
        precision where it is not the profile's.
        """
        fields = [] if self.window == (1, 1) else [self.kernel_notation]
        fields += [f"{letter}{value}" for letter, value in (("s", self.stride), ("g", self.groups)) if value != 1]
        fields += [] if self.bias else ["nobias"]
        fields += [] if self.precision is None else [self.precision]
        return " ".join([f"{self.kind} {_sides(self.in_shape)} -> {_sides(self.out_shape)}", *fields])

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of its kernel."""
        return self.kernel, self.kernel_width or self.kernel

    @property
    def kernel_notation(self) -> str:
        """As `k3`, or `k10x4` of one that is not square."""
        return f"k{self.kernel}" if self.kernel_width is None else f"k{self.kernel}x{self.kernel_width}"

    @property
    def in_elements(self) -> int:
        """Elements read, those of every operand."""
        return sum(map(prod, kind_of(self).operands(self)))

    @property
    def out_elements(self) -> int:
        return prod(self.out_shape)

    @property
    def params(self) -> int:
        """Weights and biases, as numbers."""
        return kind_of(self).params(self)

    @property
    def biases(self) -> int:
        """Those of its params that are biases."""
        return self.out_shape[0] if self.bias and kind_of(self).has_bias else 0

    @property
    def macs(self) -> int:
        """Operations as fvcore counts them: one multiply-add is one."""
        return kind_of(self).macs(self)

    @property
    def live_elements(self) -> int:
        """Elements of activations in memory while it runs: what it reads, what it writes, and what is held."""
        return self.in_elements + self.out_elements + self.held


def no_numbers(operation: Operation) -> int:
    return 0


def one_operand(operation: Operation) -> tuple[Shape, ...]:
    return (operation.in_shape,)


@dataclass(frozen=True)
class OperationKind:
    """All that is known of one kind of operation. A new kind is one record, registered in `KINDS`.

    `price_kind` names what profiles price an operation as: a kind of the roofline (pointwise, dense, depthwise,
    grouped, linear, pool, elementwise), or the name of a registered kind, as its own.
    `read_module(module, in_sizes, out_sizes)` gives the operation of one call of a module, None if the module is of
    another kind; sizes are torch's, without the batch. `build_node(graph, name, operation, inputs)` adds its ONNX nodes
    to a `hardware_models.measuring.graph.Graph` and returns the name of the output.
    """

    price_kind: Callable[[Operation], str]
    read_module: Callable[[Any, Sequence[Sizes], Sizes], Operation | None]
    build_node: Callable[[Any, str, Operation, Sequence[str]], str] | None = None  # None: it cannot be timed alone
    macs: Callable[[Operation], int] = no_numbers
    params: Callable[[Operation], int] = no_numbers
    operands: Callable[[Operation], Sequence[Shape]] = one_operand
    # What a roofline's throughput divides; None: its multiply-adds.
    work: Callable[[Operation], int] | None = None
    # What in the shapes contradicts the kind, beside what the next three say.
    contradictions: Sequence[Callable[[Operation], Iterator[str]]] = ()
    has_window: bool = False  # a kernel and a stride
    has_groups: bool = False
    has_bias: bool = False
    # torch operators by name with fvcore's handler for them; None for one that fvcore leaves out, as it counts 0.
    fvcore: Mapping[str, Callable[[Any, Any], int] | None] = field(default_factory=dict)
    # Where it is timed: behind a convolution and before one ("map"), before one ("reordered"), or alone ("vector").
    timed_as: str = "map"
    fuses_activation: bool = False  # runtimes run the activation behind it at no cost


KINDS: Registry[OperationKind] = Registry("operations")


def kind_of(operation: Operation) -> OperationKind:
    """Raises: InvalidInputError, with the kinds that there are, for an unknown one."""
    return _kind(operation.kind)


@cache
def _kind(name: str) -> OperationKind:
    return KINDS[name]


def parse_operation(text: str) -> Operation:
    """The operation that `Operation.notation` writes as `text`, with `held` 0.

    Defaults may be spelled out (`k1 s1 g1 bias`). Raises: InvalidInputError for anything else, and for shapes that no
    such operation has.
    """
    found = _NOTATION.fullmatch(text)
    if found is None or found[1] not in KINDS:
        raise InvalidInputError(
            f"not an operation: {text[:200]!r}; write kind and shapes, then what differs from k1 s1 g1 bias, as "
            f"'conv 16x112x112 -> 24x56x56 k3 s2'; kinds: {', '.join(KINDS)}"
        )
    kind, *sizes, bias, precision = found.groups()
    kernel_width = None if sizes[7] is None else int(sizes[7])
    c_in, h_in, w_in, c_out, h_out, w_out, kernel, _, stride, groups = (int(size or 1) for size in sizes)
    shapes: tuple[Shape, Shape] = (c_in, h_in, w_in), (c_out, h_out, w_out)
    has_bias = bias != "nobias"
    operation = Operation(
        kind, *shapes, kernel, stride, groups, has_bias, precision=precision, kernel_width=kernel_width
    )
    problems = list(_contradictions(operation))
    if problems:
        raise InvalidInputError(f"no such operation: {text!r}: {'; '.join(problems)}")
    return operation


def _contradictions(operation: Operation) -> Iterator[str]:
    """What in the shapes and fields of `operation` contradicts its kind."""
    kind, name = kind_of(operation), operation.kind
    sizes = (*operation.in_shape, *operation.out_shape, *operation.window, operation.stride, operation.groups)
    if min(sizes) < 1:
        yield "every size must be at least 1"
        return
    if not kind.has_window and (*operation.window, operation.stride) != (1, 1, 1):
        yield f"{name} has no kernel and no stride"
    if not kind.has_groups and operation.groups != 1:
        yield f"{name} has no groups"
    if not kind.has_bias and not operation.bias:
        yield f"{name} has no bias to leave out"
    if operation.in_shape[0] % operation.groups or operation.out_shape[0] % operation.groups:
        channels = f"{operation.in_shape[0]} and {operation.out_shape[0]} channels"
        yield f"{operation.groups} groups do not divide {channels}"
    for contradictions in kind.contradictions:
        yield from contradictions(operation)


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape))
