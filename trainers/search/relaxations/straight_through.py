"""Straight-through: forward a drawn network, backward the probabilities of all of them."""

# Shapes: n decisions, N choices of all decisions.

from torch import Tensor

from trainers.search.relaxations.relaxation import Relaxation


class StraightThrough(Relaxation):
    """The loss of one drawn network, its gradient taken at the mean of all of them.

    Forward runs a discrete network through the mixed supernet; backward reaches every choice through the
    straight-through weights.
    """

    mixes = False

    def weights(self, device: int, path: tuple[int, ...], p_N: Tensor) -> Tensor:
        return self.searched.one_hot(path) + p_N - p_N.detach()
