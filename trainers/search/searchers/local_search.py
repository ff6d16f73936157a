"""Local search: from a network to a better neighbour until there is none, then from another one."""

from typing import Literal

import numpy as np

from hardware_models.budgets.cost_table import Indices
from trainers.search.candidates import Candidate, Request
from trainers.search.searchers.evaluated import Evaluated
from trainers.search.searchers.searcher import Searcher


class LocalSearch(Searcher):
    """Moves to the first neighbour within budget that is better, or to the best of all; starts anew at an optimum.

    With a prior it starts from what that finds best, one after another, and looks at neighbours in its order; else both
    are random. Source: arXiv:2005.02960.
    """

    def __init__(self, *, improvement: Literal["first", "best"]) -> None:
        self.improvement = improvement

    def search(self, request: Request) -> list[Candidate]:
        evaluated = Evaluated(request)
        starts = evaluated.starts()
        while found := evaluated.take(starts):
            at: int | None = found[0]
            while at is not None:
                at = self._better(evaluated, at)
        return evaluated.ranked()

    def _better(self, evaluated: Evaluated, at: int) -> int | None:
        """The number of a better neighbour. Those known already are left out: what is beyond them is known too."""
        near_Sn = _likely_first(evaluated, evaluated.neighbours(evaluated.networks[at]))
        remaining, each = iter(near_Sn), 1 if self.improvement == "first" else len(near_Sn)
        while found := evaluated.take(remaining, most=each):
            best = max(found, key=evaluated.values.__getitem__)
            if evaluated.values[best] > evaluated.values[at]:
                return best
        return None


def _likely_first(evaluated: Evaluated, networks_Sn: Indices) -> Indices:
    prior = evaluated.request.prior
    if prior is None or not len(networks_Sn):
        return networks_Sn
    return networks_Sn[np.argsort(-prior.predict(networks_Sn), kind="stable")]
