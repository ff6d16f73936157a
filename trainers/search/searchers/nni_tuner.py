"""Tuners of nni as searchers, within the same budgets and by the same evaluators as all others."""

import logging
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from search_spaces.space import Decision
from trainers.search.candidates import Candidate, Request
from trainers.search.searchers.evaluated import Evaluated, population_size
from trainers.search.searchers.searcher import Searcher

if TYPE_CHECKING:
    from nni.tuner import Tuner

PATIENCE = 1000  # proposals in a row that are over budget, or known, before the tuner is given up
POPULATION, SAMPLE = 16, 4  # of evolution, as in conf/searcher/evolution.yaml


class NniTuner(Searcher):
    """Networks that a tuner of nni 3.0 proposes: `random`, `evolution` (regularised, arXiv:1802.01548) or `tpe`.

    nni knows no budgets. A proposal over one is a failed trial to the tuner, and no network is evaluated for it. After
    `PATIENCE` of these in a row, networks are uniform over those within budget.
    """

    def __init__(self, *, tuner: Literal["random", "evolution", "tpe"]) -> None:
        self.tuner = tuner

    def search(self, request: Request) -> list[Candidate]:
        evaluated = Evaluated(request)
        with _own_random(int(request.generator.integers(2**31))) as seed, _quiet():
            _run_trials(self._make(request, seed), request, evaluated)
        evaluated.take(evaluated.uniform(), most=evaluated.left)
        return evaluated.ranked()

    def _make(self, request: Request, seed: int) -> "Tuner":
        """The tuner, set up with the decisions of the space. Imports nni, which takes seconds."""
        from nni.algorithms.hpo.random_tuner import RandomTuner
        from nni.algorithms.hpo.regularized_evolution_tuner import RegularizedEvolutionTuner
        from nni.algorithms.hpo.tpe_tuner import TpeTuner

        logging.getLogger("nni").setLevel(logging.ERROR)  # importing nni sets it
        population = population_size(POPULATION, request)
        kinds = {
            "random": lambda: RandomTuner(seed=seed),
            "evolution": lambda: RegularizedEvolutionTuner(population_size=population, sample_size=SAMPLE),
            "tpe": lambda: TpeTuner(optimize_mode="maximize", seed=seed),
        }
        kind = "layer_choice" if self.tuner == "evolution" else "choice"
        tuner = kinds[self.tuner]()
        decisions = request.problem.table.space.decisions
        tuner.update_search_space({d.name: {"_type": kind, "_value": list(range(len(d.choices)))} for d in decisions})
        return tuner


def _run_trials(tuner: "Tuner", request: Request, evaluated: Evaluated) -> None:
    """Trials one after another, until enough networks are evaluated or the tuner has no more to propose."""
    from nni import NoMoreTrialError

    number = failed = 0
    while evaluated.left and failed < PATIENCE:
        try:
            proposed = tuner.generate_parameters(number)
        except NoMoreTrialError:
            break
        network = _indices(request.problem.table.space.decisions, proposed)
        taken = evaluated.take([network]) if _may_be_taken(request, network) else []
        if taken:
            tuner.receive_trial_result(number, proposed, evaluated.values[taken[0]])
        tuner.trial_end(number, bool(taken))
        failed = 0 if taken else failed + 1
        number += 1


def _indices(decisions: Sequence[Decision], proposed: Mapping[str, Any]) -> tuple[int, ...]:
    """The network of a proposal; evolution gives each choice with its number."""
    values = (proposed[decision.name] for decision in decisions)
    return tuple(int(value["_idx"]) if isinstance(value, Mapping) else int(value) for value in values)


def _may_be_taken(request: Request, network: tuple[int, ...]) -> bool:
    """Whether a network is within budget and has active choices alone."""
    active = request.survivors.mask_N[request.problem.table.first_choice[:-1] + np.array(network)].all()
    return bool(active and request.problem.is_feasible(np.array([network]))[0])


@contextmanager
def _own_random(seed: int) -> Iterator[int]:
    """Python's own random numbers from `seed` on, as nni's evolution has no others, and then as they were."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield seed
    finally:
        random.setstate(state)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without nni's warnings about packages newer than itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
