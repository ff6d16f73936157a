"""What a device prices: one operation with its shapes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from search_spaces.errors import InvalidInputError

Shape = tuple[int, int, int]  # channels, height, width

KINDS = ("conv", "linear", "avg_pool", "max_pool", "global_pool", "add", "scale", "batch_norm")
WINDOWED = ("conv", "avg_pool", "max_pool")  # kinds with a kernel and a stride
_SIZE = "([0-9]{1,9})"  # bounded, so that no text makes a number that cannot be computed with
_NOTATION = re.compile(
    rf"([a-z_]+) {_SIZE}x{_SIZE}x{_SIZE} -> {_SIZE}x{_SIZE}x{_SIZE}(?: k{_SIZE})?(?: s{_SIZE})?(?: g{_SIZE})?"
    "(?: (bias|nobias))?"
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a network at batch size 1, as it is deployed: batch norm folded, activation fused.

    `kind` is one of `KINDS`: `add` sums two tensors, `scale` multiplies a tensor by one factor per channel,
    `batch_norm` is one that no convolution before it can take in.
    `in_shape` and `out_shape` are (channels, height, width). `held` counts the elements of other tensors that must stay
    in memory while it runs (a residual input, say); it changes peak memory and no other cost.
    """

    kind: str
    in_shape: Shape
    out_shape: Shape
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = True
    held: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown operation kind {self.kind!r}; allowed: {', '.join(KINDS)}")

    @property
    def notation(self) -> str:
        """One line, as `conv 16x112x112 -> 24x56x56 k3 s2`; `parse_operation` reads it back, all but `held`.

        After the shapes stand kernel, stride and groups where they are not 1, and `nobias` where there is none.
        """
        windows = (("k", self.kernel), ("s", self.stride), ("g", self.groups))
        fields = [f"{letter}{value}" for letter, value in windows if value != 1]
        fields += [] if self.bias else ["nobias"]
        return " ".join([f"{self.kind} {_sides(self.in_shape)} -> {_sides(self.out_shape)}", *fields])

    @property
    def in_elements(self) -> int:
        """Elements read, the second operand of `add` and the factors of `scale` included."""
        elements = _size(self.in_shape)
        if self.kind == "add":
            return 2 * elements
        return elements + self.in_shape[0] if self.kind == "scale" else elements

    @property
    def out_elements(self) -> int:
        return _size(self.out_shape)

    @property
    def params(self) -> int:
        """Weights and biases, as numbers."""
        if self.kind == "batch_norm":
            return 2 * self.in_shape[0]
        if self.kind not in ("conv", "linear"):
            return 0
        weights = self.out_shape[0] * (self.in_shape[0] // self.groups) * self.kernel**2
        return weights + (self.out_shape[0] if self.bias else 0)

    @property
    def macs(self) -> int:
        """Operations as fvcore counts them: one multiply-add is one, a global pool one per input element, others 0.

        Source: fvcore.nn.flop_count, handlers of aten::_convolution, aten::linear and aten::adaptive_avg_pool2d.
        """
        if self.kind == "global_pool":
            return _size(self.in_shape)
        if self.kind not in ("conv", "linear"):
            return 0
        _, height, width = self.out_shape
        return self.out_shape[0] * (self.in_shape[0] // self.groups) * self.kernel**2 * height * width

    @property
    def live_elements(self) -> int:
        """Elements of activations in memory while it runs: what it reads, what it writes, and what is held."""
        return self.in_elements + self.out_elements + self.held


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
    kind, *sizes, bias = found.groups()
    c_in, h_in, w_in, c_out, h_out, w_out, kernel, stride, groups = (int(size or 1) for size in sizes)
    operation = Operation(kind, (c_in, h_in, w_in), (c_out, h_out, w_out), kernel, stride, groups, bias != "nobias")
    problems = list(_impossible(operation))
    if problems:
        raise InvalidInputError(f"no such operation: {text!r}: {'; '.join(problems)}")
    return operation


def _impossible(operation: Operation) -> Iterator[str]:
    """What in the shapes and fields of `operation` contradicts its kind."""
    kind, (c_in, *in_sides), (c_out, *out_sides) = operation.kind, operation.in_shape, operation.out_shape
    sizes = (*operation.in_shape, *operation.out_shape, operation.kernel, operation.stride, operation.groups)
    if min(sizes) < 1:
        yield "every size must be at least 1"
        return
    if kind not in WINDOWED and (operation.kernel, operation.stride) != (1, 1):
        yield f"{kind} has no kernel and no stride"
    if kind != "conv" and operation.groups != 1:
        yield f"{kind} has no groups"
    if kind not in ("conv", "linear") and not operation.bias:
        yield f"{kind} has no bias to leave out"
    if c_in % operation.groups or c_out % operation.groups:
        yield f"{operation.groups} groups do not divide {c_in} and {c_out} channels"
    if kind not in ("conv", "linear") and c_in != c_out:
        yield f"{kind} keeps the number of channels"
    if kind in WINDOWED:
        yield from (
            f"a kernel of {operation.kernel} with stride {operation.stride} does not take {before} to {after}"
            for before, after in dict.fromkeys(zip(in_sides, out_sides, strict=True))
            if not _window_fits(before, after, operation.kernel, operation.stride)
        )
    elif kind == "global_pool" and out_sides != [1, 1]:
        yield "global_pool leaves 1x1"
    elif kind != "global_pool" and in_sides != out_sides:
        yield f"{kind} keeps height and width"


def _window_fits(before: int, after: int, kernel: int, stride: int) -> bool:
    """Whether a side of `before` becomes `after` with some padding: none, or up to the kernel at either end."""
    # SqueezeNet 1.0 as Caffe ships it pads its last 1x1 convolution by one: half the kernel would not do.
    least, most = ((before + padding - kernel) // stride + 1 for padding in (0, 2 * kernel))
    return max(least, 1) <= after <= most


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _size(shape: Shape) -> int:
    channels, height, width = shape
    return channels * height * width
