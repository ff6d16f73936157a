"""Linear rules between choices against brute force: sampling, exact selection, presolve, pool, and each strategy."""

# Shapes: S networks, n decisions, N choices of all decisions.

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from spaces import PROFILES, all_networks, within
from torch import nn

from hardware_models.budgets import pool
from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable, Indices
from hardware_models.budgets.exact import tightest_network
from hardware_models.profile import METRICS
from search_spaces.errors import InvalidInputError, UnknownDecisionError
from search_spaces.operation import Operation
from search_spaces.rules import Rule, RuleMatrix
from search_spaces.space import Choice, Decision, SearchSpace, Site, Supernet
from search_spaces.tensor_spec import TensorSpec
from trainers.deploy.standalone import Score
from trainers.search.candidates import Request, finalise, random_candidates
from trainers.search.constraints.constraint import CONSTRAINTS
from trainers.search.logits import ArchitectureParameters
from trainers.search.samplers import SAMPLERS, PathSampler
from trainers.search.search_state import SearchState
from trainers.search.strategy import PRESETS

OPERATIONS = ("none", "pointwise", "dense")


class Wired(SearchSpace):
    """Two nodes of four and three edges, two of which carry something; free `width`. Declared for its costs alone."""

    name = "wired"
    inputs: Mapping[str, TensorSpec] = {"image": TensorSpec((8, 8, 8))}
    num_classes = 2

    def __init__(self, rules: tuple[Rule, ...] | None = None) -> None:
        self.nodes = {f"node{n}": [f"node{n}.edge{e}" for e in range(4 - n)] for n in range(2)}
        edges = [edge for names in self.nodes.values() for edge in names]
        self.decisions = (*(Decision(edge, OPERATIONS) for edge in edges), Decision("width", (8, 16)))
        self.sites = tuple(
            Site(edge, (edge, "width"), partial(self._operations, edge, k)) for k, edge in enumerate(edges)
        )
        two_inputs = (
            Rule(node, {(edge, kind): 1 for edge in names for kind in OPERATIONS[1:]}, low=2, high=2)
            for node, names in self.nodes.items()
        )
        self.rules = tuple(two_inputs) if rules is None else rules

    def _operations(self, edge: str, place: int, choices: Mapping[str, Any]) -> list[Operation]:
        if choices[edge] == "none":
            return []
        size = 4 + place % 3
        kernel = 1 if choices[edge] == "pointwise" else 3
        return [Operation("conv", (choices["width"], size, size), (8, size, size), kernel=kernel)]

    def spec(self) -> dict[str, Any]:
        return {}

    def supernet(self) -> Supernet:
        raise TypeError("declared for its costs alone")

    def network(self, choices: Mapping[str, Choice]) -> nn.Module:
        raise TypeError("declared for its costs alone")


SPACE = Wired()
EVERY = all_networks(SPACE)
NETWORKS = EVERY[((EVERY[:, :4] > 0).sum(axis=1) == 2) & ((EVERY[:, 4:7] > 0).sum(axis=1) == 2)]
TABLE = CostTable(SPACE, [PROFILES["iot_terminal"]])


def problem_at(quantile: float, *metrics: str) -> BudgetProblem:
    costs_SM = TABLE.of(NETWORKS, 0)
    limits = {m: float(np.quantile(costs_SM[:, METRICS.index(m)], quantile)) * (1 + 1e-6) for m in metrics}
    return BudgetProblem(TABLE, "iot_terminal", limits, margin="point")


def frequencies(drawn_Sn: Indices, allowed_Sn: Indices) -> np.ndarray:
    """How often each of the allowed networks was drawn; nothing else was."""
    counts = {tuple(row): 0 for row in allowed_Sn.tolist()}
    for row in drawn_Sn.tolist():
        counts[tuple(row)] += 1
    return np.array(list(counts.values()))


