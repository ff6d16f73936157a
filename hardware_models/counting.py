"""The independent recount: what an extracted network costs, found by running it and not from its declaration."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from search_spaces.errors import InvalidInputError
from search_spaces.operation import KINDS
from search_spaces.tensor_spec import Inputs, zero_inputs
from search_spaces.tracing import POINTWISE, Trace, deployed

# fvcore has no count of them. The kinds of operations say what else it has none of.
_ACTIVATIONS = frozenset(f"aten::{name}{in_place}" for name in POINTWISE for in_place in ("", "_"))


@dataclass(frozen=True, slots=True)
class Recount:
    """Costs of one network as deployed, at batch size 1. `by_operator` splits `gflops` by fvcore's operator names.

    `biases` of its parameters are added to what a convolution or a linear layer gives.
    """

    gflops: float
    params_m: float
    biases: int
    by_operator: dict[str, float]


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
    layers = [module for module in copy.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    biases = sum(layer.bias.numel() for layer in layers if layer.bias is not None)
    return Recount(gflops=sum(gflops.values()), params_m=params / 1e6, biases=biases, by_operator=gflops)


def _fvcore_counts(network: nn.Module, inputs: Inputs) -> tuple[dict[str, float], set[str]]:
    """Multiply-adds by operator, and the operators without a count."""
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(network, zero_inputs(inputs))
    handlers = {name: handler for kind in KINDS.values() for name, handler in kind.fvcore.items() if handler}
    analysis.set_op_handle(**handlers)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return dict(analysis.by_operator()), set(analysis.unsupported_ops())


def peak_activation_mb(
    module: nn.Module, inputs: Inputs, *, bytes_per_element: int = 4, counted: Sequence[bool] | None = None
) -> float:
    """The most activation memory (10^6 bytes) that the deployed network needs at once, the input counted.

    `counted` says of each operation, in the order of `operations_of`, whether memory counts while it runs: not for one
    that another machine runs. Without it the whole run counts.

    Raises: as `search_spaces.tracing.calls_of`.
    """
    trace = Trace(deployed(module), zero_inputs(inputs))
    live = trace.live_elements
    if counted is not None:
        ends = [steps.stop for _, _, steps in trace.ran]  # what runs between two operations counts with the later one
        spans = zip([0, *ends], ends, counted, strict=False)
        live = [0, *(size for start, end, taken in spans if taken for size in live[start:end])]
    return max(live) * bytes_per_element / 1e6
