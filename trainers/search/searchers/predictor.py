"""A weak predictor in rounds: fitted to what was evaluated, it proposes what to evaluate next."""

# Shapes: S networks, n decisions, F features.

from math import ceil
from typing import Annotated

import numpy as np
from pydantic import Field

from hardware_models.budgets.cost_table import Array, Indices
from trainers.search.candidates import Candidate, Request
from trainers.search.priors.prior import features
from trainers.search.priors.ridge import Ridge, fit_ridge
from trainers.search.searchers.evaluated import Evaluated
from trainers.search.searchers.searcher import Searcher

LEADERS = 3  # evaluated networks whose neighbours are proposed too
LEAST_FITTED = 4  # networks that a model is fitted to at least


class Predictor(Searcher):
    """Ridge regression of the evidence on what the space tells of a network, fitted again in each round.

    The first round evaluates random networks, half of them the prior's best where there is a prior, whose prediction is
    a feature then. Each further one takes those of the highest prediction among random networks within budget,
    neighbours of the best, and what the prior has scored. It is fitted to the better share of all that were evaluated,
    so that it tells the good ones apart. Source: WeakNAS, arXiv:2102.10490.
    """

    def __init__(
        self,
        *,
        rounds: Annotated[int, Field(ge=1, le=1000)],
        better_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)],
    ) -> None:
        self.rounds, self.better_share = rounds, better_share

    def search(self, request: Request) -> list[Candidate]:
        evaluated = Evaluated(request)
        per_round = max(1, request.num_candidates // (self.rounds + 1))
        first = max(2, request.num_candidates - self.rounds * per_round)
        uniform = evaluated.uniform()
        known = evaluated.take(evaluated.of_prior(), most=(first + 1) // 2)
        evaluated.take(uniform, most=first - len(known))
        while evaluated.left and len(evaluated.values) > 1:
            model, pool_Sn = self._fitted(evaluated), _pool(evaluated)
            predicted_S = model.predict(_features(evaluated, pool_Sn))
            likely_Sn = pool_Sn[np.argsort(-predicted_S, kind="stable")]
            if not (evaluated.take(likely_Sn, most=per_round) or evaluated.take(uniform)):
                break
        return evaluated.ranked()

    def _fitted(self, evaluated: Evaluated) -> Ridge:
        values_S = np.array(evaluated.values)
        size = max(LEAST_FITTED, ceil(self.better_share * len(values_S)))
        better = np.argsort(-values_S, kind="stable")[:size]
        return fit_ridge(_features(evaluated, np.array(evaluated.networks)[better]), values_S[better])


def _pool(evaluated: Evaluated) -> Indices:
    """Networks within budget that may be evaluated next, some of them known."""
    best = np.argsort(-np.array(evaluated.values), kind="stable")[:LEADERS]
    near = [evaluated.neighbours(evaluated.networks[k]) for k in best]
    pool_Sn = evaluated.pool()
    scored_Sn = np.array(list(evaluated.of_prior()), dtype=np.int64).reshape(-1, pool_Sn.shape[1])
    return evaluated.generator.permutation(np.unique(np.concatenate([pool_Sn, *near, scored_Sn]), axis=0))


def _features(evaluated: Evaluated, networks_Sn: Indices) -> Array:
    """What the space and the prior tell of each network, (S, F)."""
    of_space_SF, prior = features(evaluated.problem.table.space, networks_Sn), evaluated.request.prior
    return of_space_SF if prior is None else np.column_stack([of_space_SF, prior.predict(networks_Sn)])
