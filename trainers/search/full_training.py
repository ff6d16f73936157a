"""Networks compared after the whole training that a derived network gets."""

from typing import Any

from trainers.deploy.standalone import Score, score
from trainers.search.deployment import train_network
from trainers.search.evaluation import TRAINED, Evaluator
from trainers.search.plan import Plan


class FullTraining(Evaluator):
    """Each network is trained from scratch for all `trainer.steps`, at the image size of the search, and validated."""

    def __init__(self, plan: Plan, supernet: None) -> None:
        super().__init__(plan, supernet)
        self.scores: dict[tuple[int, ...], Score] = {}

    @classmethod
    def passes(cls, plan: Plan, **arguments: Any) -> float:
        settings = plan.config.trainer
        return super().passes(plan) + TRAINED * settings.step_images * settings.steps

    def validate(self, indices: tuple[int, ...]) -> Score:
        own = indices[: self.plan.table.num_own]  # where it runs makes no difference
        if own not in self.scores:
            settings, network = self.plan.config.trainer, self.network(indices)
            train_network(self.plan, network, self.plan.data, from_scratch=True)
            images, batch_size = settings.validation_images, settings.step_images
            self.scores[own] = score(network, self.plan.data, "validation", images=images, batch_size=batch_size)
        return self.scores[own]
