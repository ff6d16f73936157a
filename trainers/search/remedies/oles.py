"""Operations that stop learning once their gradients on training and validation images disagree."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from search_spaces.space import Selection
from trainers.search.relaxations.relaxation import Batch, Searched
from trainers.search.remedies.remedy import Remedy


class Oles(Remedy):
    """Freezes an operation when the mean cosine of both gradients over `window` measurements is below `threshold`.

    Measured every `every` steps, at the selection that the weights were trained on. Source: OLES, Operation-level
    early stopping, Jiang et al., NeurIPS 2023; 20 and 0.4 as in its code.
    """

    needs_edges = True

    def __init__(
        self,
        searched: Searched,
        *,
        threshold: Annotated[float, Field(ge=-1, le=1)] = 0.4,
        window: Annotated[int, Field(ge=1)] = 20,
        every: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        super().__init__(searched)
        self.threshold, self.window, self.every = threshold, window, every
        found = searched.supernet.edge_operations.items()
        self.operations = {name: list(op.parameters()) for name, op in found if any(True for _ in op.parameters())}
        self.cosines: dict[str, list[float]] = {name: [] for name in self.operations}
        self.frozen: set[str] = set()

    def on_weights_gradient(
        self, weights_batch: Batch, architecture_batch: Batch, selections: Sequence[Selection]
    ) -> None:
        if self.searched.state.step % self.every == 0:
            self._measure(architecture_batch, selections[0])
        for name in self.frozen:
            for weight in self.operations[name]:
                weight.grad = None

    def _measure(self, batch: Batch, selection: Selection) -> None:
        searched = self.searched
        open_names = [name for name in self.operations if name not in self.frozen]
        weights = [weight for name in open_names for weight in self.operations[name]]
        if not weights:
            return
        loss = searched.task.loss(searched.supernet(batch[0], selection), batch[1])
        found = iter(searched.ranks.average(torch.autograd.grad(loss, weights, allow_unused=True)))
        for name in open_names:
            pairs = [(weight.grad, next(found)) for weight in self.operations[name]]
            both = [(a.flatten(), b.flatten()) for a, b in pairs if a is not None and b is not None]
            if both:
                self._note(name, sum(_cosine(a, b) for a, b in both) / len(both))

    def _note(self, name: str, cosine: float) -> None:
        self.cosines[name].append(cosine)
        if len(self.cosines[name]) == self.window:
            if sum(self.cosines[name]) / self.window < self.threshold:
                self.frozen.add(name)
            self.cosines[name] = []

    def state_dict(self) -> dict[str, Any]:
        return {"cosines": self.cosines, "frozen": sorted(self.frozen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.cosines = {name: list(values) for name, values in state["cosines"].items()}
        self.frozen = set(state["frozen"])


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(nn.functional.cosine_similarity(a, b, dim=0))
