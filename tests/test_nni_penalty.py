"""nni's hardware penalty: a search by it does not see the budget, and the mended one does."""

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from tests.benchmarks.nni_baselines import mended_penalty, price_penalty, quiet_nni

PRICES_MS = {"none": 0.0, "skip_connect": 0.25, "conv_1x1": 1.0, "conv_3x3": 2.0, "avg_pool_3x3": 0.5}  # mean 0.75
BUDGET_MS = 0.5


@pytest.mark.parametrize(
    ("penalty", "due"), [(nullcontext(), None), (mended_penalty(), torch.tensor([-0.3, -0.2, 0.1, 0.5, -0.1]))]
)
def test_only_the_mended_penalty_has_a_gradient(
    penalty: AbstractContextManager[None], due: torch.Tensor | None
) -> None:
    """Of expected latency over budget, five choices of equal weights: a fifth of price less mean price, over budget."""
    with quiet_nni():
        from nni.nas.hub.pytorch import NasBench201
        from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedLayer
        from nni.nas.strategy import DARTS

        space = NasBench201(4, 1)
        penalise = price_penalty(space, dict.fromkeys(space.simplify(), PRICES_MS), budget_ms=BUDGET_MS)
        layers = [m for m in DARTS().mutate_model(space).modules() if isinstance(m, DifferentiableMixedLayer)]
    by_label = {layer.label: layer for layer in layers}
    assert len(by_label) == 6
    for layer in by_label.values():
        layer._arch_alpha.data.zero_()
    loss = torch.zeros((), requires_grad=True)
    with penalty:
        probabilities = {label: layer.export_probs({})[label] for label, layer in by_label.items()}
        penalised, _ = penalise(loss, probabilities)
    assert float(penalised.detach()) == pytest.approx(6 * 0.75 / BUDGET_MS - 1)
    penalised.backward()
    for layer in by_label.values():
        if due is None:
            assert layer._arch_alpha.grad is None
        else:
            torch.testing.assert_close(layer._arch_alpha.grad, due)
