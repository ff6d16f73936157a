"""Whether logits rank the networks that the weights were trained on: the evidence that pruning asks for."""

# Shapes: N choices of all decisions.

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from hardware_models.budgets.cost_table import Array
from search_spaces.space import Selection

NEAREST = 3  # draws of a device that each one is compared with: losses fall over training, so near ones compare
LEAST_PAIRS = 16  # that say anything
KEPT = 1024  # draws; older ones were of other weights, and all are in each checkpoint


class DrawnLosses:
    """Training losses of the networks drawn for each device, in their order, one batch each.

    A draw is (device, choices by decision, loss), and costs nothing: the weights were trained on it.
    """

    def __init__(self) -> None:
        self.draws: deque[tuple[int, dict[str, int], float]] = deque(maxlen=KEPT)

    def add(self, device: int, selection: Selection, loss: float) -> None:
        """Adds a network; a mixture of choices is none."""
        choices = {name: value for name, value in selection.items() if not isinstance(value, Tensor)}
        if len(choices) == len(selection):
            self.draws.append((device, choices, loss))

    def agreement(self, utilities: Sequence[Array], places: Mapping[str, int]) -> float | None:
        """Kendall's tau of log-probabilities `utilities` (N,) of each device with losses, less being better.

        Over pairs of draws of a device that are near in time and not weighed alike; `places` are the first choices of
        the decisions that count. None where there are too few such pairs.
        """
        concordant = []
        for device, utilities_N in enumerate(utilities):
            own = [(choices, loss) for of, choices, loss in self.draws if of == device]
            scores = np.array(
                [sum(utilities_N[place + choices[n]] for n, place in places.items()) for choices, _ in own]
            )
            losses = np.array([loss for _, loss in own])
            for lag in range(1, NEAREST + 1):
                concordant.append(np.sign((scores[lag:] - scores[:-lag]) * (losses[:-lag] - losses[lag:])))
        pairs = np.concatenate(concordant)
        pairs = pairs[pairs != 0]
        return float(pairs.mean()) if len(pairs) >= LEAST_PAIRS else None

    def state_dict(self) -> list[Any]:
        return [(device, dict(choices), loss) for device, choices, loss in self.draws]

    def load_state_dict(self, state: Sequence[Any]) -> None:
        self.draws = deque(((device, dict(choices), loss) for device, choices, loss in state), maxlen=KEPT)
