"""Plug-ins of tests: spaces of tokens and of two sensors with a rule, a kind of operation, a cell's operation."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.blocks import Add
from search_spaces.nasbench201.cell_operations import CELL_OPERATIONS, CellOperation
from search_spaces.operation import KINDS, Operation, OperationKind, Sizes
from search_spaces.rules import Rule
from search_spaces.space import Choice, Decision, SearchSpace, Selection, Site, Supernet
from search_spaces.tensor_spec import TensorSpec

CLASSES = 3


def read_embedding(module: Any, inputs: Sequence[Sizes], output: Sizes) -> Operation | None:
    if not isinstance(module, nn.Embedding):
        return None
    return Operation("embedding", (module.num_embeddings, output[0], 1), (output[1], output[0], 1))


EMBEDDING = OperationKind(
    price_kind=lambda operation: "embedding",
    read_module=read_embedding,
    params=lambda operation: operation.in_shape[0] * operation.out_shape[0],
    operands=lambda operation: [(1, *operation.in_shape[1:])],
    fvcore={"aten::embedding": None},
)
KINDS.register("embedding")(EMBEDDING)


def separable(channels: int) -> nn.Module:
    """ReLU, 3x3 depthwise and pointwise convolution, batch norm."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    return nn.Sequential(nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))


# Two convolutions on an edge of a NAS-Bench-201 cell; the batch norm folds into the second.
CELL_OPERATIONS.register("separable_3x3")(
    CellOperation(
        module=separable,
        runs=lambda shape: (
            Operation("conv", shape, shape, kernel=3, groups=shape[0], bias=False),
            Operation("conv", shape, shape),
        ),
        copies_input=True,
        words="3×3 separable",
    )
)


class Sliced(Supernet):
    """Weights of the widest network; a choice uses their first part, a mixture the sum of parts."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.space = space
        self.whole = space.network({d.name: d.choices[-1] for d in space.decisions})

    def forward(self, x: Any, selection: Selection) -> Tensor:
        inputs = x if isinstance(x, tuple) else (x,)
        total: Any = 0.0
        for weight, choices in self._mixture(selection):
            total = total + weight * torch.func.functional_call(
                self.space.network(choices).to(self.whole.classifier.weight.dtype), self._weights(choices), inputs
            )
        return total

    def extract(self, choices: Mapping[str, Choice]) -> nn.Module:
        network = self.space.network(choices)
        network.load_state_dict(self._weights(choices))
        return network.train(self.training)

    def _weights(self, choices: Mapping[str, Choice]) -> dict[str, Tensor]:
        shapes = {name: value.shape for name, value in self.space.network(choices).state_dict().items()}
        whole = dict(self.whole.named_parameters())
        return {name: whole[name][tuple(slice(size) for size in shape)] for name, shape in shapes.items()}

    def _mixture(self, selection: Selection) -> list[tuple[Any, dict[str, Choice]]]:
        """Weights of networks, decisions independent: the toy spaces have few."""
        mixture: list[tuple[Any, dict[str, Choice]]] = [(1.0, {})]
        for decision in self.space.decisions:
            taken = selection[decision.name]
            one = isinstance(taken, int)
            parts = [(1.0, taken)] if one else [(taken[k], k) for k in self.active[decision.name]]
            mixture = [(w * p, {**c, decision.name: decision.choices[k]}) for w, c in mixture for p, k in parts]
        return mixture


class TokenNetwork(nn.Module):
    def __init__(self, space: "TokenSpace", choices: Mapping[str, Any]) -> None:
        super().__init__()
        self.embed = nn.Embedding(space.vocabulary, choices["width"])
        self.mix = nn.Sequential(nn.Linear(choices["width"], choices["hidden"]), nn.ReLU(inplace=True))
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(choices["hidden"] * space.length, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.mix(self.embed(tokens))))


class TokenSpace(SearchSpace):
    """An embedding and two linear layers over sequences of tokens."""

    name = "tokens"
    num_classes = CLASSES

    def __init__(self, vocabulary: int = 11, length: int = 6) -> None:
        self.vocabulary, self.length = vocabulary, length
        self.inputs = {"tokens": TensorSpec((length,), "int64", num_values=vocabulary)}
        self.decisions = (Decision("width", (4, 8)), Decision("hidden", (4, 6, 8)))
        self.sites = (
            Site("embed", ("width",), self._embed),
            Site("mix", ("width", "hidden"), self._mix),
            Site("classifier", ("hidden",), self._classify),
        )

    def spec(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary, "length": self.length}

    def supernet(self) -> Supernet:
        return Sliced(self)

    def network(self, choices: Mapping[str, Choice]) -> nn.Module:
        return TokenNetwork(self, choices)

    def _embed(self, choices: Mapping[str, Any]) -> list[Operation]:
        return [Operation("embedding", (self.vocabulary, self.length, 1), (choices["width"], self.length, 1))]

    def _mix(self, choices: Mapping[str, Any]) -> list[Operation]:
        return [Operation("linear", (choices["width"], self.length, 1), (choices["hidden"], self.length, 1))]

    def _classify(self, choices: Mapping[str, Any]) -> list[Operation]:
        return [Operation("linear", (choices["hidden"] * self.length, 1, 1), (CLASSES, 1, 1))]


class SensorNetwork(nn.Module):
    def __init__(self, space: "SensorSpace", choices: Mapping[str, Any]) -> None:
        super().__init__()
        self.sound = nn.Linear(8, choices["sound"])
        self.motion = nn.Linear(5, choices["motion"])
        self.from_sound, self.from_motion = nn.Linear(choices["sound"], 4), nn.Linear(choices["motion"], 4)
        self.add, self.act = Add(), nn.ReLU(inplace=True)
        self.classifier = nn.Linear(4, CLASSES)

    def forward(self, sound: Tensor, motion: Tensor) -> Tensor:
        joined = self.add(self.from_sound(self.sound(sound)), self.from_motion(self.motion(motion)))
        return self.classifier(self.act(joined))


class SensorSpace(SearchSpace):
    """Two sensors; a rule keeps both parts from being wide at once."""

    name = "sensors"
    num_classes = CLASSES
    inputs: Mapping[str, TensorSpec] = {"sound": TensorSpec((8,)), "motion": TensorSpec((5,))}

    def __init__(self) -> None:
        self.decisions = (Decision("sound", (2, 4, 8)), Decision("motion", (2, 4, 8)))
        widths = {(d.name, width): float(width) for d in self.decisions for width in (2, 4, 8)}
        self.rules = (Rule("narrow enough", widths, high=12),)
        self.sites = (
            Site("sound", ("sound",), lambda c: self._part(8, c["sound"])),
            Site("motion", ("motion",), lambda c: self._part(5, c["motion"], held=4)),
            Site("head", (), lambda c: self._head()),
        )

    def spec(self) -> dict[str, Any]:
        return {}

    def supernet(self) -> Supernet:
        return Sliced(self)

    def network(self, choices: Mapping[str, Choice]) -> nn.Module:
        return SensorNetwork(self, choices)

    def _part(self, size: int, width: int, *, held: int = 0) -> list[Operation]:
        # While the first sensor's part runs the second's input waits; while the second's does, the first's result.
        waiting = held or 5
        return [
            Operation("linear", (size, 1, 1), (width, 1, 1), held=waiting),
            Operation("linear", (width, 1, 1), (4, 1, 1), held=waiting),
        ]

    def _head(self) -> list[Operation]:
        return [Operation("add", (4, 1, 1), (4, 1, 1)), Operation("linear", (4, 1, 1), (CLASSES, 1, 1))]
