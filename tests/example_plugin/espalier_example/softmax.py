"""A relaxation: the mixture of all choices at their probabilities, as first-order DARTS has it (arXiv:1806.09055)."""

from torch import Tensor

from trainers.search.relaxations.relaxation import RELAXATIONS, Relaxation


@RELAXATIONS.register("softmax")
class Softmax(Relaxation):
    def weights(self, device: int, path: tuple[int, ...], p_N: Tensor) -> Tensor:
        return p_N  # `path` is a network that the constraint drew by these probabilities
