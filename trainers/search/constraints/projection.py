"""The nearest distribution whose expected costs are within budget."""

# Shapes: N choices of all decisions, K budgets.

from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from hardware_models.budgets.cost_table import Array
from trainers.search.constraints.constraint import Constraint
from trainers.search.constraints.penalty import expected_shares
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import SearchState

SWEEPS = 3  # of linearised costs; after them the expected cost is within a few thousandths of the budget
DAMPING = 0.5  # of the point that costs are linearised at
LARGEST_MULTIPLIER = 1e3  # where no expectation is within budget
RIDGE = 1e-9  # on the covariance of budgets that count nearly the same


class Projection(Constraint):
    """Independent decisions: the least change of the softmax (in KL) whose expected costs meet every budget.

    It is exp(logits - sum of multipliers times marginal costs); the multipliers solve a convex dual at costs that are
    linearised anew in each sweep. Gradients go through the multipliers too, by the implicit function theorem.
    """

    def __init__(self, state: SearchState, logits: ArchitectureParameters, generator: np.random.Generator) -> None:
        super().__init__(state, logits, generator)
        self._solved: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}  # a function of the logits alone

    def probabilities(self, device: int) -> Tensor:
        logits_N = self.logits(device).double()
        slopes_KN, multipliers_K = self._solve(device, logits_N.detach())
        tilted_N = logits_N - multipliers_K @ slopes_KN
        binding = multipliers_K > 0
        if torch.is_grad_enabled() and binding.any():
            tilted_N = tilted_N - self._newton_step(device, tilted_N, slopes_KN[binding]) @ slopes_KN[binding]
        return self.softmax(device, tilted_N).to(self.logits.shared.dtype)

    def _newton_step(self, device: int, tilted_N: Tensor, slopes_KN: Tensor) -> Tensor:
        """Zero, and its gradient is that of the multipliers: how they keep the linearised costs where they are."""
        p_N = self.softmax(device, tilted_N)
        costs_K = slopes_KN @ p_N
        fixed_N = p_N.detach()
        moved_KN = torch.stack([self._centred(fixed_N, slope_N) for slope_N in slopes_KN])
        covariance_KK = moved_KN @ (fixed_N[:, None] * slopes_KN.T)
        ridge = RIDGE * covariance_KK.diagonal().mean().clamp(min=1e-30)
        covariance_KK = covariance_KK + ridge * torch.eye(len(slopes_KN), dtype=torch.float64)
        return torch.linalg.solve(covariance_KK, costs_K - costs_K.detach())

    def _centred(self, p_N: Tensor, slope_N: Tensor) -> Tensor:
        """Each slope less the mean of its decision."""
        blocks = pairwise(self.table.first_choice)
        return torch.cat([slope_N[a:b] - p_N[a:b] @ slope_N[a:b] for a, b in blocks])

    def _solve(self, device: int, logits_N: Tensor) -> tuple[Tensor, Tensor]:
        """Marginal costs as shares of the budgets (K, N), and multipliers (K,); kept until logits or choices change."""
        mask_N = torch.from_numpy(self.search.survivors[device].mask_N)
        known = self._solved.get(device)
        if known is not None and torch.equal(known[0], logits_N) and torch.equal(known[1], mask_N):
            return known[2], known[3]
        point_N = self.softmax(device, logits_N)
        for _ in range(SWEEPS):
            at_N = point_N.clone().requires_grad_()
            with torch.enable_grad():
                shares_K = expected_shares(self.search, device, at_N)
                slopes_KN = torch.stack([torch.autograd.grad(s, at_N, retain_graph=True)[0] for s in shares_K])
            # Linearised: shares at q are shares_K + slopes (q - point).
            bounds_K = 1 - shares_K.detach() + slopes_KN @ point_N
            multipliers_K = self._multipliers(device, logits_N, slopes_KN, bounds_K)
            projected_N = self.softmax(device, logits_N - multipliers_K @ slopes_KN)
            point_N = DAMPING * point_N + (1 - DAMPING) * projected_N
        self._solved[device] = (logits_N.clone(), mask_N.clone(), slopes_KN, multipliers_K)
        return slopes_KN, multipliers_K

    def _multipliers(self, device: int, logits_N: Tensor, slopes_KN: Tensor, bounds_K: Tensor) -> Tensor:
        """Minimum of the convex dual: sum over decisions of logsumexp(logits - m slopes) + m bounds, for m >= 0."""

        def dual(multipliers: Array) -> tuple[float, Array]:
            m_K = torch.from_numpy(multipliers)
            tilted_N = logits_N - m_K @ slopes_KN
            value = self.log_normaliser(device, tilted_N) + m_K @ bounds_K
            slope_K = bounds_K - slopes_KN @ self.softmax(device, tilted_N)
            return float(value), slope_K.numpy()

        start = np.zeros(len(bounds_K))
        limits = [(0.0, LARGEST_MULTIPLIER)] * len(bounds_K)
        found = minimize(dual, start, jac=True, method="L-BFGS-B", bounds=limits, options={"ftol": 1e-14, "gtol": 1e-9})
        return torch.from_numpy(np.asarray(found.x, dtype=np.float64))
