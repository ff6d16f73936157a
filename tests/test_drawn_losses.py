"""Pruning follows the logits only where they agree with the losses of the networks that were drawn."""

import numpy as np
import pytest
import torch
from tiny_search import binding_problem, small_space

from trainers.search.drawn_losses import LEAST_PAIRS, DrawnLosses
from trainers.search.search_state import SearchState, trusted

PLACES = {"kernel": 0, "width": 2}  # of four choices, two a decision
LOGITS = [np.array([0.0, 1.0, 0.0, 3.0])]
ORDER = ({"kernel": 0, "width": 0}, {"kernel": 1, "width": 0}, {"kernel": 0, "width": 1}, {"kernel": 1, "width": 1})


def drawn(losses: list[float]) -> DrawnLosses:
    """The four networks, of scores 0, 1, 3 and 4, in turn."""
    seen = DrawnLosses()
    for k, loss in enumerate(losses):
        seen.add(0, ORDER[k % 4], loss)
    return seen


def test_tau_is_that_of_pairs_near_in_time() -> None:
    """Losses fall as scores rise, over turns too; in the last case of 18 pairs 12 agree and 6 do not."""
    falling = [4.0 - k % 4 for k in range(8)]
    assert drawn(falling).agreement(LOGITS, PLACES) == pytest.approx(1.0)
    assert drawn([-loss for loss in falling]).agreement(LOGITS, PLACES) == pytest.approx(-1.0)
    half = [4.0, 1.0, 3.0, 2.0] * 2  # of the lags 1, 2 and 3: pairs of scores 0 1 3 4
    assert drawn(half).agreement(LOGITS, PLACES) == pytest.approx(1 / 3)


def test_few_draws_and_mixtures_say_nothing() -> None:
    seen = drawn([1.0, 2.0])
    assert LEAST_PAIRS > 3 * 2
    assert seen.agreement(LOGITS, PLACES) is None
    for _ in range(20):
        seen.add(0, {"kernel": 1, "width": torch.tensor([0.5, 0.5])}, 1.0)
    assert len(seen.draws) == 2
    for k in range(60):  # one network alone, as where a sampler trains the largest first
        seen.add(0, ORDER[3], float(k % 5))
    assert seen.agreement(LOGITS, PLACES) is None


@pytest.mark.parametrize("agrees", [True, False])
def test_logits_against_the_evidence_do_not_prune(agrees: bool) -> None:
    """The logits ask for the last choices; without them costs decide, and the incumbent stays what it was."""
    problem = binding_problem(small_space())
    table, (start, _) = problem.table, problem.start()
    sizes = np.diff(table.first_choice)
    logits_N = np.concatenate([np.linspace(-3.0, -1.0, size) for size in sizes])
    state = SearchState([problem], [start])
    state.utilities = [logits_N]
    generator = np.random.default_rng(0)
    for _ in range(40):
        network = generator.integers(sizes)
        score = logits_N[table.first_choice[:-1] + network].sum()
        choices = {d.name: int(k) for d, k in zip(table.space.decisions, network, strict=True)}
        state.drawn.add(0, choices, float(-score if agrees else score))
    state.prune(0.0)
    (agreement,), survivors = state.agreements, state.survivors[0]
    assert agreement is not None
    assert abs(agreement) > 0.5
    assert trusted(agreement) == (agreement > 0) == agrees
    best = problem.select(logits_N, mask_N=start.mask_N)
    assert best is not None
    assert survivors.incumbent == (best.indices if agrees else start.incumbent)
    assert {record.removal.utility < 0 for record in state.prune_log} == {agrees}
    assert (problem.overshoot(survivors.mask_N) <= 1).all()
