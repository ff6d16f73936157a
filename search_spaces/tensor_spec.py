"""A network's inputs by name: images, feature maps of sound, series of sensors, tokens."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.errors import InvalidInputError


@dataclass(frozen=True)
class TensorSpec:
    """One input of a network without its batch dimension; `num_values` is that of whole numbers, which tokens are."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    num_values: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise InvalidInputError(f"dtype: got {self.dtype!r}; allowed: a type of torch, as float32 or int64")
        if not getattr(torch, self.dtype).is_floating_point and self.num_values is None:
            raise InvalidInputError(f"num_values: missing; an input of {self.dtype} needs the number of its values")

    def zeros(self, batch: int = 1) -> Tensor:
        return torch.zeros(batch, *self.shape, dtype=getattr(torch, self.dtype))

    def random(self, batch: int, generator: torch.Generator) -> Tensor:
        """Standard normal numbers, or whole ones from 0 to below `num_values`."""
        if self.num_values is None:
            return torch.randn(batch, *self.shape, generator=generator).to(getattr(torch, self.dtype))
        values = torch.randint(self.num_values, (batch, *self.shape), generator=generator)
        return values.to(getattr(torch, self.dtype))


# What a network takes: its specs by name, or the shape of its one input of float32.
Inputs = Mapping[str, TensorSpec] | tuple[int, ...]


def specs_of(inputs: Inputs) -> tuple[TensorSpec, ...]:
    """In the order that a network takes them."""
    return tuple(inputs.values()) if isinstance(inputs, Mapping) else (TensorSpec(inputs),)


def zero_inputs(inputs: Inputs, batch: int = 1) -> tuple[Tensor, ...]:
    return tuple(spec.zeros(batch) for spec in specs_of(inputs))


def random_inputs(inputs: Inputs, batch: int = 1, *, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(spec.random(batch, generator) for spec in specs_of(inputs))
