"""What the blocks of published look-up tables consist of."""

from collections.abc import Iterator

from search_spaces.operation import Operation, Shape


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
