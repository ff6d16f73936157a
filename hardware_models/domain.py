"""The sizes of input that a profile's error and bound were taken from, and how far its bound is widened beyond them."""

from collections.abc import Iterable, Sequence
from math import prod

from pydantic import model_validator

from hardware_models.schema import NonNegative, Section, Size
from search_spaces.operation import Operation
from search_spaces.space import SearchSpace

# Power of the ratio of pixels that the bound's factor grows with. A roofline fitted to 40 random mobile networks of 128
# to 224 pixels a side held 78 % of 90 others of 16 to 96 within its bound at level 0.9, and 90 % within the bound times
# ratio ** 0.093 (tests/benchmarks/bound_domain.py, onnxruntime on a server's CPU). ncnn's table, where it can be tried
# to ratios of 3.4, asks for less.
GROWTH = 0.1


class Domain(Section):
    """Least and most pixels, height times width, of the inputs of what was measured.

    Where a network's input has `ratio` times fewer or more than any of them, the bound's factor grows by
    ratio ** `growth`.
    """

    pixels: tuple[Size, Size]
    growth: NonNegative = GROWTH

    @model_validator(mode="after")
    def _in_order(self) -> "Domain":
        if self.pixels[0] > self.pixels[1]:
            raise ValueError(f"pixels: got {list(self.pixels)}; the least comes first")
        return self

    def widening(self, pixels: Iterable[int]) -> float:
        """What the bound's factor is multiplied by for networks of inputs of so many pixels; 1 inside."""
        least, most = self.pixels
        ratio = max(max(least / each, each / most) for each in pixels)
        return max(1.0, ratio) ** self.growth


def domain_of(networks: Iterable[Sequence[Operation]]) -> Domain:
    """The domain of a fit to these networks, or to blocks or operations by themselves."""
    pixels = [prod(operations[0].in_shape[1:]) for operations in networks]
    return Domain(pixels=(min(pixels), max(pixels)))


def input_pixels(space: SearchSpace) -> tuple[int, int]:
    """Least and most pixels of an input of the networks of a space, where one decision at a time decides on them."""
    first = {decision.name: decision.choices[0] for decision in space.decisions}
    variants = [first, *({**first, d.name: choice} for d in space.decisions for choice in d.choices[1:])]
    pixels = {prod(spec.shape[1:]) for choices in variants for spec in space.inputs_of(choices).values()}
    return min(pixels), max(pixels)
