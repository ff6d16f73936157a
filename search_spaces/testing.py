"""What every space keeps, as tests that it inherits:

    class TestMine(SpaceContracts):
        space = MySpace.small()

`hardware_models.testing.CostContracts` has those about its costs.
"""

# Shapes: S networks, n decisions.

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.operation import parse_operation
from search_spaces.rules import Indices
from search_spaces.space import SearchSpace, Selection, Supernet
from search_spaces.tensor_spec import random_inputs

BATCH = 2


@contextmanager
def double_precision() -> Iterator[None]:
    """New modules and numbers are double: what differs then is no rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def one_hot(space: SearchSpace, indices: Any, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """The selection of one network as weight vectors."""
    return {
        d.name: F.one_hot(torch.tensor(int(k)), len(d.choices)).to(dtype)
        for d, k in zip(space.decisions, indices, strict=True)
    }


class SpaceContracts:
    """Set `space` to a small version. `num_networks` are drawn uniformly for each contract, `tolerance` is relative."""

    space: SearchSpace
    num_networks = 12
    tolerance = 1e-5

    def networks(self, size: int | None = None, *, seed: int = 0) -> Indices:
        """Networks (S, n), drawn uniformly from those that obey the space's rules."""
        return self.space.rule_matrix.sample(size or self.num_networks, np.random.default_rng(seed))

    def inputs(self, *, batch: int = BATCH, seed: int = 1) -> tuple[Tensor, ...]:
        """Random inputs at the deployed shape, in double precision."""
        tensors = random_inputs(self.space.inputs, batch, seed=seed)
        return tuple(x.double() if x.is_floating_point() else x for x in tensors)

    def run(self, supernet: Supernet, inputs: tuple[Tensor, ...], selection: Selection) -> Tensor:
        return supernet(inputs[0] if len(inputs) == 1 else inputs, selection)

    def trained(self) -> Supernet:
        """A supernet in eval mode with statistics of its own activations, and scales and shifts that hide no block."""
        torch.manual_seed(0)
        supernet = self.space.supernet().double()
        for norm in (m for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.data.uniform_(0.7, 1.3)
            norm.bias.data.uniform_(-0.2, 0.2)
            norm.momentum = 0.5
        with torch.no_grad():
            for place, indices in enumerate(self.networks(8, seed=2)):
                self.run(supernet, self.inputs(batch=8, seed=place), self.space.selection(indices))
        return supernet.eval()

    def assert_same(self, actual: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(actual, expected, rtol=0, atol=self.tolerance * float(expected.abs().max()))

    @torch.no_grad()
    def test_supernet_at_one_network_computes_what_the_extracted_network_does(self) -> None:
        with double_precision():
            supernet, inputs, generator = self.trained(), self.inputs(), np.random.default_rng(3)
            for indices in self.networks():
                expected = supernet.extract(self.space.choices(indices)).eval()(*inputs)
                hard, vectors = self.space.selection(indices), one_hot(self.space, indices)
                some: Selection = {n: vectors[n] if generator.random() < 0.5 else hard[n] for n in hard}
                for selection in (hard, vectors, some):
                    self.assert_same(self.run(supernet, inputs, selection), expected)

    @torch.no_grad()
    def test_restricted_supernet_computes_what_the_whole_one_does(self) -> None:
        with double_precision():
            supernet, inputs, generator = self.trained(), self.inputs(), np.random.default_rng(4)
            for indices in self.networks(8):
                expected = self.run(supernet, inputs, self.space.selection(indices))
                kept = {
                    d.name: sorted({int(k), *np.flatnonzero(generator.random(len(d.choices)) < 0.3).tolist()})
                    for d, k in zip(self.space.decisions, indices, strict=True)
                }
                supernet.restrict(kept)
                self.assert_same(self.run(supernet, inputs, one_hot(self.space, indices)), expected)

    def test_extracted_network_has_no_idle_weight(self) -> None:
        with double_precision():
            supernet, inputs = self.trained(), self.inputs()
            for indices in self.networks(4):
                network = supernet.extract(self.space.choices(indices)).eval()
                output = network(*inputs)
                trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
                if trained:  # a constant network may have none
                    gradients = torch.autograd.grad(output.square().sum(), list(trained.values()), allow_unused=True)
                    idle = [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]
                    assert idle == [], f"no input reaches these weights of {self.space.choices(indices)}"

    @torch.no_grad()
    def test_every_choice_changes_the_function_or_the_cost(self) -> None:
        """Of a network at least: the choices of a block that is left out change nothing.

        Choices that no network takes, as the rules forbid them, are no choices.
        """
        rules = self.space.rule_matrix
        taken_N = rules.reduced(np.ones(self.space.num_choices, dtype=bool))
        with double_precision():
            supernet, inputs, networks_Sn = self.trained(), self.inputs(), self.networks(200)
            idle = [
                f"{decision.name}: {decision.choices[k]!r} and {decision.choices[k + 1]!r}"
                for place, decision in enumerate(self.space.decisions)
                for k in range(len(decision.choices) - 1)
                if taken_N[rules.block(place)][k : k + 2].all()
                and not any(self._differ(supernet, inputs, row, place, k) for row in networks_Sn)
            ]
            assert idle == [], "these choices change neither what a network computes nor what it costs"

    def _differ(self, supernet: Supernet, inputs: tuple[Tensor, ...], row: Any, place: int, choice: int) -> bool:
        """Whether a network with a choice and the same one with the next differ; not if a rule forbids either."""
        pair = np.stack([row, row])
        pair[:, place] = choice, choice + 1
        if not self.space.rule_matrix.obeyed(pair).all():
            # What rules join cannot change alone: networks that obey them are compared as they are.
            pair = self.networks(1024)
            pair = np.stack([pair[pair[:, place] == c][0] for c in (choice, choice + 1) if (pair[:, place] == c).any()])
            if len(pair) < 2:
                return False
        one, other = (self.space.operations(self.space.choices(indices)) for indices in pair)
        if one != other:
            return True
        outputs = [self.run(supernet, inputs, self.space.selection(indices)) for indices in pair]
        return not torch.equal(*outputs)

    def test_space_is_rebuilt_from_its_spec(self) -> None:
        spec = json.loads(json.dumps(self.space.spec()))
        again = type(self.space)(**spec)
        assert again.decisions == self.space.decisions and again.inputs == self.space.inputs
        for indices in self.networks():
            choices = self.space.choices(indices)
            assert again.operations(choices) == self.space.operations(choices)

    def test_notations_are_read_back_and_drawings_are_whole(self) -> None:
        for indices in self.networks():
            choices = self.space.choices(indices)
            again = self.space.parse(self.space.notation(choices))
            assert self.space.notation(again) == self.space.notation(choices)
            assert self.space.operations(again) == self.space.operations(choices)
            assert ElementTree.fromstring(self.space.draw(choices)).tag == "{http://www.w3.org/2000/svg}svg"
            for operation in self.space.operations(choices):
                found = parse_operation(operation.notation)
                assert (found.notation, found.macs, found.params) == (
                    operation.notation,
                    operation.macs,
                    operation.params,
                )
