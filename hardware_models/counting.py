"""The independent recount: what an extracted network costs, found by running it and not from its declaration."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from search_spaces.blocks import Add, Scale, without_resize
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, Shape

# Operators that count 0 by convention: elementwise ones, which runtimes fuse, and local pools. fvcore has none.
_UNCOUNTED = frozenset(
    (
        *("aten::add", "aten::add_", "aten::mul", "aten::mul_", "aten::avg_pool2d", "aten::max_pool2d"),
        *("aten::relu", "aten::relu_", "aten::relu6", "aten::relu6_", "aten::hardtanh", "aten::hardtanh_"),
        *(
            "aten::hardswish",
            "aten::hardswish_",
            "aten::hardsigmoid",
            "aten::hardsigmoid_",
            "aten::silu",
            "aten::silu_",
        ),
        *("aten::sigmoid", "aten::sigmoid_", "aten::gelu", "aten::leaky_relu", "aten::leaky_relu_"),
        *("aten::dropout", "aten::feature_dropout"),
    )
)
# Modules that cost nothing of their own: fused into their producer, or no arithmetic. An empty Sequential is a skip.
_FREE = (
    nn.ReLU,
    nn.ReLU6,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Sigmoid,
    nn.SiLU,
    nn.GELU,
    nn.LeakyReLU,
    nn.Dropout,
    nn.Dropout2d,
    nn.Flatten,
    nn.Identity,
    nn.Sequential,
)


@dataclass(frozen=True, slots=True)
class Recount:
    """Costs of one network as deployed, at batch size 1. `by_operator` splits `gflops` by fvcore's operator names."""

    gflops: float
    params_m: float
    by_operator: dict[str, float]


def deployed(module: nn.Module) -> nn.Module:
    """A CPU copy in eval mode, without `Resize`, each batch norm folded into the convolution before it in a Sequential.

    A batch norm that follows no convolution (the last one of NAS-Bench-201, a pool's) is kept: nothing can take it up.
    Raises: InvalidInputError for a convolution and batch norm that are siblings outside a Sequential, whose order of
    execution is not declared.
    """
    copy = without_resize(module).cpu().eval()
    for name, parent in list(copy.named_modules()):
        _fold(parent, name)
    return copy


