"""Operations left out at random, so that no edge relies on one."""

# Shapes: B batch, C channels, H height, W width.

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from trainers.search.relaxations.relaxation import Searched
from trainers.search.remedies.remedy import Remedy


class DropPath(Remedy):
    """In training each image loses each operation but skips with a probability that rises linearly to `most`.

    What stays is scaled up. Source: scheduled drop-path, as RobustDARTS, arXiv:1909.09656, uses it in the search.
    """

    needs_edges = True

    def __init__(self, searched: Searched, *, most: Annotated[float, Field(ge=0, lt=1)] = 0.2) -> None:
        super().__init__(searched)
        self.most = most
        operations = searched.supernet.edge_operations.values()
        kinds = [operation for operation in operations if not isinstance(operation, nn.Identity)]
        self.hooks = [operation.register_forward_hook(self._drop) for operation in kinds]

    def after_training(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def _drop(self, operation: nn.Module, inputs: Any, y_BCHW: Tensor) -> Tensor:
        kept = 1 - self.most * self.searched.state.progress
        if not operation.training or kept == 1:
            return y_BCHW
        drawn_B = self.searched.ranks.draw(self.searched.constraint.generator, len(y_BCHW)) < kept
        return y_BCHW * torch.from_numpy(drawn_B / kept).to(y_BCHW)[:, None, None, None]