def check_frequencies(counts: np.ndarray, shares: np.ndarray) -> None:
    """Chi-squared within five of its standard deviations: draws are independent, or nearly."""
    expected = shares * counts.sum()
    chi2, freedom = float(((counts - expected) ** 2 / expected).sum()), len(counts) - 1
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom)


def test_rules_hold_for_choices_and_networks_alike() -> None:
    obeyed_S = SPACE.rule_matrix.obeyed(EVERY)
    assert obeyed_S.sum() == len(NETWORKS) == (6 * 4) * (3 * 4) * 2
    assert (EVERY[obeyed_S] == NETWORKS).all()
    SPACE.check(SPACE.choices(NETWORKS[0]))
    with pytest.raises(InvalidInputError, match="node0"):
        SPACE.indices({decision.name: decision.choices[0] for decision in SPACE.decisions})


def test_a_rule_about_what_the_space_lacks_is_refused() -> None:
    with pytest.raises(UnknownDecisionError):
        _ = Wired((Rule("odd", {("width", 7): 1.0}, high=0),)).rule_matrix


def test_sampling_is_uniform_over_the_networks_that_obey() -> None:
    drawn_Sn = SPACE.rule_matrix.sample(20_000, np.random.default_rng(0))
    check_frequencies(frequencies(drawn_Sn, NETWORKS), np.full(len(NETWORKS), 1 / len(NETWORKS)))


def test_rules_that_few_random_networks_obey_are_drawn_from_at_once() -> None:
    names = [f"switch{k}" for k in range(60)]
    decisions = [Decision(name, ("off", "on")) for name in names]
    drawn_Sn = RuleMatrix(decisions, [Rule("two", {(name, "on"): 0.1 for name in names}, low=0.2, high=0.2)]).sample(
        6000, np.random.default_rng(0)
    )
    assert (drawn_Sn.sum(axis=1) == 2).all()
    check_frequencies(drawn_Sn.sum(axis=0), np.full(60, 1 / 60))


def test_rules_whose_coefficients_have_too_many_sums_are_refused_by_name() -> None:
    decisions = [Decision(f"switch{k}", ("off", "on")) for k in range(20)]
    coefficients = {(decision.name, "on"): 2.0**k for k, decision in enumerate(decisions)}
    with pytest.raises(InvalidInputError, match="binary"):
        RuleMatrix(decisions, [Rule("binary", coefficients, high=2.0**19)])


def test_the_best_network_and_the_choices_left_are_those_of_brute_force() -> None:
    generator, rules = np.random.default_rng(4), SPACE.rule_matrix
    for _ in range(20):
        scores_N = generator.normal(size=SPACE.num_choices)
        values_S = scores_N[NETWORKS + rules.first_choice[:-1]].sum(axis=1)
        assert rules.best(scores_N) == tuple(NETWORKS[values_S.argmax()])
        mask_N = generator.random(SPACE.num_choices) < 0.8
        left_Sn = NETWORKS[within(TABLE, NETWORKS, mask_N)]
        if len(left_Sn) == 0:
            continue
        taken_N = np.zeros(SPACE.num_choices, dtype=bool)
        taken_N[left_Sn + rules.first_choice[:-1]] = True
        assert (rules.reduced(mask_N) == taken_N).all()


def test_sampling_from_rules_that_contradict_each_other_is_refused() -> None:
    wide = Rule("wide", {("width", 16): 1.0}, low=1)
    narrow = Rule("narrow", {("width", 8): 1.0}, low=1)
    with pytest.raises(InvalidInputError, match="rules"):
        Wired((wide, narrow)).rule_matrix.sample(4, np.random.default_rng(0))


