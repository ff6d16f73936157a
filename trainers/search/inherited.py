"""Networks scored with weights inherited from a supernet."""

import torch
from torch import nn

from search_spaces.blocks import recalibrate
from search_spaces.space import Path, Supernet
from trainers.deploy.standalone import Score, first_images, score
from trainers.search.evaluation import Evaluator
from trainers.search.plan import Plan


class Inherited(Evaluator):
    """Each network is validated once, with batch-norm statistics of its own."""

    needs_supernet = True
    supernet: Supernet

    def __init__(self, plan: Plan, supernet: Supernet) -> None:
        super().__init__(plan, supernet)
        self.settings = plan.config.trainer
        self.scores: dict[tuple[int, ...], Score] = {}
        self.statistics = {name: buffer.clone() for name, buffer in supernet.named_buffers()}

    def validate(self, indices: tuple[int, ...]) -> Score:
        own = indices[: self.plan.table.num_own]  # where it runs makes no difference
        if own not in self.scores:
            network = Path(self.supernet, self.plan.space.selection(indices))
            self._recalibrate(network)
            images, batch_size = self.settings.validation_images, self.settings.step_images
            self.scores[own] = score(network, self.plan.data, "validation", images=images, batch_size=batch_size)
        return self.scores[own]

    def network(self, indices: tuple[int, ...]) -> nn.Module:
        network = self.extract(indices)
        self._recalibrate(network)
        return network

    def extract(self, indices: tuple[int, ...]) -> nn.Module:
        """The stand-alone network with inherited weights and the supernet's batch-norm statistics."""
        for name, buffer in self.supernet.named_buffers():
            buffer.copy_(self.statistics[name])
        network = self.supernet.extract(self.plan.space.choices(indices)).eval()
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _recalibrate(self, network: nn.Module) -> None:
        images, batch_size = self.settings.recalibration_images, self.settings.step_images
        seed = self.plan.config.seed
        batches = self.plan.data.batches("weights", batch_size=batch_size, seed=seed, epoch=0, augment=True)
        recalibrate(network, (x.to(self.plan.device) for x, _ in first_images(batches, images)))
