"""Ridge regression: a score of some networks carried to all of them, with how well it ranks those it has not seen."""

# Shapes: S networks, F features, X other networks.

from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

from hardware_models.budgets.cost_table import Array

STRENGTH = 3.0  # of the penalty, on standardised features


@dataclass(frozen=True)
class Ridge:
    """A linear model of standardised features. `tau` is Kendall's between each score and its leave-one-out prediction.

    `tau` is 0 where all scores are alike.
    """

    mean_F: Array
    scale_F: Array
    weights_F: Array
    offset: float
    tau: float

    def predict(self, features_XF: Array) -> Array:
        """Scores (X,) of networks by their features."""
        predicted: Array = (features_XF - self.mean_F) / self.scale_F @ self.weights_F + self.offset
        return predicted


def fit_ridge(features_SF: Array, scores_S: Array, *, strength: float = STRENGTH) -> Ridge:
    """The model of these networks' scores. A feature that is the same in all of them has no say."""
    mean_F, scale_F = features_SF.mean(axis=0), features_SF.std(axis=0)
    scale_F = np.where(scale_F > 0, scale_F, np.inf)
    z_SF, offset = (features_SF - mean_F) / scale_F, float(scores_S.mean())
    inverse_FF = np.linalg.inv(z_SF.T @ z_SF + strength * np.eye(z_SF.shape[1]))
    weights_F = inverse_FF @ z_SF.T @ (scores_S - offset)
    leverage_S = np.einsum("sf,fg,sg->s", z_SF, inverse_FF, z_SF) + 1 / len(scores_S)
    residual_S = scores_S - offset - z_SF @ weights_F
    left_out_S = scores_S - residual_S / np.maximum(1 - leverage_S, 1e-9)
    tau = kendalltau(scores_S, left_out_S).statistic
    return Ridge(mean_F, scale_F, weights_F, offset, 0.0 if np.isnan(tau) else float(tau))
