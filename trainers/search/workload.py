"""How much each phase of a search has to do, and about how long its units take beside one another."""

from collections.abc import Callable
from functools import partial
from typing import Any

from trainers.search.candidates import Evaluate, Rung
from trainers.search.evaluation import EVALUATORS, TRAINED, Evaluator
from trainers.search.phases import ADAPTING, CERTIFYING, CHOOSING, SCORING, TRAINING, Phase, Progress
from trainers.search.plan import Plan
from trainers.search.searchers import SEARCHERS
from trainers.search.strategy import needs_supernet

OVERHEAD = 16  # images: what a pass costs beside those of its batch
MIXED = 3.5  # passes of one network that a pass of the logits costs
TESTS = 3  # of each network: as trained, as exported, and before that with inherited weights


def phases_of(plan: Plan) -> list[Phase]:
    """The phases of a search, in order, without those that have nothing to do."""
    config, settings, num_devices = plan.config, plan.config.trainer, len(plan.problems)
    searcher, section = SEARCHERS[plan.strategy["searcher"]["name"]], plan.strategy["evaluator"]
    evaluator = EVALUATORS[section["name"]]
    arguments = {key: value for key, value in section.items() if key != "name"}
    prior, batch = config.prior, TRAINED * (settings.batch_size + OVERHEAD)
    phases = []
    if prior is not None:
        networks = prior.networks + 2 * prior.rounds * prior.networks_per_round * num_devices
        looks = prior.repeats * len(prior.scores)
        phases.append(Phase(SCORING, "networks", networks, TRAINED * prior.batch_size * looks))
    if config.parent is None and needs_supernet(plan.strategy):
        updates = 1 + (MIXED / settings.arch_every if searcher.trains_logits else 0)
        phases.append(Phase(TRAINING, "steps", settings.steps, batch * updates))
    candidates = 0 if searcher.needs_random else settings.candidates
    candidates += settings.candidates if settings.random_candidates is None else settings.random_candidates
    phases.append(Phase(CHOOSING, "networks", candidates * num_devices, evaluator.passes(plan, **arguments)))
    larger = _growth(plan)
    phases.append(Phase(ADAPTING, "steps", adapting_steps(plan) * num_devices, TRAINED * settings.step_images * larger))
    phases.append(Phase(CERTIFYING, "networks", num_devices, TESTS * plan.data.size("test") * larger))
    return [phase for phase in phases if phase.total]


def counted_evidence(evaluator: Evaluator, num_own: int, progress: Progress) -> tuple[Evaluate, list[Rung]]:
    """The evaluator's validation and its rungs; the first of them that looks at a network advances the progress."""
    known: set[tuple[int, ...]] = set()

    def counted(weigh: Callable[[tuple[int, ...]], Any], indices: tuple[int, ...]) -> Any:
        found = weigh(indices)
        if indices[:num_own] not in known:  # where it runs makes no difference
            known.add(indices[:num_own])
            progress.advance()
        return found

    return partial(counted, evaluator.validate), [(name, partial(counted, weigh)) for name, weigh in evaluator.rungs]


def adapting_steps(plan: Plan) -> int:
    """Of each network that is found, once it is."""
    return plan.config.trainer.steps if trains_from_scratch(plan) else plan.config.trainer.finetune_steps


def trains_from_scratch(plan: Plan) -> bool:
    """Whether the networks that are found have no weights of a supernet to start from."""
    return not EVALUATORS[plan.strategy["evaluator"]["name"]].needs_supernet or plan.searched is not plan.space


def _growth(plan: Plan) -> float:
    """How many times as many pixels an image has where networks are deployed as where they are searched for."""
    if not plan.config.trainer.deploy:
        return 1.0
    (height, width), (_, deployed_height, deployed_width) = plan.data.image_size, plan.space.deploy_shape
    return deployed_height * deployed_width / (height * width)
