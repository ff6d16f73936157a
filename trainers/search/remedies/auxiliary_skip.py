"""A second skip beside each edge, so that the one to be chosen need not carry the gradient."""

from typing import Annotated

from pydantic import Field

from trainers.search.relaxations.relaxation import Searched
from trainers.search.remedies.remedy import Remedy


class AuxiliarySkip(Remedy):
    """Mixed edges add an identity of a weight that falls linearly from one to zero at `until`, a share of the search.

    Source: DARTS-, arXiv:2009.01027, with its linear decay; it decays over the whole search.
    """

    needs_edges = True

    def __init__(self, searched: Searched, *, until: Annotated[float, Field(gt=0, le=1)] = 1.0) -> None:
        super().__init__(searched)
        self.until = until

    def before_step(self, progress: float) -> None:
        self._weigh(max(0.0, 1 - progress / self.until))

    def after_training(self) -> None:
        self._weigh(0.0)

    def _weigh(self, weight: float) -> None:
        for layer in self.searched.supernet.layers:
            layer.auxiliary_skip = weight  # type: ignore[assignment]