def recount(module: nn.Module, shape: Shape) -> Recount:
    """fvcore's count of the deployed network on an input of `shape` (channels, height, width); one multiply-add is one.

    Elementwise operators and local pools count 0, and so does a batch norm that `deployed` kept, which is elementwise;
    its parameters count.
    Raises: InvalidInputError if fvcore meets an operator for which it has no count.
    """
    copy = deployed(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore scripts and traces, which torch has deprecated
        counts, unsupported = _fvcore_counts(copy, shape)
    unknown = sorted(unsupported - _UNCOUNTED)
    if unknown:
        raise InvalidInputError(
            f"cannot count {', '.join(unknown)} of {type(module).__name__}: fvcore has no count for it; "
            f"counted as 0 by convention are {', '.join(sorted(_UNCOUNTED))}; use modules that can be counted"
        )
    params = sum(parameter.numel() for parameter in copy.parameters())
    gflops = {operator: count / 1e9 for operator, count in counts.items()}
    return Recount(gflops=sum(gflops.values()), params_m=params / 1e6, by_operator=gflops)


def _fvcore_counts(network: nn.Module, shape: Shape) -> tuple[dict[str, float], set[str]]:
    """Multiply-adds by operator, and the operators without a count."""
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(network, torch.zeros(1, *shape))
    # None would be overruled by fvcore's own handler, which counts a kept batch norm.
    analysis.set_op_handle("aten::batch_norm", lambda inputs, outputs: 0)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return dict(analysis.by_operator()), set(analysis.unsupported_ops())


def operations_of(module: nn.Module, shape: Shape) -> list[Operation]:
    """The operations that the deployed network runs on an input of `shape`, in order, `held` left at 0.

    Arithmetic written outside of modules is not seen: networks sum with `Add` and scale with `Scale`.
    Raises: InvalidInputError for a module that is of no known kind.
    """
    copy = deployed(module)
    operations: list[Operation] = []

    def record(called: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        operation = _operation(called, inputs[0].shape, output.shape)
        if operation is not None:
            operations.append(operation)

    for submodule in _running(copy):
        submodule.register_forward_hook(record)
    with torch.no_grad():
        copy(torch.zeros(1, *shape))
    return operations


def _running(network: nn.Module) -> Iterator[nn.Module]:
    """Modules that compute something themselves."""
    for module in network.modules():
        is_leaf = next(module.children(), None) is None
        if is_leaf or next(module.parameters(recurse=False), None) is not None:
            yield module


def peak_activation_mb(
    module: nn.Module, shape: Shape, *, bytes_per_element: int = 4, counted: Sequence[bool] | None = None
) -> float:
    """The most activation memory (10^6 bytes) that the deployed network needs at once, the input counted.

    `counted` says of each operation, in the order of `operations_of`, whether memory counts while it runs: not for one
    that another machine runs. Without it the whole run counts.

    A storage lives from the operator that writes it to the last operator that reads it, as in a runtime that plans its
    memory: references that Python frames still hold do not count. In-place operators add nothing.
    """
    copy = deployed(module)
    constants = {_storage(tensor) for tensor in (*copy.parameters(), *copy.buffers())}
    x = torch.zeros(1, *shape)
    with torch.no_grad(), _Lifetimes(constants, x) as lifetimes:
        steps = lifetimes.steps_of_operations(copy)
        copy(x)
    live = lifetimes.live_elements()
    if counted is not None:
        live = [0, *(live[k] for own, taken in zip(steps, counted, strict=True) if taken for k in own)]
    return max(live) * bytes_per_element / 1e6


class _Lifetimes(TorchDispatchMode):
    """Records for every storage its size, the step that writes it first and the step that touches it last."""

    def __init__(self, constants: set[int], x: Tensor) -> None:
        super().__init__()
        self._constants = constants
        self._kept: list[Tensor] = []  # an address must not be used twice
        self._step = 0
        self._elements: dict[int, int] = {}
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._touch(x)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self._step += 1
        for value in tree_leaves((args, kwargs, output)):
            if isinstance(value, Tensor):
                self._touch(value)
        return output

    def _touch(self, tensor: Tensor) -> None:
        storage = _storage(tensor)
        if storage in self._constants:
            return
        if storage not in self._first:
            self._kept.append(tensor)
            self._first[storage] = self._step
            self._elements[storage] = tensor.untyped_storage().nbytes() // tensor.element_size()
        self._last[storage] = self._step

    def steps_of_operations(self, network: nn.Module) -> list[range]:
        """Filled as `network` runs: the steps of each of its operations, in order."""
        steps: list[range] = []
        started: dict[nn.Module, int] = {}

        def start(called: nn.Module, inputs: tuple[Any, ...]) -> None:
            started[called] = self._step + 1

        def end(called: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if _operation(called, inputs[0].shape, output.shape) is not None:
                steps.append(range(started[called], self._step + 1))

        for submodule in _running(network):
            submodule.register_forward_pre_hook(start)
            submodule.register_forward_hook(end)
        return steps

    def live_elements(self) -> list[int]:
        """Elements in memory at each step, the first before anything runs."""
        change = [0] * (self._step + 2)
        for storage, elements in self._elements.items():
            change[self._first[storage]] += elements
            change[self._last[storage] + 1] -= elements
        return list(accumulate(change))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _fold(parent: nn.Module, name: str) -> None:
    for before, after in pairwise([child for child, _ in parent.named_children()]):
        conv, norm = getattr(parent, before), getattr(parent, after)
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            continue
        if not isinstance(parent, nn.Sequential):
            raise InvalidInputError(
                f"{name or type(parent).__name__}: batch norm {after!r} stands beside convolution {before!r} in a "
                f"{type(parent).__name__}; only pairs in an nn.Sequential can be folded: put the two into one"
            )
        setattr(parent, before, fuse_conv_bn_eval(conv, norm))
        setattr(parent, after, nn.Identity())


def _operation(module: nn.Module, in_size: torch.Size, out_size: torch.Size) -> Operation | None:
    """The operation of one call of a module, None where it is free."""
    in_shape, out_shape = _shape(in_size), _shape(out_size)
    match module:
        case nn.Conv2d():
            bias = module.bias is not None
            kernel, stride = _side(module, module.kernel_size), _side(module, module.stride)
            return Operation("conv", in_shape, out_shape, kernel, stride, module.groups, bias)
        case nn.Linear():
            return Operation("linear", in_shape, out_shape, bias=module.bias is not None)
        case nn.AvgPool2d() | nn.MaxPool2d():
            kind = "avg_pool" if isinstance(module, nn.AvgPool2d) else "max_pool"
            return Operation(kind, in_shape, out_shape, _side(module, module.kernel_size), _side(module, module.stride))
        case nn.AdaptiveAvgPool2d() if out_shape[1:] == (1, 1):
            return Operation("global_pool", in_shape, out_shape)
        case Add():
            return Operation("add", in_shape, out_shape)
        case Scale():
            return Operation("scale", in_shape, out_shape)
        case nn.BatchNorm2d():
            return Operation("batch_norm", in_shape, out_shape)
        case _ if type(module) in _FREE:
            return None
    raise InvalidInputError(
        f"no operation is known for {module}: known are Conv2d, Linear, AvgPool2d, MaxPool2d, AdaptiveAvgPool2d(1), "
        f"Add and Scale, free are {', '.join(kind.__name__ for kind in _FREE)}; build the network from these"
    )


def _shape(size: torch.Size) -> Shape:
    if len(size) == 2:
        return size[1], 1, 1
    if len(size) == 4:
        return size[1], size[2], size[3]
    raise InvalidInputError(f"tensors of a network must have 2 or 4 dimensions, batch first, got shape {tuple(size)}")


def _side(module: nn.Module, value: int | tuple[int, ...]) -> int:
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        raise InvalidInputError(f"{module} is not square: kernels and strides must be the same in height and width")
    return sides.pop()
