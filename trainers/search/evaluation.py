"""What an evaluator offers: the score of a network for the validation split."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from search_spaces.registry import Registry
from search_spaces.space import SearchSpace, Supernet
from trainers.deploy.standalone import Score
from trainers.search.candidates import Rung

if TYPE_CHECKING:
    from trainers.search.plan import Plan

TRAINED = 3.0  # passes forwards that a pass with its gradients takes about as long as


class Evaluator(ABC):
    """Scores networks for the validation split, each by the same protocol.

    `supernet` is trained where the evaluator needs one, else none. Keyword-only arguments are its configuration.
    """

    needs_supernet: ClassVar[bool] = False  # whether its scores are of weights that a trained supernet gives

    def __init__(self, plan: "Plan", supernet: Supernet | None) -> None:
        self.plan, self.supernet = plan, supernet

    @classmethod
    def check(cls, space: SearchSpace, arguments: Mapping[str, Any]) -> None:
        """Raises: InvalidInputError for arguments that cannot be used with a space; before anything is trained."""

    @classmethod
    def passes(cls, plan: "Plan", **arguments: Any) -> float:
        """About how many passes of one image forwards take as long as the score of a network."""
        settings = plan.config.trainer
        return settings.recalibration_images + (settings.validation_images or plan.data.size("validation"))

    @property
    def rungs(self) -> Sequence[Rung]:
        """Evidence of growing cost that decides between networks; without any, validation decides."""
        return ()

    @abstractmethod
    def validate(self, indices: tuple[int, ...]) -> Score:
        """The score of one network of the space, given by the positions (n,) of its choices."""

    def network(self, indices: tuple[int, ...]) -> nn.Module:
        """The network that the search trains, in eval mode: fresh, unless scoring has given it weights."""
        network = fresh_network(self.plan.searched, indices, seed=self.plan.config.seed)
        return network.to(self.plan.device).eval()


def fresh_network(space: SearchSpace, indices: tuple[int, ...], *, seed: int) -> nn.Module:
    """A stand-alone network with the weights that a seed gives; no other random numbers are used up."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = space.network(space.choices(indices))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


EVALUATORS: Registry[type[Evaluator]] = Registry("evaluators")
