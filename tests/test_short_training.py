"""The final choice by a prior and short training: what goes on to the next rung, what decides, and the same bits."""

from pathlib import Path

import numpy as np
import pytest
from tiny_search import CELL_SPACE, CELLS, binding_problem, networks_of, small_space, tiny_config

from search_spaces.errors import InvalidInputError, keys_of
from trainers.deploy.standalone import Score
from trainers.reports.verify import verify_run
from trainers.search.candidates import Candidate, Request, agreement, decided_by, race
from trainers.search.phases import Progress
from trainers.search.plan import part_problems, prepare
from trainers.search.priors.fresh import PRIORS, Fresh
from trainers.search.priors.prior import fit_prior
from trainers.search.priors.scoring import Scorer
from trainers.search.run import run
from trainers.search.short_training import ShortTraining
from trainers.search.strategy import make_part

PRIOR = (
    *CELL_SPACE,
    "hardware=[mid_tablet]",
    "prior=zero_cost",
    "prior.networks=12",
    "prior.rounds=1",
    "prior.networks_per_round=2",
    "prior.batch_size=8",
    "trainer.candidates=4",
    "trainer.random_candidates=1",
)
RECIPE = (*PRIOR, "searcher=prior", "evaluator=short_training", "evaluator.steps=[2,4]")


def test_the_better_half_goes_on_and_the_last_rung_decides() -> None:
    problem = binding_problem(small_space())
    start, generator = problem.start()[0], np.random.default_rng(0)
    networks = [tuple(row) for row in networks_of(small_space())[:4].tolist()]
    first = dict(zip(networks, (4.0, 3.0, 2.0, 1.0), strict=True))
    asked: list[tuple[int, ...]] = []

    def second(network: tuple[int, ...]) -> float:
        asked.append(network)
        return -first[network]

    rungs = (("short", first.__getitem__), ("long", second))
    request = Request(problem, start, None, lambda _: Score(0.5, 1.0, 1), 4, (), generator, rungs=rungs)
    ranked = race(request, networks)
    assert asked == networks[:2]
    assert [candidate.indices for candidate in ranked] == [networks[k] for k in (1, 0, 2, 3)]
    assert ranked[0].evidence == {"short": 3.0, "long": -3.0}
    assert [candidate.rungs for candidate in ranked] == [2, 2, 1, 1]


def test_a_score_is_the_mean_over_batches_and_initialisations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float, float]] = []  # what sets the batch, the initialisation and the score apart

    def score(fresh: Fresh) -> float:
        weight = next(fresh.network.parameters()).detach()
        seen.append((float(fresh.inputs.sum()), float(weight.sum()), float(len(seen)) ** 2))
        return seen[-1][-1]

    monkeypatch.setattr(PRIORS, "_registered", {"squares": score})
    plan = prepare(tiny_config(tmp_path, *PRIOR, "prior.scores=[squares]", "prior.repeats=3"))
    assert plan.config.prior is not None
    scorer = Scorer(plan, plan.config.prior, Progress([]))
    scorer.add(np.array(plan.problems[0].start()[0].incumbent)[None], most=1)
    batches, weights, _ = zip(*seen, strict=True)
    assert len(set(batches)) == len(set(weights)) == 3
    assert scorer.rows == [{"squares": pytest.approx(5 / 3)}]


@pytest.mark.parametrize(("weight", "best"), [(0.0, 0), (4.0, 1)])
def test_a_prior_counts_beside_the_evidence_by_its_weight(weight: float, best: int) -> None:
    """Evidence is for the first network, the prior's score for the second."""
    space, problem = small_space(), binding_problem(small_space())
    start, generator = problem.start()[0], np.random.default_rng(0)
    networks_Sn = networks_of(space)[:2]
    prior = fit_prior(space, networks_Sn, {"score": np.array([1.0, 2.0])}, weight=weight)
    networks = [tuple(row) for row in networks_Sn.tolist()]
    rungs = (("evidence", dict(zip(networks, (2.0, 1.0), strict=True)).__getitem__),)
    request = Request(problem, start, None, lambda _: Score(0.5, 1.0, 1), 2, (), generator, prior, rungs)
    assert race(request, networks)[0].indices == networks[best]


