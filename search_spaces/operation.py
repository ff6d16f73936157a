"""What a device prices: one operation with its shapes."""

from dataclasses import dataclass

Shape = tuple[int, int, int]  # channels, height, width

KINDS = ("conv", "linear", "avg_pool", "max_pool", "global_pool", "add", "scale", "batch_norm")


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


def _size(shape: Shape) -> int:
    channels, height, width = shape
    return channels * height * width
