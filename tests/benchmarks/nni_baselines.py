"""nni's own one-shot searches, as peers beside ours: a step of its DARTS, and its hardware penalty stock and mended.

nni takes seconds to import, so its imports lie inside the functions.
"""

import logging
import warnings
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial, reduce
from itertools import count
from operator import add
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from search_spaces.errors import InvalidInputError

if TYPE_CHECKING:
    from nni.nas.nn.pytorch import ModelSpace
    from nni.nas.oneshot.pytorch.profiler import ExpectationProfilerPenalty

FAMILIES = ("mobilenet_v3", "proxyless")
# Both hub spaces round widths to multiples of 8, so that finer steps of the multiplier seldom change the network.
WIDTH_STEPS_PER_UNIT = 64
MAX_WIDTH_MULT = 4.0


def hub_space(family: str, *, num_classes: int, width_mult: float) -> "ModelSpace":
    """nni's hub space of this family, at one fixed width.

    "mobilenet_v3" mixes the kernel and expansion choices inside one shared convolution; "proxyless" runs six separate
    blocks a layer and sums them, as the DARTS paper does. Raises: InvalidInputError for another family.
    """
    if family not in FAMILIES:
        raise InvalidInputError(f"unknown nni space {family!r}; allowed: {', '.join(FAMILIES)}; choose one of them")
    with quiet_nni():
        from nni.nas.hub.pytorch import MobileNetV3Space, ProxylessNAS

        if family == "proxyless":
            return ProxylessNAS(num_classes, width_mult=width_mult)
        return MobileNetV3Space(num_classes, width_multipliers=float(width_mult))