def test_agreement_is_the_tau_of_each_evidence_with_the_order_of_the_candidates() -> None:
    rows = [(3.0, 2.0, 0.3), (2.0, 1.0, 0.2), (1.0, 3.0, 0.1)]
    found = [
        Candidate((k,), 0.5, Score(accuracy, 1.0, 1), merit=loss, evidence={"prior": prior, "loss": loss})
        for k, (loss, prior, accuracy) in enumerate(rows)
    ]
    assert decided_by(found) == ["prior", "loss"]
    expected = {"validation_accuracy": 1.0, "prior": -1 / 3, "loss": 1.0}
    assert agreement(found) == {name: pytest.approx(tau) for name, tau in expected.items()}
    assert agreement(found[:2]) == {}


def test_training_on_gives_what_training_at_once_does(tmp_path: Path) -> None:
    plan = prepare(tiny_config(tmp_path, *RECIPE))
    network = plan.problems[0].start()[0].incumbent
    halted, whole = (make_part(plan.strategy, "evaluator", plan, None) for _ in range(2))
    assert isinstance(halted, ShortTraining)
    halted.negative_loss(2, network)
    halted.validate(network)
    assert halted.negative_loss(4, network) == whole.negative_loss(4, network)


def test_a_search_by_prior_trains_no_supernet_and_says_what_it_went_by(tmp_path: Path) -> None:
    lines: list[str] = []
    config = tiny_config(tmp_path, *RECIPE, "space.search_width=2")
    result = run(config, lines.append)
    assert result.search.steps == 0
    assert result.search.prior is not None
    assert result.search.prior.networks >= 12
    for device in result.devices.values():
        assert device.met
        assert device.is_proxy
        assert len(device.candidates) <= 4
        assert set(device.candidates[0].evidence) == {"prior", "negative_loss_2", "negative_loss_4"}
        assert device.taken == device.candidates[0]
        assert set(device.decided_by) >= {"prior", "negative_loss_2"}
    assert [check.line for check in verify_run(config.run_folder) if check.outcome == "FAILED"] == []
    again = run(tiny_config(tmp_path / "again", *RECIPE, "space.search_width=2"), lines.append)
    assert [d.notation for d in again.devices.values()] == [d.notation for d in result.devices.values()]


def test_logits_start_from_the_prior(tmp_path: Path) -> None:
    plain = run(tiny_config(tmp_path, *PRIOR, "trainer.candidates=1", "prior.pool_share=1"), lambda line: None)
    started = run(tiny_config(tmp_path, *PRIOR, "trainer.candidates=1", "prior.pool_share=0.1"), lambda line: None)
    assert started.search.entropy is not None
    assert plain.search.entropy is not None
    assert started.search.entropy < plain.search.entropy


def test_an_unknown_score_is_refused_by_name(tmp_path: Path) -> None:
    problems = part_problems(tiny_config(tmp_path, *RECIPE, "prior.scores=[swop]"))
    assert any("swop" in problem for problem in problems)


@pytest.mark.parametrize(("steps", "key"), [("[]", "evaluator.steps"), ("[1]", "evaluator.steps[0]")])
def test_steps_that_mean_nothing_are_refused(tmp_path: Path, steps: str, key: str) -> None:
    (problem,) = part_problems(tiny_config(tmp_path, *RECIPE, f"evaluator.steps={steps}"))
    assert set(keys_of(problem)) == {key}


@pytest.mark.parametrize("parts", [("searcher=prior",), ("searcher=random", "trainer.random_candidates=0")])
def test_a_searcher_without_its_source_is_refused(tmp_path: Path, parts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError):
        prepare(tiny_config(tmp_path, *CELLS, *parts))


def test_a_share_of_no_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        tiny_config(tmp_path, *RECIPE, "prior.pool_share=0")
