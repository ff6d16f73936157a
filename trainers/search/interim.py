"""What a search would return if it ended now: the figure of its epoch lines, its loggers and a study's pruner."""

import numpy as np

from trainers.deploy.standalone import Score
from trainers.search.candidates import Request, random_candidates
from trainers.search.evaluation import EVALUATORS
from trainers.search.module import SearchModule
from trainers.search.plan import Plan
from trainers.search.searchers import Searcher
from trainers.search.strategy import make_part

CANDIDATES = 2  # of each device, in an epoch
INHERITED = {"evaluator": {"name": "inherited"}}  # while a supernet trains, where its networks are compared otherwise
MOST_IMAGES = {"validation_images": 128, "recalibration_images": 64}  # of each; the end of a search takes more


def interim_scores(plan: Plan, module: SearchModule) -> list[Score]:
    """The validation score of each device's network as it would be chosen now, by the search's own parts.

    It is the best of a few candidates that the searcher proposes, scored by the evaluator on fewer images than at the
    end. A function of the seed and the step; the supernet is left as it was.
    """
    supernet, was_training = module.supernet, module.supernet.training
    kept = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    parts = plan.strategy if EVALUATORS[plan.strategy["evaluator"]["name"]].needs_supernet else INHERITED
    evaluate = make_part(parts, "evaluator", plan.shortened(MOST_IMAGES), supernet).validate
    searcher: Searcher = make_part(plan.strategy, "searcher")
    scores = []
    for device, (problem, survivors) in enumerate(zip(module.state.problems, module.state.survivors, strict=True)):
        generator, randoms = np.random.default_rng([plan.config.seed, device, module.state.step]), []
        if searcher.needs_random:  # which proposes them, and no others
            randoms = random_candidates(problem, survivors, evaluate, num_candidates=CANDIDATES, generator=generator)
        request = Request(
            problem,
            survivors,
            module.logits_of(device),
            evaluate,
            num_candidates=CANDIDATES,
            random_candidates=randoms,
            generator=generator,
        )
        scores.append(searcher.search(request)[0].validation)
    for name, buffer in supernet.named_buffers():
        buffer.copy_(kept[name])
    supernet.train(was_training)
    return scores
