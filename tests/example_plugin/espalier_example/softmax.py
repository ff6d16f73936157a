"""A relaxation: the mixture of all choices at their probabilities, as first-order DARTS has it (arXiv:1806.09055)."""

from torch import Tensor

from trainers.search.relaxations.relaxation import RELAXATIONS, Relaxation, Update


@RELAXATIONS.register("softmax")
class Softmax(Relaxation):
    def loss(self, update: Update) -> tuple[Tensor, Tensor]:
        searched, device = self.searched, update.device
        inputs, targets = update.architecture_batch
        searched.constraint.draw(device)  # it may renew what the probabilities come from
        probabilities = searched.constraint.probabilities(device)
        with update.timed():
            outputs = searched.supernet(inputs, searched.selection(probabilities))
            loss = searched.task.loss(outputs, targets)
            update.check(loss)
        return loss, probabilities
