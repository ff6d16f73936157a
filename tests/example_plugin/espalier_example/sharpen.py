"""A remedy: the entropy of the choices joins the architecture loss, the more the longer the search runs."""

from torch import Tensor

from trainers.search.relaxations.relaxation import Searched
from trainers.search.remedies import REMEDIES, Remedy


@REMEDIES.register("sharpen")
class Sharpen(Remedy):
    def __init__(self, searched: Searched, *, strength: float = 0.1) -> None:
        super().__init__(searched)
        self.strength = strength

    def before_step(self, progress: float) -> None:
        self.progress = progress

    def architecture_loss(self, device: int, p_N: Tensor) -> Tensor:
        return -self.strength * self.progress * (p_N * p_N.clamp(min=1e-6).log()).sum()
