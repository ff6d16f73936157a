"""What a builder of networks marks as searched: whole numbers of its layers, alternatives, and depths.

    width = number("width", 16, 24, 32)
    nn.Conv2d(3, width, 3, padding=1)
    Choice("first", {"conv3": conv(width, 3), "conv5": conv(width, 5), "skip": nn.Identity()})
    Depth("blocks", *(block(width) for _ in range(4)), at_least=1)

Within `building` the same code makes a supernet, with all choices, or the network of one choice for each decision.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import space
from search_spaces.errors import InvalidInputError
from search_spaces.marked.number import Number
from search_spaces.marked.selected import Selected
from search_spaces.space import Decision

Made = nn.Module | Callable[[], nn.Module]


class Builder:
    """Collects the decisions in the order that they are met; `choices` gives those of one network, None all."""

    def __init__(self, choices: Mapping[str, space.Choice] | None) -> None:
        self.choices = choices
        self.decisions: dict[str, Decision] = {}
        self.selected = Selected()

    def declare(self, decision: Decision) -> None:
        """Raises: InvalidInputError if another decision has the name."""
        known = self.decisions.setdefault(decision.name, decision)
        if known != decision:
            raise InvalidInputError(
                f"decision {decision.name}: declared with choices {known.choices} and {decision.choices}; "
                "use one name for what is chosen together, another for what is not"
            )


_BUILDER: ContextVar[Builder | None] = ContextVar("builder", default=None)


@contextmanager
def building(choices: Mapping[str, space.Choice] | None = None) -> Iterator[Builder]:
    """Marks met within are of the network of `choices`, or of a supernet."""
    builder = Builder(choices)
    token = _BUILDER.set(builder)
    try:
        yield builder
    finally:
        _BUILDER.reset(token)


def current_builder() -> Builder:
    """Raises: InvalidInputError outside of `building`."""
    found = _BUILDER.get()
    if found is None:
        raise InvalidInputError("searched parts are marked while a space builds its network, not outside of one")
    return found


def number(name: str, *values: int) -> int:
    """A searched whole number, smallest first: channels or features of layers, or the side of a kernel.

    What has the same name is chosen together. Layers share their weights between values. In a supernet it is a
    `Number`, and products, quotients and `scaled` of it are too; in one network it is a plain number.
    """
    if not values or any(not isinstance(value, int) or value < 1 for value in values) or list(values) != sorted(values):
        raise InvalidInputError(f"number {name!r}: got {values}; allowed: whole numbers from 1 on, smallest first")
    decision, builder = Decision(name, values), current_builder()
    builder.declare(decision)
    if builder.choices is not None:
        return int(builder.choices[name])
    return Number((decision,), {(k,): value for k, value in enumerate(values)})


class Choice(nn.Module):
    """One of several modules by name, each with weights of its own; all give outputs of as many channels.

    Where their maps differ in size, a mixture has that of the one with the most weight, and pools the others to it.
    What has the same name is chosen together. `nn.Identity()` among them makes a layer optional. An alternative may be
    a function that makes it, so that networks without it are built faster.
    """

    def __init__(self, name: str, alternatives: Mapping[str, Made]) -> None:
        super().__init__()
        builder = current_builder()
        self.decision = Decision(name, tuple(alternatives))
        builder.declare(self.decision)
        self.selected = builder.selected
        self.kept = _kept(builder, self.decision)
        for text in self.kept:
            if "." in text or hasattr(self, text):
                raise InvalidInputError(
                    f"choice {name!r}: an alternative cannot be called {text!r}; choose another name"
                )
            self.add_module(text, _made(alternatives[text]))

    def forward(self, *inputs: Tensor) -> Tensor:
        if len(self.kept) == 1:
            return self._modules[self.kept[0]](*inputs)  # type: ignore[misc]
        entry = self.selected.selection[self.decision.name]
        if isinstance(entry, int):
            return self._modules[self.kept[entry]](*inputs)  # type: ignore[misc]
        running = self.selected.active[self.decision.name]
        outputs = [entry[k] * self._modules[self.kept[k]](*inputs) for k in running]  # type: ignore[misc]
        if len({output.shape for output in outputs}) > 1:
            heaviest = max(range(len(running)), key=lambda place: float(entry[running[place]].detach()))
            size = outputs[heaviest].shape[2:]
            outputs = [F.adaptive_avg_pool2d(output, size) for output in outputs]
        return torch.stack(outputs).sum(0) if len(outputs) > 1 else outputs[0]


class Repeated(nn.Module):
    """Blocks one after the other, of which the first `depth` run: searched, or a plain number. Each keeps the shape."""

    def __init__(self, depth: int, blocks: Sequence[Made], selected: Selected) -> None:
        super().__init__()
        self.depth, self.selected = depth, selected
        for place, block in enumerate(blocks[:depth] or (nn.Identity(),)):
            self.add_module(str(place), _made(block))

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(self.depth, Number):
            for block in self.children():
                x = block(x)
            return x
        extent, least = self.selected.extent(self.depth, x), min(self.depth.values.values())
        for place, block in zip(range(extent.size), self.children(), strict=False):
            if extent.mask is None or place < least:
                x = block(x)
            else:
                x = extent.mask[place] * block(x) + (1 - extent.mask[place]) * x
        return x


class Depth(Repeated):
    """Blocks one after the other, of which the last may be left out: from `at_least` to all. Each keeps the shape.

    As for a `Choice`, a block may be a function that makes it.
    """

    def __init__(self, name: str, *blocks: Made, at_least: int = 0) -> None:
        if not 0 <= at_least < len(blocks):
            raise InvalidInputError(f"depth {name!r}: got at_least={at_least}, allowed: 0 to {len(blocks) - 1}")
        builder, depths = current_builder(), tuple(range(at_least, len(blocks) + 1))
        decision = Decision(name, depths)
        builder.declare(decision)
        searched = Number((decision,), {(k,): depth for k, depth in enumerate(depths)})
        super().__init__(searched if builder.choices is None else int(builder.choices[name]), blocks, builder.selected)


def _made(module: Made) -> nn.Module:
    return module if isinstance(module, nn.Module) else module()


def _kept(builder: Builder, decision: Decision) -> list[str]:
    if builder.choices is None:
        return [str(choice) for choice in decision.choices]
    return [str(builder.choices[decision.name])]
