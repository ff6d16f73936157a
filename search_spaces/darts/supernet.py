"""The supernet of the `darts` space: every operation on every edge, mixed or taken singly."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from search_spaces.darts.mixed_cell import MixedCell
from search_spaces.darts.network import Cell, Frame
from search_spaces.darts.space import DartsSpace
from search_spaces.space import Choice, Selection, Supernet


class DartsSupernet(Supernet):
    """Shared weights of all cells."""

    def __init__(self, space: DartsSpace) -> None:
        super().__init__(space)
        self.space = space
        self.frame = Frame(space, lambda cell: MixedCell(cell, space.edge_operations, skip_beside=space.skip_beside))

    @property
    def layers(self) -> Sequence[MixedCell]:
        return [cell for cell in self.frame.cells if isinstance(cell, MixedCell)]

    @property
    def edge_operations(self) -> Mapping[str, nn.Module]:
        return {
            f"{layer}.{edge}.{name}": operation
            for layer, cell in enumerate(self.layers)
            for edge, operations in cell.edges.items()
            for name, operation in operations.named_children()
        }

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        return self.frame(x, selection, self.active)

    def extract(self, choices: Mapping[str, Choice]) -> nn.Module:
        network = self.space.network(choices)
        target: Frame = network.frame  # type: ignore[assignment]
        for name in ("stem", "classifier"):
            getattr(target, name).load_state_dict(getattr(self.frame, name).state_dict())
        for mixed, cell in zip(self.layers, target.cells, strict=True):
            assert isinstance(cell, Cell)
            cell.prepare.load_state_dict(mixed.prepare.state_dict())
            for edge, module in cell.edges.items():
                operation = mixed.edges[edge][str(choices[edge])]  # type: ignore[index]
                taken = module.operation if self.space.skip_beside else module
                taken.load_state_dict(operation.state_dict())  # type: ignore[union-attr]
                if self.space.skip_beside:
                    module.beside.load_state_dict(mixed.besides[edge].state_dict())  # type: ignore[union-attr]
        return network.to(self.frame.classifier.weight.device).train(self.training)
