"""Networks compared by how fast they learn, each trained alone for some steps on the same batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice, pairwise
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from search_spaces.space import Supernet
from trainers.deploy.optimizers import make_optimizer, make_schedule
from trainers.deploy.standalone import Score, descend, score
from trainers.search.candidates import Rung
from trainers.search.evaluation import TRAINED, Evaluator
from trainers.search.plan import Plan

LAST_SHARE = 0.5  # of the steps, whose losses count


@dataclass
class Training:
    """A network under way: what gives the loss of each further step, and its validation score after some of them."""

    network: nn.Module
    steps: Iterator[float]
    losses: list[float] = field(default_factory=list)
    scores: dict[int, Score] = field(default_factory=dict)


class ShortTraining(Evaluator):
    """Less training loss is better: the mean over the last half of so many steps, and of more for those that go on.

    Within a few epochs it ranks better than the validation accuracy. Source: TSE-E, arXiv:2006.04492.
    """

    def __init__(
        self,
        plan: Plan,
        supernet: Supernet | None,
        *,
        steps: Annotated[list[Annotated[int, Field(ge=2, le=1_000_000)]], Field(min_length=1)],
    ) -> None:
        super().__init__(plan, supernet)
        self.steps = sorted(set(steps))
        self.trainings: dict[tuple[int, ...], Training] = {}

    @classmethod
    def passes(cls, plan: Plan, **arguments: Any) -> float:
        """Half of the networks go on to each further rung."""
        rungs = [0, *sorted(set(arguments["steps"]))]
        mean_steps = sum((after - before) / 2**rung for rung, (before, after) in enumerate(pairwise(rungs)))
        return super().passes(plan) + TRAINED * plan.config.trainer.step_images * mean_steps

    @property
    def rungs(self) -> Sequence[Rung]:
        return [(f"negative_loss_{steps}", partial(self.negative_loss, steps)) for steps in self.steps]

    def negative_loss(self, steps: int, indices: tuple[int, ...]) -> float:
        """Mean training loss over the last half of the first `steps` steps, times -1, in nats."""
        training = self._training(indices)
        training.losses += islice(training.steps, max(0, steps - len(training.losses)))
        counted = training.losses[round(steps * (1 - LAST_SHARE)) : steps]
        return -sum(counted) / len(counted)

    def validate(self, indices: tuple[int, ...]) -> Score:
        settings, network, training = self.plan.config.trainer, self.network(indices), self._training(indices)
        steps = len(training.losses)
        if steps not in training.scores:
            images, batch_size = settings.validation_images, settings.step_images
            training.scores[steps] = score(network, self.plan.data, "validation", images=images, batch_size=batch_size)
        return training.scores[steps]

    def network(self, indices: tuple[int, ...]) -> nn.Module:
        """The network in eval mode, after the steps that it has been compared by."""
        self.negative_loss(self.steps[0], indices)
        return self._training(indices).network.eval()

    def _training(self, indices: tuple[int, ...]) -> Training:
        own = indices[: self.plan.table.num_own]  # where it runs makes no difference
        if own not in self.trainings:
            network = super().network(indices)
            self.trainings[own] = Training(network, self._steps(network))
        return self.trainings[own]

    def _steps(self, network: nn.Module) -> Iterator[float]:
        config = self.plan.config
        optimizer = make_optimizer(config.optimizer, "optimizer")(network.parameters())
        schedule = make_schedule(config.schedule, steps=self.steps[-1])(optimizer)
        return descend(network, self._losses(network), optimizer, schedule, clip_norm=config.trainer.clip_norm)

    def _losses(self, network: nn.Module) -> Iterator[Tensor]:
        config, data = self.plan.config, self.plan.data
        for epoch in count():
            batches = data.batches(
                "weights", batch_size=config.trainer.step_images, seed=config.seed, epoch=epoch, augment=True
            )
            for x, y in batches:
                network.train()
                yield data.task.loss(network(x.to(self.plan.device)), y.to(self.plan.device))
