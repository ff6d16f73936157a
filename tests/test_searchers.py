"""Searchers on tables of a small space: within budget, no more networks than allowed, and how each one moves."""

# Shapes: S networks, n decisions.

import random
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_search import CONF, binding_problem, networks_of, small_space
from toy_spaces import SensorSpace

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import CostTable
from hardware_models.profile import load_profile
from trainers.deploy.standalone import Score
from trainers.search.candidates import Candidate, Request, Rung, random_candidates
from trainers.search.priors.prior import fit_prior
from trainers.search.searchers import SEARCHERS, Searcher
from trainers.search.searchers.nsga2 import best_first, crowding_distance, non_dominated_fronts

SPACE = small_space()
NETWORKS = networks_of(SPACE)
GOAL = tuple(NETWORKS[37].tolist())
SEQUENTIAL = ("evolution", "halving", "local_search", "nni", "nsga2", "predictor")
Network = tuple[int, ...]


@pytest.fixture(scope="module")
def problem() -> BudgetProblem:
    return binding_problem(SPACE)


@pytest.fixture(scope="module")
def loose() -> BudgetProblem:
    """All networks are within its budget."""
    return binding_problem(SPACE, share=0.999)


def make(name: str, **changes: Any) -> Searcher:
    """A searcher as its file in conf has it."""
    arguments = yaml.safe_load((CONF / "searcher" / f"{name}.yaml").read_text(encoding="utf-8"))
    return SEARCHERS[name](**{key: value for key, value in arguments.items() if key != "name"} | changes)


def table_of(seed: int) -> dict[Network, float]:
    """An accuracy for each network: a sum over its choices, and a part of its own."""
    generator = np.random.default_rng(seed)
    own_S = generator.random(len(NETWORKS)) + NETWORKS @ generator.normal(size=NETWORKS.shape[1])
    shares_S = own_S.argsort().argsort() / len(NETWORKS)
    return dict(zip(map(tuple, NETWORKS.tolist()), shares_S.tolist(), strict=True))


class Recorder:
    """Looks networks up, and keeps the order in which they were asked for."""

    def __init__(self, worth: Callable[[Network], float]) -> None:
        self.worth, self.asked = worth, list[Network]()

    def __call__(self, network: Network) -> Score:
        self.asked.append(network)
        return Score(self.worth(network), 1.0, 0)


def search(
    searcher: Searcher,
    problem: BudgetProblem,
    evaluate: Recorder,
    *,
    num_candidates: int,
    seed: int = 0,
    start: Survivors | None = None,
    **more: Any,
) -> list[Candidate]:
    start, generator = start or problem.start()[0], np.random.default_rng(seed)
    randoms = []
    if searcher.needs_random:
        randoms = random_candidates(
            problem, start, evaluate, num_candidates=num_candidates, generator=generator, rungs=more.get("rungs", ())
        )
    return searcher.search(Request(problem, start, None, evaluate, num_candidates, randoms, generator, **more))


def identity_of(network: Network) -> Hashable:
    return SPACE.identity(SPACE.choices(network))


def differ_in(one: Network, other: Network) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("num_candidates", [1, 2, 7])
@pytest.mark.parametrize("name", sorted({*SEARCHERS} - {"prior"}))
def test_candidates_are_distinct_alive_within_budget_best_first_and_no_more_than_asked_for(
    name: str, num_candidates: int, problem: BudgetProblem
) -> None:
    start, table = problem.start()[0], table_of(seed=1)
    mask_N = start.mask_N.copy()
    place = next(k for k, decision in enumerate(SPACE.decisions) if len(decision.choices) > 1)
    alive_S = NETWORKS[:, place] == start.incumbent[place]
    mask_N[problem.table.rules.block(place)] = [k == start.incumbent[place] for k in range(2)]
    evaluate = Recorder(table.__getitem__)
    found = search(
        make(name), problem, evaluate, num_candidates=num_candidates, start=Survivors(mask_N, start.incumbent)
    )
    allowed = set(map(tuple, NETWORKS[problem.is_feasible(NETWORKS) & alive_S].tolist()))
    assert 1 <= len({identity_of(network) for network in evaluate.asked}) <= num_candidates
    assert {*evaluate.asked} <= allowed
    assert len({identity_of(candidate.indices) for candidate in found}) == len(found)
    accuracies = [table[candidate.indices] for candidate in found]
    assert accuracies == sorted(accuracies, reverse=True)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_with_enough_evaluations_the_best_network_within_budget_is_found(name: str, problem: BudgetProblem) -> None:
    table, feasible = table_of(seed=2), NETWORKS[problem.is_feasible(NETWORKS)].tolist()
    evaluate = Recorder(table.__getitem__)
    found = search(make(name), problem, evaluate, num_candidates=len(NETWORKS))
    assert found[0].indices == max(map(tuple, feasible), key=table.__getitem__)
    assert len(evaluate.asked) == len(set(evaluate.asked)) <= len(feasible)


