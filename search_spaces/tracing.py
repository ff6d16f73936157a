"""The operations of a network as deployed, found by running it: in order, each with what memory holds beside it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from search_spaces.blocks import Convolution, First, without_resize
from search_spaces.errors import InvalidInputError
from search_spaces.operation import KINDS, Operation, Sizes
from search_spaces.operation_kinds import map_shape
from search_spaces.tensor_spec import Inputs, zero_inputs

# Modules that cost nothing of their own: fused into their producer, or no arithmetic. An empty Sequential is a skip.
FREE = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.SiLU, nn.GELU, nn.LeakyReLU),
    *(nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Identity, nn.Sequential, First),
)
# Operators of one tensor that keep its shape, which runtimes fuse or leave out.
POINTWISE = (
    *("relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "sigmoid", "gelu", "leaky_relu"),
    *("dropout", "feature_dropout"),
)
# What only a module may compute, as a layer's sizes and weights are read from its module.
_OF_MODULES = ("convolution", "addmm", "mm", "bmm", "native_batch_norm", "max_pool2d_with_indices", "avg_pool2d")


@dataclass(frozen=True, slots=True)
class Call:
    """One operation that ran. `path` is that of its module, or of the one whose `forward` has the arithmetic."""

    path: str
    operation: Operation


def deployed(module: nn.Module) -> nn.Module:
    """A CPU copy in eval mode, without `Resize`, each batch norm folded into the convolution before it in a Sequential.

    A batch norm that follows no convolution (the last one of NAS-Bench-201, a pool's) is kept: nothing can take it up.
    Raises: InvalidInputError for a convolution and batch norm that are siblings outside a Sequential, whose order of
    execution is not declared.
    """
    copy = without_resize(module).cpu().eval()
    run_as_declared(copy)
    for parent, before, after in norms_to_fold(copy):
        setattr(parent, before, fuse_conv_bn_eval(getattr(parent, before), getattr(parent, after)))
        setattr(parent, after, nn.Identity())
    return copy


def run_as_declared(network: nn.Module) -> None:
    """Takes the fast way on small maps out of convolutions, in place: it writes other tensors than a runtime's."""
    for module in network.modules():
        if type(module) is Convolution:
            module.__class__ = nn.Conv2d  # type: ignore[assignment]


def norms_to_fold(network: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """Module, and names of a convolution and the batch norm behind it that are its children. Raises: as `deployed`."""
    found: list[tuple[nn.Module, str, str]] = []
    for name, parent in network.named_modules():
        for before, after in pairwise([child for child, _ in parent.named_children()]):
            if not isinstance(getattr(parent, before), nn.Conv2d) or not isinstance(
                getattr(parent, after), nn.BatchNorm2d
            ):
                continue
            if not isinstance(parent, nn.Sequential):
                raise InvalidInputError(
                    f"{name or type(parent).__name__}: batch norm {after!r} stands beside convolution {before!r} in a "
                    f"{type(parent).__name__}; only pairs in an nn.Sequential can be folded: put the two into one"
                )
            found.append((parent, before, after))
    return found


def operations_of(module: nn.Module, inputs: Inputs) -> list[Operation]:
    """The operations that the deployed network runs on such inputs, in order, `held` left at 0.

    Raises: as `deployed` and `calls_of`.
    """
    return [replace(call.operation, held=0) for call in calls_of(deployed(module), zero_inputs(inputs))]


def calls_of(network: nn.Module, inputs: Sequence[Tensor]) -> list[Call]:
    """The operations of a network that is as deployed, in order, on these inputs; numbers may be of the meta device.

    Sums, factors of channels and means over the map count wherever they are written, all else as modules.
    Raises: InvalidInputError for a module of no known kind, and for other arithmetic outside of modules.
    """
    trace = Trace(network, inputs)
    live, start, found = trace.live_elements, 0, []
    for path, operation, steps in trace.ran:
        # What ran since the operation before, as an activation, counts too; sums of a stack run in one step.
        most = max(live[min(start, steps.start) : steps.stop])
        start = steps.stop
        held = most - operation.in_elements - operation.out_elements
        found.append(Call(path, replace(operation, held=held)))
    return found


class Trace(TorchDispatchMode):
    """One run: what ran, and for every storage its size, the step that writes it and the step that touches it last.

    A storage lives from the operator that writes it to the last operator that reads it, as in a runtime that plans its
    memory: references that Python frames still hold do not count. In-place operators add nothing.
    """

    def __init__(self, network: nn.Module, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.ran: list[tuple[str, Operation, range]] = []  # path, operation, and its steps, in order
        self._constants = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
        self._kept: list[Tensor] = []  # an address must not be used twice
        self._step = 0
        self._elements: dict[int, int] = {}
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._entered: list[str] = []  # paths of the modules that run, from the outermost
        self._started: list[int] = []  # first step of each module that computes and runs
        self._inner: list[tuple[str, Operation, range]] | None = None  # of one that may be of no kind, as `ran`
        for x in inputs:
            self._touch(x)
        hooks = [hook for path, module in network.named_modules() for hook in self._hooks(path, module)]
        with torch.no_grad(), self:
            network(*inputs)
        for hook in hooks:
            hook.remove()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to have torch.compile look away takes two seconds of imports

    @property
    def live_elements(self) -> list[int]:
        """Elements in memory at each step, the first before anything runs."""
        change = [0] * (self._step + 2)
        for storage, elements in self._elements.items():
            change[self._first[storage]] += elements
            change[self._last[storage] + 1] -= elements
        return list(accumulate(change))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        output = _on_meta(name, args) if name.rstrip("_") in _BY_SHAPE and args[0].is_meta else None
        output = func(*args, **(kwargs or {})) if output is None else output
        self._step += 1
        for value in tree_leaves((args, kwargs, output)):
            if isinstance(value, Tensor):
                self._touch(value)
        found = self._inner if self._started else self.ran
        if found is not None:
            here = self._entered[-1], range(self._step, self._step + 1)
            found += [(here[0], each, here[1]) for each in self._arithmetic(name.rstrip("_"), args, output)]
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

    def _hooks(self, path: str, module: nn.Module) -> Iterator[Any]:
        has_weights = next(module.parameters(recurse=False), None) is not None
        computes = has_weights or next(module.children(), None) is None
        # A class of the user's own without weights is what its forward computes, where it is of no kind.
        is_code = computes and not has_weights and not type(module).__module__.startswith("torch.")

        def start(called: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._entered.append(path)
            if computes:
                self._started.append(self._step + 1)
                self._inner = [] if is_code else None

        def end(called: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self._entered.pop()
            if computes:
                first = self._started.pop()
                operation = _operation(called, inputs, output, required=not is_code)
                if operation is not None:
                    self.ran.append((path, operation, range(first, self._step + 1)))
                self.ran += self._inner if operation is None and self._inner else []
                self._inner = None

        yield module.register_forward_pre_hook(start)
        yield module.register_forward_hook(end)

    def _arithmetic(self, name: str, args: Any, output: Any) -> list[Operation]:
        """The operations of an operator that runs outside of modules, none where it is free."""
        operands = [x for x in args if isinstance(x, Tensor) and _storage(x) not in self._constants]
        sizes = [tuple(x.shape[1:]) for x in operands]
        reader = _ARITHMETIC.get(name)
        operation = reader(sizes, tuple(output.shape[1:])) if reader and operands else None
        if operation is None and (name in _OF_MODULES or (name == "mul" and len(operands) == 2)):
            raise InvalidInputError(
                f"{self._entered[-1] or 'the network'}: forward computes {name} on tensors of {sizes}; "
                "write it as a module of torch.nn, so that its cost can be read"
            )
        if name == "sum" and len(sizes) == 1 and output.shape == args[0].shape[1:]:  # of maps that were stacked
            shape = map_shape(tuple(output.shape[1:]))
            return [Operation("add", shape, shape)] * (args[0].shape[0] - 1)
        return [] if operation is None else [operation]


def _sum(inputs: Sequence[Sizes], output: Sizes) -> Operation | None:
    return Operation("add", map_shape(output), map_shape(output)) if len(inputs) == 2 else None


def _factor(inputs: Sequence[Sizes], output: Sizes) -> Operation | None:
    is_factor = any(size[1:] in ((1, 1), ()) for size in inputs)
    return Operation("scale", map_shape(output), map_shape(output)) if len(inputs) == 2 and is_factor else None


def _mean(inputs: Sequence[Sizes], output: Sizes) -> Operation | None:
    shape = map_shape(inputs[0])
    channels = shape[0]
    keeps = output in ((channels,), (channels, 1, 1)) and len(inputs[0]) == 3
    return Operation("global_pool", shape, (channels, 1, 1)) if keeps else None


# Operators of torch that count outside of modules.
_ARITHMETIC: dict[str, Callable[[Sequence[Sizes], Sizes], Operation | None]] = {
    "add": _sum,
    "mul": _factor,
    "mean": _mean,
}


# What the meta device computes by code that takes two seconds to import.
_BY_SHAPE = {"convolution", "addmm", "mean", "add", "sub", "mul", "div", *POINTWISE}


def _on_meta(name: str, args: Any) -> Tensor:
    """The output's shape of an operator in `_BY_SHAPE`."""
    x = args[0]
    if name == "mean" and len(args) > 1:
        over = {axis % x.dim() for axis in args[1]}
        sizes = [
            1 if axis in over else size for axis, size in enumerate(x.shape) if axis not in over or True in args[2:]
        ]
        return x.new_empty(sizes)
    if name == "addmm":
        if args[1].shape[1] != args[2].shape[0]:
            raise RuntimeError(
                f"a linear layer with weights {tuple(args[2].shape)} does not take {tuple(args[1].shape)}"
            )
        return x.new_empty(args[1].shape[0], args[2].shape[1])
    if name != "convolution":
        shapes = {value.shape for value in args if isinstance(value, Tensor)}
        return (
            x if name.endswith("_") else x.new_empty(x.shape if len(shapes) == 1 else torch.broadcast_shapes(*shapes))
        )
    weight, (stride, padding, dilation) = args[1], args[3:6]
    windows = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    sides = [(size + 2 * pad - dilated * (kernel - 1) - 1) // step + 1 for size, kernel, step, pad, dilated in windows]
    if x.shape[1] % weight.shape[1] or min(sides) < 1:
        raise RuntimeError(f"a convolution with weights {tuple(weight.shape)} does not take {tuple(x.shape)}")
    return x.new_empty(x.shape[0], weight.shape[0], *sides)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _operation(module: nn.Module, inputs: tuple[Any, ...], output: Tensor, *, required: bool) -> Operation | None:
    """The operation of one call of a module, None where it is free, or of no kind and none is `required`."""
    if type(module) in FREE:
        return None
    sizes = [tuple(x.shape[1:]) for x in inputs if isinstance(x, Tensor)]
    for kind in KINDS.values():
        operation = kind.read_module(module, sizes, tuple(output.shape[1:]))
        if operation is not None:
            return operation
    if not required:
        return None
    raise InvalidInputError(
        f"no operation is known for {module}: known are modules of the kinds {', '.join(KINDS)}, free are "
        f"{', '.join(kind.__name__ for kind in FREE)}; build the network from these, or register a kind"
    )
