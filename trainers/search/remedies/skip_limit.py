"""At most so many skips in the network that the logits choose."""

# Shapes: n decisions, N choices of all decisions.

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from trainers.search.relaxations.relaxation import Searched
from trainers.search.remedies.remedy import Remedy

SKIP = "skip_connect"
REFUSED = 1e3  # below every other logit: what exact selection, and a pool drawn by the logits, no longer take


class SkipLimit(Remedy):
    """When training ends, the weakest skips of each device's best network go until `most` are left.

    A skip is weak by its logit above the next one of its edge. Source: P-DARTS, arXiv:1904.12760, section 3.3: two.
    """

    needs_edges = True

    def __init__(self, searched: Searched, *, most: Annotated[int, Field(ge=0)] = 2) -> None:
        super().__init__(searched)
        self.most = most

    @torch.no_grad()
    def after_training(self) -> None:
        for device in range(len(self.searched.state.problems)):
            while len(skips := skips_of(self.searched, device)) > self.most:
                weakest = min(skips, key=lambda place: self._lead(device, place))
                self.searched.logits.offsets[device, weakest] -= REFUSED

    def _lead(self, device: int, place: int) -> float:
        logits_N, starts = self.searched.logits(device), self.searched.state.table.first_choice
        decision = int(np.searchsorted(starts, place, side="right")) - 1
        others = [k for k in range(int(starts[decision]), int(starts[decision + 1])) if k != place]
        return float(logits_N[place] - logits_N[others].max())


@torch.no_grad()
def skips_of(searched: Searched, device: int) -> list[int]:
    """Places (of N) of the skips in a device's network of the largest logits, rules obeyed, whatever it costs."""
    space, starts = searched.state.table.space, searched.state.table.first_choice
    mask_N = searched.state.survivors[device].mask_N
    logits_N = searched.logits(device).double().numpy()
    best = searched.state.table.rules.best(np.where(mask_N, logits_N, -np.inf))
    return [
        int(starts[decision]) + choice
        for decision, choice in enumerate(best)
        if space.decisions[decision].name in space.operation_decisions
        and space.decisions[decision].choices[choice] == SKIP
    ]