@pytest.mark.parametrize("name", ["evolution", "local_search", "predictor"])
def test_what_was_found_leads_to_better_networks_than_chance(name: str, loose: BudgetProblem) -> None:
    """The best of k of S networks at random has a rank of (S + 1) / (k + 1) in the mean: 5 here."""
    ranks, searcher = [], make(name)
    for seed in range(24):
        evaluate = Recorder(table_of(seed).__getitem__)
        best = search(searcher, loose, evaluate, num_candidates=12, seed=seed)[0]
        ranks.append(len(NETWORKS) * (1 - best.validation.accuracy))
    assert np.mean(ranks) < 4.5


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_searcher_is_a_function_of_the_generator(name: str, problem: BudgetProblem) -> None:
    orders = []
    for _ in range(2):
        evaluate = Recorder(table_of(seed=3).__getitem__)
        search(make(name), problem, evaluate, num_candidates=9, seed=5)
        orders.append(evaluate.asked)
    assert orders[0] == orders[1]


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_rules_are_obeyed(name: str) -> None:
    space = SensorSpace()
    table = CostTable(space, [load_profile(CONF / "hardware" / "mid_tablet.yaml")])
    problem = BudgetProblem(table, "mid_tablet", {"gflops": 1.0})
    evaluate = Recorder(lambda network: sum(network) / 10)
    best = search(make(name), problem, evaluate, num_candidates=9)[0]
    assert all(sum((2, 4, 8)[k] for k in network) <= 12 for network in evaluate.asked)
    assert sum(best.indices) == 3  # of 2, 4 and 8 the largest two that sum to 12


@pytest.mark.parametrize("name", [name for name in SEQUENTIAL if name != "nni"])  # whose tuners take no networks
def test_the_search_starts_from_what_the_prior_finds_best(name: str, problem: BudgetProblem) -> None:
    feasible = NETWORKS[problem.is_feasible(NETWORKS)]
    prior = fit_prior(SPACE, feasible, {"first come": -np.arange(len(feasible), dtype=float)})
    evaluate = Recorder(table_of(seed=4).__getitem__)
    search(make(name), problem, evaluate, num_candidates=6, prior=prior)
    assert evaluate.asked[0] == prior.best_scored(problem)[0]


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_the_first_rung_guides_and_only_the_better_half_reaches_the_next(name: str, problem: BudgetProblem) -> None:
    table, cheap, dear = table_of(seed=5), list[Network](), list[Network]()

    def first(network: Network) -> float:
        cheap.append(network)
        return table[network]

    def second(network: Network) -> float:
        dear.append(network)
        return -table[network]

    rungs: list[Rung] = [("first", first), ("second", second)]
    found = search(make(name), problem, Recorder(lambda _: 0.5), num_candidates=8, rungs=rungs)
    assert len(cheap) == len(set(cheap)) == 8
    assert sorted(dear, key=table.__getitem__) == sorted(cheap, key=table.__getitem__)[4:]
    assert found[0].indices == min(dear, key=table.__getitem__)


