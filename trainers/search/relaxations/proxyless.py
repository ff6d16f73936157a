"""Two paths and binary gates: of each decision one choice runs, and one other is compared with it."""

# Shapes: n decisions, N choices of all decisions.

from itertools import pairwise

import torch
from torch import Tensor

from trainers.search.relaxations.relaxation import Relaxation, Update


class Proxyless(Relaxation):
    """Forward a drawn network; backward the gates of two choices of each decision, their probabilities made one.

    The drawn network is the constraint's, so that it is within budget; its rival of each decision is drawn from the
    other choices. Other choices neither run nor move. Source: ProxylessNAS, arXiv:1812.00332, section 3.2.1.
    """

    mixes = False

    def weights(self, device: int, path: tuple[int, ...], p_N: Tensor) -> Tensor:
        return self._gates(device, path, self._rivals(path, p_N), p_N)

    def loss(self, update: Update) -> tuple[Tensor, Tensor]:
        searched, device = self.searched, update.device
        path = searched.constraint.draw(device)
        p_N = searched.constraint.probabilities(device)
        rivals = self._rivals(path, p_N)
        weights_N, before = self._gates(device, path, rivals, p_N), dict(searched.supernet.active)
        names = [decision.name for decision in searched.state.table.space.decisions]
        searched.supernet.restrict({n: sorted({k, r}) for n, k, r in zip(names, path, rivals, strict=True)})
        try:
            loss = self.batch_loss(update, self.batch(update), weights_N, path)
        finally:
            searched.supernet.restrict(before)
        return loss + self._hard_decisions_term(device, float(loss.detach()), p_N, path), p_N

    def _rivals(self, path: tuple[int, ...], p_N: Tensor) -> tuple[int, ...]:
        """Of each decision another choice (n,), drawn by the probabilities; the same one where there is no other."""
        rivals = []
        for choice, (a, b) in zip(path, pairwise(self.searched.state.table.first_choice), strict=True):
            p_C = p_N[a:b].detach().double().numpy().copy()
            p_C[choice] = 0.0
            total = p_C.sum()
            rivals.append(int(self.searched.constraint.generator.choice(b - a, p=p_C / total)) if total > 0 else choice)
        return tuple(rivals)

    def _gates(self, device: int, path: tuple[int, ...], rivals: tuple[int, ...], p_N: Tensor) -> Tensor:
        searched = self.searched
        pair_N = searched.one_hot(path).bool() | searched.one_hot(rivals).bool()
        logs_N = searched.log_probabilities(device, p_N).masked_fill(~pair_N, -torch.inf)
        soft_N = searched.softmax(logs_N)
        return searched.one_hot(path) + soft_N - soft_N.detach()
