"""A space: convolutions in a row, each of which chooses its kernel."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from search_spaces.architecture import SPACES
from search_spaces.operation import Operation
from search_spaces.space import Choice, Decision, SearchSpace, Selection, Site, Supernet
from search_spaces.tensor_spec import TensorSpec


@SPACES.register("ladder")
class LadderSpace(SearchSpace):
    name = "ladder"

    def __init__(self, *, steps: int = 3, width: int = 16, size: int = 16, num_classes: int = 10, channels: int = 3):
        self.arguments = dict(steps=steps, width=width, size=size, num_classes=num_classes, channels=channels)
        image, maps, vector = (channels, size, size), (width, size, size), (width, 1, 1)
        self.inputs = {"image": TensorSpec(image)}
        self.decisions = tuple(Decision(f"kernel{step}", (1, 3, 5)) for step in range(steps))
        stem = [Operation("conv", image, maps, kernel=3)]
        head = [Operation("global_pool", maps, vector), Operation("linear", vector, (num_classes, 1, 1))]
        rung = lambda chosen: [Operation("conv", maps, maps, kernel=next(iter(chosen.values())))]  # of each kernel size
        rungs = [Site(decision.name, (decision.name,), rung) for decision in self.decisions]
        self.sites = (Site("stem", (), lambda _: stem), *rungs, Site("head", (), lambda _: head))

    def spec(self) -> dict[str, Any]:
        return self.arguments

    def supernet(self) -> Supernet:
        return Ladder(self, **self.arguments)


class Ladder(Supernet):
    def __init__(self, space: LadderSpace, *, steps: int, width: int, size: int, num_classes: int, channels: int):
        super().__init__(space)
        self.space, self.stem = space, convolution(channels, width, kernel=3)
        rungs = ([convolution(width, width, kernel=k) for k in d.choices] for d in space.decisions)
        self.rungs = nn.ModuleList(map(nn.ModuleList, rungs))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        x = self.stem(x)
        for decision, rung in zip(self.space.decisions, self.rungs):
            chosen = selection[decision.name]  # an index, or weights over the choices
            active = self.active[decision.name]
            x = rung[chosen](x) if isinstance(chosen, int) else sum(chosen[k] * rung[k](x) for k in active)
        return self.head(x)

    def extract(self, choices: Mapping[str, Choice]) -> nn.Module:
        rungs = [rung[index] for rung, index in zip(self.rungs, self.space.indices(choices))]
        return deepcopy(nn.Sequential(self.stem, *rungs, self.head))


def convolution(inputs: int, outputs: int, *, kernel: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU())