@pytest.mark.parametrize("tuner", ["random", "evolution", "tpe"])
def test_tuners_of_nni_stay_within_budget_and_leave_random_numbers_alone(tuner: str, problem: BudgetProblem) -> None:
    random.seed(11)
    due = random.random()
    random.seed(11)
    orders = []
    for _ in range(2):
        evaluate = Recorder(table_of(seed=6).__getitem__)
        search(make("nni", tuner=tuner), problem, evaluate, num_candidates=12, seed=7)
        orders.append(evaluate.asked)
    assert random.random() == due
    assert orders[0] == orders[1]
    assert len(set(orders[0])) == 12
    assert problem.is_feasible(np.array(orders[0])).all()


@pytest.mark.parametrize("tuner", ["evolution", "tpe"])
def test_tuners_of_nni_learn_from_results(tuner: str, loose: BudgetProblem) -> None:
    """As the best of so many networks at random has a rank of (S + 1) / (k + 1) in the mean: 2.6 here."""
    ranks = []
    for seed in range(12):
        evaluate = Recorder(table_of(seed).__getitem__)
        best = search(make("nni", tuner=tuner), loose, evaluate, num_candidates=24, seed=seed)[0]
        ranks.append(len(NETWORKS) * (1 - best.validation.accuracy))
    assert np.mean(ranks) < 2.6


def test_evolution_ages_out_the_oldest(loose: BudgetProblem) -> None:
    """Each network is worse than those before it: the best of three that are alive is the oldest, and dies next."""
    order = iter(range(100))
    evaluate = Recorder(lambda _: 1 - next(order) / 100)
    search(make("evolution", population=3, sample=3), loose, evaluate, num_candidates=7)
    assert len(evaluate.asked) == 7
    assert [differ_in(evaluate.asked[k], evaluate.asked[k - 3]) for k in range(3, 7)] == [1] * 4


def test_local_search_moves_to_the_first_better_neighbour_and_starts_anew_at_an_optimum(loose: BudgetProblem) -> None:
    """Accuracy falls by each choice that differs from one network; a climb to it looks at 36 others at most."""
    evaluate = Recorder(lambda network: 1 - differ_in(network, GOAL) / 10)
    search(make("local_search", improvement="first"), loose, evaluate, num_candidates=len(NETWORKS))
    leader, *others = evaluate.asked[: evaluate.asked.index(GOAL) + 1]
    assert len(others) <= 36
    for network in others:
        assert differ_in(network, leader) == 1
        leader = min(leader, network, key=lambda each: differ_in(each, GOAL))
    assert len(evaluate.asked) > 37


def test_local_search_looks_at_all_neighbours_for_the_best(loose: BudgetProblem) -> None:
    """The worst start: it has six neighbours, all nearer to the goal, and each of those five more."""
    start = loose.start()[0]
    prior = fit_prior(SPACE, NETWORKS, {"far": np.array([differ_in(tuple(n), GOAL) for n in NETWORKS], dtype=float)})
    evaluate = Recorder(lambda network: 1 - differ_in(network, GOAL) / 10)
    search(make("local_search", improvement="best"), loose, evaluate, num_candidates=12, start=start, prior=prior)
    distances = [differ_in(network, GOAL) for network in evaluate.asked]
    assert sorted(distances) == [4] * 5 + [5] * 6 + [6]
    assert {differ_in(network, evaluate.asked[0]) for network in evaluate.asked[1:7]} == {1}


def test_fronts_of_a_hand_worked_set() -> None:
    """Of (evidence, unused budget): three trade-offs, then two, then one that all others are better than."""
    objectives_SO = np.array([[5, 1], [3, 3], [1, 5], [2, 2], [3, 1], [1, 1]], dtype=float)
    assert non_dominated_fronts(objectives_SO) == [[0, 1, 2], [3, 4], [5]]
    alike_SO = np.ones((3, 2))
    assert non_dominated_fronts(alike_SO) == [[0, 1, 2]]


def test_crowding_of_a_hand_worked_front() -> None:
    """Ranges are 4 and 8: the second has neighbours 3 and 6 apart, the third 3 and 5."""
    front_SO = np.array([[0, 8], [1, 3], [3, 2], [4, 0]], dtype=float)
    assert crowding_distance(front_SO).tolist() == [np.inf, 3 / 4 + 6 / 8, 3 / 4 + 3 / 8, np.inf]
    assert best_first(front_SO) == [0, 3, 1, 2]
