"""The kinds of operation that come with Espalier, registered as entry points of `espalier.operations`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pkgutil import resolve_name
from typing import Any

from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, OperationKind, Shape, Sizes


def map_shape(sizes: Sizes) -> Shape:
    """(channels, height, width) of a tensor whose sizes have channels first: a vector, a series or a map."""
    if not 1 <= len(sizes) <= 3:
        raise InvalidInputError(f"tensors of a network have 2 to 4 dimensions, batch first; got 1 x {sizes}")
    channels, height, width = (*sizes, 1, 1)[:3]
    return channels, height, width


def features_shape(sizes: Sizes) -> Shape:
    """(features, positions, 1) of a tensor whose last size is its features, as a linear layer takes it."""
    return sizes[-1], prod(sizes[:-1]), 1


# Shapes that cannot be


def keeps_channels(operation: Operation) -> Iterator[str]:
    if operation.in_shape[0] != operation.out_shape[0]:
        yield f"{operation.kind} keeps the number of channels"


def keeps_sides(operation: Operation) -> Iterator[str]:
    if operation.in_shape[1:] != operation.out_shape[1:]:
        yield f"{operation.kind} keeps height and width"


def leaves_one_pixel(operation: Operation) -> Iterator[str]:
    if operation.out_shape[1:] != (1, 1):
        yield f"{operation.kind} leaves 1x1"


def window_fits(operation: Operation) -> Iterator[str]:
    """Whether each side becomes that of the output with some padding: none, or up to the kernel at either end."""
    stride = operation.stride
    sides = zip(operation.in_shape[1:], operation.out_shape[1:], operation.window, strict=True)
    for before, after, kernel in dict.fromkeys(sides):
        # SqueezeNet 1.0 as Caffe ships it pads its last 1x1 convolution by one: half the kernel would not do.
        least, most = ((before + padding - kernel) // stride + 1 for padding in (0, 2 * kernel))
        if not max(least, 1) <= after <= most:
            yield f"a kernel of {kernel} with stride {stride} does not take {before} to {after}"


# Numbers. Source of the counts: fvcore.nn.flop_count, handlers of aten::_convolution, aten::linear and
# aten::adaptive_avg_pool2d.


def _weights(operation: Operation) -> int:
    return operation.out_shape[0] * (operation.in_shape[0] // operation.groups) * prod(operation.window)


def weighted_params(operation: Operation) -> int:
    return _weights(operation) + (operation.out_shape[0] if operation.bias else 0)


def weighted_macs(operation: Operation) -> int:
    return _weights(operation) * operation.out_shape[1] * operation.out_shape[2]


def _conv_price(operation: Operation) -> str:
    if operation.groups == 1:
        return "pointwise" if operation.window == (1, 1) else "dense"
    return "depthwise" if operation.groups == operation.in_shape[0] else "grouped"


# Modules


def _sides(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _reads(
    kind: str,
    module_class: str,
    fields: Callable[[Any], Mapping[str, Any]] = lambda module: {},
    *,
    shape: Callable[[Sizes], Shape] = map_shape,
) -> Callable[[Any, Sequence[Sizes], Sizes], Operation | None]:
    """`read_module` of a class, named so that torch is imported only to read a module; `fields` beside the shapes."""

    def read(module: Any, inputs: Sequence[Sizes], output: Sizes) -> Operation | None:
        if not isinstance(module, resolve_name(module_class)):
            return None
        return Operation(kind, shape(inputs[0]), shape(output), **fields(module))

    return read


def _window_of(module: Any) -> dict[str, Any]:
    (height, width), strides = _sides(module.kernel_size), _sides(module.stride)
    if strides[0] != strides[1]:
        raise InvalidInputError(f"{module} has strides {strides}: they must be the same in height and width")
    return {"kernel": height, "kernel_width": width, "stride": strides[0]}


def _bias_of(module: Any) -> dict[str, Any]:
    return {"bias": module.bias is not None}


def _read_global_pool(module: Any, inputs: Sequence[Sizes], output: Sizes) -> Operation | None:
    read = _reads("global_pool", "torch.nn:AdaptiveAvgPool2d")
    return read(module, inputs, output) if output[1:] == (1, 1) else None


# ONNX nodes


def _window(operation: Operation) -> dict[str, list[int]]:
    """Kernel, stride and the smallest symmetric padding that give the operation its output size."""
    pads = []
    for before, after, kernel in zip(operation.in_shape[1:], operation.out_shape[1:], operation.window, strict=True):
        fitting = [p for p in range(kernel // 2 + 1) if (before + 2 * p - kernel) // operation.stride + 1 == after]
        if not fitting:
            raise InvalidInputError(f"no symmetric padding up to half the kernel gives the output size of {operation}")
        pads.append(fitting[0])
    return {"kernel_shape": list(operation.window), "strides": [operation.stride] * 2, "pads": pads * 2}


def _weight_size(operation: Operation, *window: int) -> tuple[int, ...]:
    return operation.out_shape[0], operation.in_shape[0] // operation.groups, *window


def _build_conv(graph: Any, name: str, operation: Operation, inputs: Sequence[str]) -> str:
    weights = graph.weights(name, _weight_size(operation, *operation.window), bias=operation.bias)
    return graph.node("Conv", name, [*inputs, *weights], group=operation.groups, **_window(operation))


def _build_linear(graph: Any, name: str, operation: Operation, inputs: Sequence[str]) -> str:
    flat = graph.node("Flatten", f"{name}_flat", list(inputs))
    weights = graph.weights(name, _weight_size(operation), bias=operation.bias)
    return graph.node("Gemm", name, [flat, *weights], transB=1)


def _builds(
    operator: str, *, window: Callable[[Operation], Mapping[str, Any]] = lambda operation: {}
) -> Callable[[Any, str, Operation, Sequence[str]], str]:
    """`build_node` of one ONNX operator without weights."""
    return lambda graph, name, operation, inputs: graph.node(operator, name, list(inputs), **window(operation))


def _build_global_pool(graph: Any, name: str, operation: Operation, inputs: Sequence[str]) -> str:
    axes = graph.constant(f"{name}_axes", [2, 3])  # as the exporter writes it
    return graph.node("ReduceMean", name, [*inputs, axes], keepdims=1)


def _build_batch_norm(graph: Any, name: str, operation: Operation, inputs: Sequence[str]) -> str:
    ones = [1.0] * operation.in_shape[0]
    statistics = [graph.constant(f"{name}_{part}", ones) for part in ("scale", "bias", "mean", "variance")]
    return graph.node("BatchNormalization", name, [*inputs, *statistics])


# The kinds


CONV = OperationKind(
    price_kind=_conv_price,
    macs=weighted_macs,
    params=weighted_params,
    read_module=_reads(
        "conv", "torch.nn:Conv2d", lambda module: {**_window_of(module), "groups": module.groups, **_bias_of(module)}
    ),
    build_node=_build_conv,
    contradictions=(window_fits,),
    has_window=True,
    has_groups=True,
    has_bias=True,
    fuses_activation=True,
)
LINEAR = OperationKind(
    price_kind=lambda operation: "linear",
    macs=weighted_macs,
    params=weighted_params,
    read_module=_reads("linear", "torch.nn:Linear", _bias_of, shape=features_shape),
    build_node=_build_linear,
    contradictions=(keeps_sides,),
    has_bias=True,
    timed_as="vector",
)


def _pool(kind: str, module_class: str, operator: str) -> OperationKind:
    return OperationKind(
        price_kind=lambda operation: "pool",
        work=lambda operation: operation.out_elements * prod(operation.window),
        read_module=_reads(kind, module_class, _window_of),
        build_node=_builds(operator, window=_window),
        contradictions=(keeps_channels, window_fits),
        has_window=True,
        fvcore={f"aten::{kind}2d": None},
    )


AVG_POOL = _pool("avg_pool", "torch.nn:AvgPool2d", "AveragePool")
MAX_POOL = _pool("max_pool", "torch.nn:MaxPool2d", "MaxPool")
GLOBAL_POOL = OperationKind(
    price_kind=lambda operation: "pool",
    macs=lambda operation: prod(operation.in_shape),
    read_module=_read_global_pool,
    build_node=_build_global_pool,
    contradictions=(keeps_channels, leaves_one_pixel),
    fvcore={"aten::mean": lambda inputs, outputs: prod(inputs[0].type().sizes())},  # as its own of an adaptive pool
)


def _count_sum(inputs: Any, outputs: Any) -> int:
    """Multiply-adds of `sum`: none over maps that were stacked, which are sums of two; else those of a pool."""
    before, after = inputs[0].type().sizes(), outputs[0].type().sizes()
    return 0 if before[1:] == after else prod(before)


# Sums two tensors.
ADD = OperationKind(
    price_kind=lambda operation: "elementwise",
    operands=lambda operation: (operation.in_shape, operation.in_shape),
    read_module=_reads("add", "search_spaces.blocks:Add"),
    build_node=_builds("Add"),
    contradictions=(keeps_channels, keeps_sides),
    fvcore={"aten::add": None, "aten::add_": None, "aten::sum": _count_sum},
)
# Multiplies a tensor by one factor per channel; unblocked, as the global pool before it had it reordered.
SCALE = OperationKind(
    price_kind=lambda operation: "elementwise",
    operands=lambda operation: (operation.in_shape, (operation.in_shape[0], 1, 1)),
    read_module=_reads("scale", "search_spaces.blocks:Scale"),
    build_node=_builds("Mul"),
    contradictions=(keeps_channels, keeps_sides),
    fvcore={"aten::mul": None, "aten::mul_": None},
    timed_as="reordered",
)
# One that no convolution before it can take in. fvcore's own handler would count it.
BATCH_NORM = OperationKind(
    price_kind=lambda operation: "elementwise",
    params=lambda operation: 2 * operation.in_shape[0],
    read_module=_reads("batch_norm", "torch.nn:BatchNorm2d"),
    build_node=_build_batch_norm,
    contradictions=(keeps_channels, keeps_sides),
    fvcore={"aten::batch_norm": lambda inputs, outputs: 0},
)