@pytest.mark.parametrize("metrics", [("gflops",), ("latency_ms", "peak_memory_mb"), METRICS])
def test_exact_selection_and_the_tightest_network_are_those_of_brute_force(metrics: tuple[str, ...]) -> None:
    generator = np.random.default_rng(1)
    for quantile in (0.1, 0.3, 0.7):
        problem, scores_N = problem_at(quantile, *metrics), generator.normal(size=SPACE.num_choices)
        assert (problem.is_feasible(NETWORKS) == (TABLE.of(NETWORKS, 0) <= problem.limits_M).all(axis=1)).all()
        feasible_Sn = NETWORKS[problem.is_feasible(NETWORKS)]
        found = problem.select(scores_N)
        if len(feasible_Sn) == 0:
            assert found is None
            continue
        values_S = scores_N[feasible_Sn + TABLE.first_choice[:-1]].sum(axis=1)
        assert found is not None
        assert found.indices == tuple(feasible_Sn[values_S.argmax()])
        ratios_S = (TABLE.of(NETWORKS, 0) / problem.limits_M).max(axis=1)
        everything_N = np.ones(SPACE.num_choices, dtype=bool)
        tightest = tightest_network(TABLE, 0, mask_N=everything_N, limits_M=problem.limits_M)
        assert tightest.value == pytest.approx(ratios_S.min(), rel=1e-5)
        assert SPACE.rule_matrix.obeyed(np.array([tightest.indices])).all()
        survivors, _ = problem.start()
        assert within(TABLE, feasible_Sn, survivors.mask_N).all()
        assert problem.is_feasible(np.array([survivors.incumbent])).all()


def test_presolve_removes_what_the_rules_leave_no_room_for() -> None:
    none_of_two = Rule("idle", {(f"node0.edge{e}", kind): 1 for e in (0, 1) for kind in OPERATIONS[1:]}, high=0)
    table = CostTable(Wired((*SPACE.rules, none_of_two)), [PROFILES["iot_terminal"]])
    survivors, removals = BudgetProblem(table, "iot_terminal", {"gflops": 1e3}).start()
    gone = {(removal.decision, removal.choice) for removal in removals}
    # Edges 0 and 1 carry nothing, so 2 and 3 both do.
    assert gone == {(f"node0.edge{e}", kind) for e in (0, 1) for kind in OPERATIONS[1:]} | {
        (f"node0.edge{e}", "none") for e in (2, 3)
    }
    assert table.rules.obeyed(np.array([survivors.incumbent])).all()


