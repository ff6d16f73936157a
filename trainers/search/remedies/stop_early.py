"""Logits that stop before they collapse."""

# Shapes: N choices of all decisions.

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from search_spaces.space import Selection
from trainers.search.relaxations.relaxation import Batch, Searched
from trainers.search.remedies.remedy import Remedy
from trainers.search.remedies.skip_limit import skips_of

ITERATIONS = 10  # products of the second derivative and a vector
NEGLIGIBLE = 1e-4  # share below which a product is rounding
NUDGE = 1e-2  # of finite differences of the gradient of the logits


class StopEarly(Remedy):
    """Keeps the logits as they are from the first warning on; weights are trained on.

    By `curvature`: when the largest eigenvalue of the second derivative of the loss in the logits, measured every
    `every` steps, has risen so far that the value `window` measurements ago over the present one is below `ratio`; the
    logits of then come back (RobustDARTS, arXiv:1909.09656, 5 epochs and 0.75). By `skips`: when a device's network of
    the largest logits has `skips` of them (DARTS+, arXiv:1909.06035, two).
    """

    needs_edges = True

    def __init__(
        self,
        searched: Searched,
        *,
        by: Literal["curvature", "skips"] = "curvature",
        every: Annotated[int, Field(ge=1)] = 20,
        window: Annotated[int, Field(ge=1)] = 5,
        ratio: Annotated[float, Field(gt=0, le=1)] = 0.75,
        skips: Annotated[int, Field(ge=1)] = 2,
    ) -> None:
        super().__init__(searched)
        self.by, self.every, self.window, self.ratio, self.skips = by, every, window, ratio, skips
        self.curvatures: list[float] = []
        self.logits: list[dict[str, Tensor]] = []  # of as many measurements as the window has
        self.stopped = False

    @property
    def stops_architecture(self) -> bool:
        return self.stopped

    def on_weights_gradient(
        self, weights_batch: Batch, architecture_batch: Batch, selections: Sequence[Selection]
    ) -> None:
        state = self.searched.state
        if self.stopped or state.step % self.every:
            return
        if self.by == "skips":
            most = max(len(skips_of(self.searched, device)) for device in range(len(state.problems)))
            moved = any(bool(parameter.detach().any()) for parameter in self.searched.logits.parameters())
            self.stopped = moved and most >= self.skips
        else:
            self.note(
                largest_curvature(self.searched, state.step // self.every % len(state.problems), architecture_batch)
            )

    def note(self, curvature: float) -> None:
        """Takes one measurement, and stops where it has risen too far."""
        logits = self.searched.logits
        self.curvatures.append(curvature)
        self.logits = [*self.logits, {k: v.clone() for k, v in logits.state_dict().items()}][-self.window - 1 :]
        if len(self.curvatures) > self.window and self.curvatures[-1 - self.window] < self.ratio * curvature:
            self.stopped = True
            logits.load_state_dict(self.logits[0])

    def state_dict(self) -> dict[str, Any]:
        return {"curvatures": self.curvatures, "logits": self.logits, "stopped": self.stopped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.curvatures, self.logits = list(state["curvatures"]), list(state["logits"])
        self.stopped = bool(state["stopped"])


def largest_curvature(searched: Searched, device: int, batch: Batch) -> float:
    """Largest eigenvalue of the second derivative of a batch's loss in the logits of one device, at the mixture.

    Lanczos method on finite differences of the gradient; decisions that cannot be mixed stay as the incumbent has them.
    """
    centre_N = searched.logits(device).detach()
    path = searched.state.survivors[device].incumbent

    def gradient(logits_N: Tensor) -> Tensor:
        at_N = logits_N.clone().requires_grad_()
        selection = searched.selection(searched.constraint.softmax(device, at_N), path)
        loss = searched.task.loss(searched.supernet(batch[0], selection), batch[1])
        (slope_N,) = searched.ranks.average(torch.autograd.grad(loss, at_N))
        assert slope_N is not None
        return slope_N

    # Lanczos with full orthogonalisation; constant over a decision nothing curves, so the start is not.
    basis_KN = [torch.cos(2.0 * torch.arange(len(centre_N))) / len(centre_N) ** 0.5]
    diagonal, beside = [], []
    with searched.frozen_weights():
        for _ in range(ITERATIONS):
            vector_N = basis_KN[-1] / basis_KN[-1].norm()
            basis_KN[-1] = vector_N
            product_N = (gradient(centre_N + NUDGE * vector_N) - gradient(centre_N - NUDGE * vector_N)) / (2 * NUDGE)
            diagonal.append(float(vector_N @ product_N))
            for known_N in basis_KN:
                product_N = product_N - (known_N @ product_N) * known_N
            beside.append(float(product_N.norm()))
            if beside[-1] <= NEGLIGIBLE * max(map(abs, diagonal)):
                break
            basis_KN.append(product_N)
    tridiagonal = np.diag(diagonal) + np.diag(beside[: len(diagonal) - 1], 1) + np.diag(beside[: len(diagonal) - 1], -1)
    return float(np.linalg.eigvalsh(tridiagonal)[-1])