def largest_macs(space: "ModelSpace", *, image_size: int) -> int:
    """Multiply-adds at batch 1 of the hub space's largest network: its convolutions, linear layers and global pools.

    One multiply-add is one and a global pool one per input element, which is fvcore's count of these operations.
    """
    # Both hub spaces list the choices of every decision in order of growing cost.
    network = space.freeze({name: decision.values[-1] for name, decision in space.simplify().items()}).eval()
    total = 0

    def add_macs(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            total += inputs[0].numel()

    for module in network.modules():
        module.register_forward_hook(add_macs)
    with torch.no_grad():
        network(torch.zeros(1, 3, image_size, image_size))
    return total


def width_for_macs(family: str, target_macs: int, *, image_size: int, num_classes: int) -> float:
    """The width multiplier whose largest network has the multiply-adds nearest to `target_macs` at this image size.

    Raises: InvalidInputError if even the narrowest network has more, or the widest allowed has fewer.
    """

    @cache
    def macs(step: int) -> int:
        space = hub_space(family, num_classes=num_classes, width_mult=step / WIDTH_STEPS_PER_UNIT)
        return largest_macs(space, image_size=image_size)

    first, last = 1, round(MAX_WIDTH_MULT * WIDTH_STEPS_PER_UNIT)
    if not macs(first) <= target_macs <= macs(last):
        raise InvalidInputError(
            f"no width of {family} at {image_size} px reaches {target_macs:,} multiply-adds; "
            f"allowed: {macs(first):,} to {macs(last):,}; change the target or the image size"
        )
    above = bisect_left(range(last + 1), target_macs, lo=first, key=macs)
    nearest = min((max(above - 1, first), above), key=lambda step: abs(macs(step) - target_macs))
    return nearest / WIDTH_STEPS_PER_UNIT


def nni_darts_step(
    family: str, *, image_size: int, num_classes: int, width_mult: float, batch_size: int
) -> Callable[[], None]:
    """A function that runs one whole step of nni's first-order DARTS: alphas on one batch, then weights on another.

    It is the `training_step` of nni's own Lightning module with its own optimizers, SGD with momentum 0.9 for the
    weights and Adam for the alphas, on fixed random images on the CPU. Lightning sets it up in a real fit of one step;
    the steps after it are called directly, so that the caller can interleave them with others. They do without the fit
    loop's data loading, callbacks and logging, which can only flatter nni.
    """
    with quiet_nni():
        space = hub_space(family, num_classes=num_classes, width_mult=width_mult)
    return darts_step(space, image_size=image_size, num_classes=num_classes, batch_size=batch_size)


def darts_step(space: "ModelSpace", *, image_size: int, num_classes: int, batch_size: int) -> Callable[[], None]:
    """As `nni_darts_step`, of any of nni's spaces."""
    with quiet_nni():
        from nni.nas.evaluator.pytorch import DataLoader, Lightning, SupervisedLearningModule, Trainer
        from nni.nas.execution import SequentialExecutionEngine
        from nni.nas.space import RawFormatModelSpace
        from nni.nas.strategy import DARTS

        weights, alphas = (_random_images(image_size, num_classes, batch_size, seed=seed) for seed in (0, 1))
        # SGD and not nni's default Adam: the DARTS paper's optimizer, and the cheaper one.
        optimizer: Any = partial(torch.optim.SGD, momentum=0.9)
        evaluator = Lightning(
            SupervisedLearningModule(nn.CrossEntropyLoss, {}, learning_rate=0.01, optimizer=optimizer),
            Trainer(max_steps=1, max_epochs=1, accelerator="cpu", devices=1, barebones=True),
            train_dataloaders=DataLoader(weights, batch_size=batch_size),
            val_dataloaders=DataLoader(alphas, batch_size=batch_size),
        )
        strategy = DARTS()
        supernet = strategy.initialize(RawFormatModelSpace(space, evaluator), SequentialExecutionEngine())
        supernet.evaluator.evaluate(supernet.model_space)

    module = strategy.oneshot_module.train()
    # Outside a fit Lightning has nowhere to log to, and would warn at every step.
    module.log = module.training_module.log = lambda *args, **kwargs: None
    batch = {"train": weights.tensors, "val": alphas.tensors}
    indices = count(1)

    def step() -> None:
        module.training_step(batch, next(indices))

    return step


def price_penalty(
    space: "ModelSpace", prices_ms: Mapping[str, Mapping[str, float]], *, budget_ms: float
) -> "ExpectationProfilerPenalty":
    """nni's penalty on expected latency over a budget, for a space whose choices, by label, have prices that add."""
    with quiet_nni():
        from nni.mutable import MutableExpression
        from nni.nas.oneshot.pytorch.profiler import ExpectationProfilerPenalty
        from nni.nas.profiler import ExpressionProfiler

        class Prices(ExpressionProfiler):
            def __init__(self) -> None:
                choices: Any = space.simplify()
                priced = (
                    [(choice == name, ms) for name, ms in prices_ms[label].items()] for label, choice in choices.items()
                )
                self.expression = reduce(add, map(MutableExpression.case, priced))

        return ExpectationProfilerPenalty(Prices(), baseline=budget_ms, nonlinear="positive")


@contextmanager
def mended_penalty() -> Iterator[None]:
    """Gives nni's penalty probabilities with a gradient; nni 3.0's own are plain numbers."""
    with quiet_nni():
        from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedLayer as Layer

    def export_probs(layer: Any, memo: dict[str, Any]) -> dict[str, Any]:
        weights = layer._softmax(layer._arch_alpha)
        return {} if layer.label in memo else {layer.label: dict(zip(layer.names, weights, strict=True))}

    stock, Layer.export_probs = Layer.export_probs, export_probs
    try:
        yield
    finally:
        Layer.export_probs = stock


def saved_activation_mb(step: Callable[[], object]) -> float:
    """Peak memory held for the backward pass while `step` runs, in 10^6 bytes, for any step on this thread.

    Each storage counts once, from its saving until the last node that needs it has run backward. Parameters and views
    of them are left out, since they are in memory anyway; tensors computed from them, such as mixed kernels, count.
    """
    owners: Counter[int] = Counter()
    held = peak = 0

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal held, peak
            self.tensor = tensor.detach()
            storage = self.tensor.untyped_storage()
            self.key, self.nbytes = storage.data_ptr(), storage.nbytes()
            held += self.nbytes if owners[self.key] == 0 else 0
            owners[self.key] += 1
            peak = max(peak, held)

        def __del__(self) -> None:
            nonlocal held
            owners[self.key] -= 1
            held -= self.nbytes if owners[self.key] == 0 else 0

    def pack(tensor: Tensor) -> Tensor | Saved:
        source = tensor if tensor._base is None else tensor._base
        return tensor if isinstance(source, nn.Parameter) else Saved(tensor)

    def unpack(saved: Tensor | Saved) -> Tensor:
        return saved.tensor if isinstance(saved, Saved) else saved

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        step()
    return peak / 1e6


def _random_images(image_size: int, num_classes: int, batch_size: int, *, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch_size, 3, image_size, image_size, generator=generator)
    return TensorDataset(images, torch.randint(num_classes, (batch_size,), generator=generator))


@contextmanager
def quiet_nni() -> Iterator[None]:
    """Silences nni's warnings about a torch newer than itself, and Lightning's about the bare loop asked for here."""
    logs = [logging.getLogger(name) for name in ("pytorch_lightning", "nni")]
    levels = [log.level for log in logs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for log in logs:
            log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)
