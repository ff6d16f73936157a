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

from search_spaces.blocks import without_resize
from search_spaces.errors import InvalidInputError
from search_spaces.operation import KINDS, Operation
from search_spaces.tensor_spec import Inputs, zero_inputs

# Activations and dropout, which runtimes fuse or leave out: fvcore has no count of them. The kinds of operations say
# what else it has none of.
_ACTIVATIONS = frozenset(
    f"aten::{name}{in_place}"
    for name in (
        *("relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "sigmoid", "gelu", "leaky_relu"),
        *("dropout", "feature_dropout"),
    )
    for in_place in ("", "_")
)
# Modules that cost nothing of their own: fused into their producer, or no arithmetic. An empty Sequential is a skip.
_FREE = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.SiLU, nn.GELU, nn.LeakyReLU),
    *(nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Identity, nn.Sequential),
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


def recount(module: nn.Module, inputs: Inputs) -> Recount:
    """fvcore's count of the deployed network on such inputs; one multiply-add is one.

    Elementwise operators and local pools count 0, and so does a batch norm that `deployed` kept, which is elementwise;
    its parameters count.
    Raises: InvalidInputError if fvcore meets an operator for which it has no count.
    """
    copy = deployed(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore scripts and traces, which torch has deprecated
        counts, unsupported = _fvcore_counts(copy, inputs)
    uncounted = {name for kind in KINDS.values() for name, handler in kind.fvcore.items() if handler is None}
    unknown = sorted(unsupported - uncounted - _ACTIVATIONS)
    if unknown:
        raise InvalidInputError(
            f"cannot count {', '.join(unknown)} of {type(module).__name__}: fvcore has no count for it; use modules "
            "that can be counted, or give a kind of operation a handler for it"
        )
    params = sum(parameter.numel() for parameter in copy.parameters())
    gflops = {operator: count / 1e9 for operator, count in counts.items()}
    return Recount(gflops=sum(gflops.values()), params_m=params / 1e6, by_operator=gflops)


def _fvcore_counts(network: nn.Module, inputs: Inputs) -> tuple[dict[str, float], set[str]]:
    """Multiply-adds by operator, and the operators without a count."""
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(network, zero_inputs(inputs))
    handlers = {name: handler for kind in KINDS.values() for name, handler in kind.fvcore.items() if handler}
    analysis.set_op_handle(**handlers)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return dict(analysis.by_operator()), set(analysis.unsupported_ops())


def operations_of(module: nn.Module, inputs: Inputs) -> list[Operation]:
    """The operations that the deployed network runs on such inputs, in order, `held` left at 0.

    Arithmetic written outside of modules is not seen: networks sum with `Add` and scale with `Scale`.
    Raises: InvalidInputError for a module that is of no known kind.
    """
    copy = deployed(module)
    operations: list[Operation] = []

    def record(called: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        operation = _operation(called, inputs, output)
        if operation is not None:
            operations.append(operation)

    for submodule in _running(copy):
        submodule.register_forward_hook(record)
    with torch.no_grad():
        copy(*zero_inputs(inputs))
    return operations


def _running(network: nn.Module) -> Iterator[nn.Module]:
    """Modules that compute something themselves."""
    for module in network.modules():
        is_leaf = next(module.children(), None) is None
        if is_leaf or next(module.parameters(recurse=False), None) is not None:
            yield module


def peak_activation_mb(
    module: nn.Module, inputs: Inputs, *, bytes_per_element: int = 4, counted: Sequence[bool] | None = None
) -> float:
    """The most activation memory (10^6 bytes) that the deployed network needs at once, the input counted.

    `counted` says of each operation, in the order of `operations_of`, whether memory counts while it runs: not for one
    that another machine runs. Without it the whole run counts.

    A storage lives from the operator that writes it to the last operator that reads it, as in a runtime that plans its
    memory: references that Python frames still hold do not count. In-place operators add nothing.
    """
    copy = deployed(module)
    constants = {_storage(tensor) for tensor in (*copy.parameters(), *copy.buffers())}
    examples = zero_inputs(inputs)
    with torch.no_grad(), _Lifetimes(constants, examples) as lifetimes:
        steps = lifetimes.steps_of_operations(copy)
        copy(*examples)
    live = lifetimes.live_elements()
    if counted is not None:
        live = [0, *(live[k] for own, taken in zip(steps, counted, strict=True) if taken for k in own)]
    return max(live) * bytes_per_element / 1e6


class _Lifetimes(TorchDispatchMode):
    """Records for every storage its size, the step that writes it first and the step that touches it last."""

    def __init__(self, constants: set[int], inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self._constants = constants
        self._kept: list[Tensor] = []  # an address must not be used twice
        self._step = 0
        self._elements: dict[int, int] = {}
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}
        for x in inputs:
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
            if _operation(called, inputs, output) is not None:
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


def _operation(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Operation | None:
    """The operation of one call of a module, None where it is free."""
    if type(module) in _FREE:
        return None
    sizes = [tuple(x.shape[1:]) for x in inputs if isinstance(x, Tensor)]
    for kind in KINDS.values():
        operation = kind.read_module(module, sizes, tuple(output.shape[1:]))
        if operation is not None:
            return operation
    raise InvalidInputError(
        f"no operation is known for {module}: known are modules of the kinds {', '.join(KINDS)}, free are "
        f"{', '.join(kind.__name__ for kind in _FREE)}; build the network from these, or register a kind"
    )
