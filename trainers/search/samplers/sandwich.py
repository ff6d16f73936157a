"""Weight paths from the largest network to the smallest, the largest teaching the others."""

# Shapes: n decisions.

from typing import Annotated, ClassVar

from pydantic import Field

from search_spaces.space import Selection
from trainers.search.constraints.constraint import Constraint
from trainers.search.relaxations.relaxation import Relaxation
from trainers.search.samplers.sampler import PathSampler, extreme_path


class Sandwich(PathSampler):
    """An update of the largest network of active choices, the smallest, and `drawn` networks of the constraint.

    The largest learns the labels, the others its outputs. Source: sandwich rule and in-place distillation,
    Universally Slimmable Networks, arXiv:1903.05134; two networks between as in BigNAS, arXiv:2003.11142.
    """

    distils: ClassVar[bool] = True

    def __init__(
        self, constraint: Constraint, *, warmup_steps: int, drawn: Annotated[int, Field(ge=0, le=64)] = 2
    ) -> None:
        super().__init__(constraint, warmup_steps=warmup_steps)
        self.drawn = drawn

    def path(self, step: int, device: int) -> tuple[int, ...]:
        return self.constraint.draw(device)

    def selections(self, relaxation: Relaxation, step: int, device: int) -> list[Selection]:
        rules, mask_N = self.constraint.table.rules, self.constraint.search.survivors[device].mask_N
        paths = [extreme_path(rules, mask_N), extreme_path(rules, mask_N, smallest=True)]
        paths += [self.path(step, device) for _ in range(self.drawn)]
        return [self.constraint.table.space.selection(path) for path in paths]