@pytest.mark.parametrize("quantile", [0.4, 10.0])
@pytest.mark.parametrize("most", [128, 9])  # whole nodes at once, or two edges at a time
def test_the_pool_has_the_distribution_conditioned_on_budgets_and_rules(
    quantile: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MOST_COMBINATIONS", most)
    generator = np.random.default_rng(2)
    problem = problem_at(min(quantile, 1.0), "gflops", "peak_memory_mb")
    logits_N, mask_N = generator.normal(size=SPACE.num_choices), np.ones(SPACE.num_choices, dtype=bool)
    mask_N[1] = False
    allowed_Sn = NETWORKS[problem.is_feasible(NETWORKS) & within(TABLE, NETWORKS, mask_N)]
    chains = problem.chains(mask_N, np.random.default_rng(3))
    networks_Sn = chains.start(logits_N, 8000, allowed_Sn[:1])
    for _ in range(12):
        networks_Sn = chains.sweep(networks_Sn, logits_N)
    weights_S = np.exp(logits_N[allowed_Sn + TABLE.first_choice[:-1]].sum(axis=1))
    check_frequencies(frequencies(networks_Sn, allowed_Sn), weights_S / weights_S.sum())


def sampler_of(preset: str, problem: BudgetProblem, logits_N: np.ndarray, *, warmup_steps: int) -> PathSampler:
    """The paths of a search with this strategy, over one device."""
    state = SearchState([problem], [problem.start()[0]])
    parameters = ArchitectureParameters(len(logits_N), 1, offset_decay=0.0)
    with torch.no_grad():
        parameters.shared.copy_(torch.from_numpy(logits_N))
    constraint = CONSTRAINTS[PRESETS[preset]["constraint"]](state, parameters, np.random.default_rng(5))
    return SAMPLERS[PRESETS[preset]["sampler"]](constraint, warmup_steps=warmup_steps)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_path_that_a_strategy_trains_obeys_the_rules(preset: str) -> None:
    problem = problem_at(0.5, "gflops")
    sampler = sampler_of(preset, problem, np.random.default_rng(6).normal(size=SPACE.num_choices), warmup_steps=20)
    state = sampler.constraint.search
    paths_Sn = np.array([sampler.path(step, 0) for step in range(40)])
    assert SPACE.rule_matrix.obeyed(paths_Sn).all()
    assert (paths_Sn[0, :7] == 2).sum() == 4, "the largest network has the most expensive operation on all four edges"
    state.start_utilities([sampler.constraint.probabilities(0).detach()])
    for remaining in (0.5, 0.0):
        state.prune(remaining)
        sampler.constraint.restrict(0)
        paths_Sn = np.array([sampler.path(40, 0) for _ in range(100)])
        assert SPACE.rule_matrix.obeyed(paths_Sn).all()
        assert within(TABLE, paths_Sn, state.survivors[0].mask_N).all()
    incumbent_1n = np.array([state.survivors[0].incumbent])
    assert problem.is_feasible(incumbent_1n).all() and within(TABLE, incumbent_1n, state.survivors[0].mask_N).all()
    assert problem.is_feasible(paths_Sn).all()


@pytest.mark.parametrize("preset", ["penalty", "dual"])
def test_paths_are_drawn_as_the_logits_weigh_them_given_the_rules(preset: str) -> None:
    problem = BudgetProblem(TABLE, "iot_terminal", {"gflops": 1e3})
    logits_N = np.random.default_rng(7).normal(size=SPACE.num_choices)
    sampler = sampler_of(preset, problem, logits_N, warmup_steps=0)
    drawn_Sn = np.array([sampler.path(step, 0) for step in range(2000)])
    weights_S = np.exp(logits_N[NETWORKS + TABLE.first_choice[:-1]].sum(axis=1))
    check_frequencies(frequencies(drawn_Sn, NETWORKS), weights_S / weights_S.sum())


def test_an_active_choice_that_the_rules_need_is_drawn_however_improbable_it_is() -> None:
    logits_N = np.zeros(SPACE.num_choices)
    logits_N[TABLE.first_choice[:7]] = 1000.0  # nothing on any edge, which no network may have
    sampler = sampler_of("penalty", BudgetProblem(TABLE, "iot_terminal", {"gflops": 1e3}), logits_N, warmup_steps=0)
    assert SPACE.rule_matrix.obeyed(np.array([sampler.path(step, 0) for step in range(20)])).all()


def score(indices: tuple[int, ...]) -> Score:
    return Score(accuracy=0.5, loss=float(sum(indices)), images=1)


def test_candidates_obey_the_rules_and_their_neighbours_exchange_inputs() -> None:
    problem, scores_N = problem_at(0.5, "gflops"), np.random.default_rng(8).normal(size=SPACE.num_choices)
    survivors, _ = problem.start()
    leader = problem.select(scores_N)
    assert leader is not None
    away_S = (np.array(leader.indices) != NETWORKS).sum(axis=1)
    same_node_S = [
        (row[:4] == leader.indices[:4]).all() + (row[4:] == leader.indices[4:]).all() == 1 for row in NETWORKS
    ]
    near_S = (away_S == 1) | (away_S == 2) & np.array(same_node_S) & (NETWORKS[:, 7] == leader.indices[7])
    found_Sn = SPACE.rule_matrix.neighbours(leader.indices, np.ones(SPACE.num_choices, dtype=bool))
    assert {tuple(row) for row in found_Sn.tolist()} == {tuple(row) for row in NETWORKS[near_S].tolist()}
    generator = np.random.default_rng(9)
    candidates = finalise(Request(problem, survivors, scores_N, score, 12, (), generator))
    candidates += random_candidates(problem, survivors, score, num_candidates=12, generator=generator)
    assert len(candidates) == 24
    assert problem.is_feasible(np.array([candidate.indices for candidate in candidates])).all()
