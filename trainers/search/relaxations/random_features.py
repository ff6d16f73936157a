"""The mixture over random features: convolutions stay as they were drawn, and only norms and heads are trained."""

from typing import Literal

from trainers.search.relaxations.mixture import Mixture
from trainers.search.relaxations.relaxation import Searched


class RandomFeatures(Mixture):
    """As the mixture, with frozen random convolutions, so that no operation wins by being trained sooner.

    Source: RF-DARTS, Zhang et al., CVPR 2023 (Differentiable Architecture Search with Random Features).
    """

    def __init__(
        self, searched: Searched, *, order: Literal["first", "second"] = "first", single_level: bool = False
    ) -> None:
        super().__init__(searched, order=order, single_level=single_level)
        for weight in searched.supernet.parameters():
            if weight.dim() == 4:  # of a convolution, elastic or not
                weight.requires_grad_(False)
