"""Weight paths drawn uniformly."""

# Shapes: S networks, n decisions, N choices of all decisions.

import numpy as np

from trainers.search.samplers.sampler import PathSampler

DRAWS = 64  # of which the first within budget is taken; where none is, a chain is annealed into the budgets


class Uniform(PathSampler):
    """Networks uniform over those of active choices that meet the budgets and the rules, whatever the logits say.

    Source: single path one-shot with uniform sampling, arXiv:1904.00420, here under budgets.
    """

    def path(self, step: int, device: int) -> tuple[int, ...]:
        search, constraint = self.constraint.search, self.constraint
        survivors, problem = search.survivors[device], search.problems[device]
        chains = problem.chains(survivors.mask_N, constraint.generator)
        flat_N = np.zeros(len(survivors.mask_N))
        drawn_Sn = chains.draw(flat_N, DRAWS)
        within = np.flatnonzero(problem.is_feasible(drawn_Sn))
        if len(within):
            return tuple(drawn_Sn[within[0]].tolist())
        return tuple(chains.start(flat_N, 1, np.array([survivors.incumbent]))[0].tolist())
