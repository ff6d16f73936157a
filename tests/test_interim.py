"""The validation accuracy of an epoch is that of the network which the search would return at its end."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_search import CELL_SPACE, MOBILE_SPACE, tiny_config
from torch import nn

import trainers.search.progress
from search_spaces.space import Supernet
from trainers.deploy.standalone import Score
from trainers.search.candidates import Request, random_candidates
from trainers.search.interim import CANDIDATES, interim_scores
from trainers.search.module import SearchModule
from trainers.search.plan import Plan
from trainers.search.run import run
from trainers.search.searchers import SEARCHERS

BATCH, IMAGES = 16, 32  # of tiny_search
FEW = ("data.limit=120", "trainer.candidates=1")  # those of the end, which come after the last epoch


def score_alone(plan: Plan, supernet: Supernet, indices: tuple[int, ...]) -> Score:
    """The score of a network outside of its supernet, its statistics the average over the same images."""
    data, seed = plan.data, plan.config.seed
    network = supernet.extract(plan.space.choices(indices)).double()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        images, _ = next(data.batches("weights", batch_size=BATCH, seed=seed, epoch=0, augment=True))
        network.train()(images.double())
        network.eval()
        outputs, labels = [], []
        for x, y in data.batches("validation", batch_size=BATCH, seed=seed, epoch=0, augment=False):
            outputs.append(network(x.double()))
            labels.append(y)
            if sum(map(len, labels)) >= IMAGES:
                break
    found, true = torch.cat(outputs), torch.cat(labels)
    right = (found.argmax(1) == true).double().mean()
    return Score(float(right), float(nn.functional.cross_entropy(found, true)), len(true))


@pytest.mark.parametrize("strategy", ["pool", "random", "dual"])
@pytest.mark.parametrize("space", ["mobile", "cells"])
def test_the_figure_of_each_epoch_is_that_of_the_network_returned_then(
    space: str, strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[float] = []

    def recorded(plan: Plan, module: SearchModule) -> list[Score]:
        before = {name: value.clone() for name, value in module.supernet.state_dict().items()}
        supernet, accuracies = copy.deepcopy(module.supernet), []
        searcher = SEARCHERS["random" if strategy == "random" else "differentiable"]()
        for device, problem in enumerate(module.state.problems):

            def evaluate(indices: tuple[int, ...]) -> Score:
                return score_alone(plan, supernet, indices[: plan.table.num_own])

            generator = np.random.default_rng([plan.config.seed, device, module.state.step])
            survivors = module.state.survivors[device]
            randoms: list[Any] = []
            if strategy == "random":
                randoms = random_candidates(
                    problem, survivors, evaluate, num_candidates=CANDIDATES, generator=generator
                )
            request = Request(problem, survivors, module.logits_of(device), evaluate, CANDIDATES, randoms, generator)
            accuracies.append(searcher.search(request)[0].validation.accuracy)
        expected.append(float(np.mean(accuracies)))
        scores = interim_scores(plan, module)
        after = module.supernet.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        return scores

    monkeypatch.setattr(trainers.search.progress, "interim_scores", recorded)
    overrides = MOBILE_SPACE if space == "mobile" else CELL_SPACE
    config = tiny_config(tmp_path, *overrides, "hardware=[mid_tablet]", f"strategy={strategy}", *FEW)
    run(config, lambda line: None)
    lines = (config.run_folder / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("val/acc")
    reported = [float(line.split(",")[column]) for line in lines[1:]]
    assert len(reported) > 1
    assert reported == pytest.approx(expected, abs=1.01 / IMAGES)  # single precision may turn one image
