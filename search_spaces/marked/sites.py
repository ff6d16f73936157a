"""What marked networks cost: the operations of each place, as a function of the few decisions that they depend on.

Networks are built without numbers and run. A place depends on a decision if its operations change with it; networks
drawn at random show that nothing else changes them.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from itertools import groupby, product
from math import prod
from typing import Any

import numpy as np

from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation
from search_spaces.space import Choice, Decision, Site

SHOWN = 24  # networks drawn in a row that contradict nothing
MOST_STATES = 20_000  # combinations of choices of one site

Operations = Mapping[str, tuple[Operation, ...]]  # by path, in the order they run
Values = tuple[Choice, ...]


def find_sites(
    decisions: Sequence[Decision],
    run: Callable[[Mapping[str, Choice]], Operations],
    *,
    known: Mapping[str, Set[str]],
) -> tuple[Site, ...]:
    """The sites of networks whose operations `run` gives, in the order that they run.

    `known` has, by the path of each module, decisions that it depends on for sure.
    Raises: InvalidInputError where one depends on too many choices together.
    """
    places = _Places(decisions, run, known)
    places.find_scopes()
    places.check_states()
    places.cover()
    joined = groupby(places.in_order(), key=lambda path: places.scopes[path])
    paths_of = [(tuple(paths), scope) for scope, paths in joined]
    return tuple(_site(places, paths, scope, place) for place, (paths, scope) in enumerate(paths_of))


def _site(places: "_Places", paths: Sequence[str], scope: tuple[str, ...], place: int) -> Site:
    tables = [places.known[path] for path in paths]

    def operations(values: Mapping[str, Any]) -> list[Operation]:
        key = tuple(values[name] for name in scope)
        return [operation for table in tables for operation in table[key][0]]

    return Site(f"{place}:{paths[0] or 'network'}", scope, operations)


class _Places:
    """What is known of each place: the decisions it depends on, and its operations for their choices."""

    def __init__(
        self,
        decisions: Sequence[Decision],
        run: Callable[[Mapping[str, Choice]], Operations],
        known: Mapping[str, Set[str]],
    ) -> None:
        self._decisions = {decision.name: decision for decision in decisions}
        self._run, self._certain = run, known
        self._seen: dict[Values, Operations] = {}
        self.scopes: dict[str, tuple[str, ...]] = {}
        # Operations of a place, and the network that they were seen in, by the choices of its scope.
        self.known: dict[str, dict[Values, tuple[tuple[Operation, ...], Values]]] = {}

    def find_scopes(self) -> None:
        generator, shown = np.random.default_rng(0), 0
        while shown < SHOWN:
            drawn = tuple(d.choices[generator.integers(len(d.choices))] for d in self._decisions.values())
            other = self._observe(drawn)
            shown = shown + 1 if other is None else 0
            while other is not None:
                self._walk(other, drawn)
                other = self._observe(drawn)

    def check_states(self) -> None:
        for path, scope in self.scopes.items():
            states = prod(len(self._decisions[name].choices) for name in scope)
            if states > MOST_STATES:
                raise InvalidInputError(
                    f"{path}: its cost depends on {', '.join(scope)} together, {states:,} combinations; "
                    f"allowed: {MOST_STATES:,}. Let fewer decisions reach it, as by a layer of fixed channels before it"
                )

    def cover(self) -> None:
        """Runs few networks that have, together, every combination of the choices in each scope."""
        missing = [
            (path, values)
            for path, scope in self.scopes.items()
            for values in product(*(self._decisions[name].choices for name in scope))
            if values not in self.known[path]
        ]
        while missing:
            network: dict[str, Choice] = {}
            for path, values in missing:
                wanted = dict(zip(self.scopes[path], values, strict=True))
                if all(network.get(name, value) == value for name, value in wanted.items()):
                    network |= wanted
            drawn = tuple(network.get(name, d.choices[-1]) for name, d in self._decisions.items())
            other = self._observe(drawn)
            if other is not None:  # it contradicts what is known: a place depends on one decision more
                self._walk(other, drawn)
                return self.cover()
            missing = [(path, values) for path, values in missing if values not in self.known[path]]
        return None

    def in_order(self) -> list[str]:
        """The places as modules are declared; what a module computes itself stands behind the parts that it ran."""
        declared = [path for path in self._certain if path in self.scopes]
        for path in list(declared):
            parts = {other for other in declared if other != path and other.startswith(f"{path}." if path else "")}
            runs = [list(ran) for ran in self._seen.values() if path in ran]
            before = {other for ran in runs for other in ran[: ran.index(path)] if other in parts}
            if before:
                declared.remove(path)
                declared.insert(max(map(declared.index, before)) + 1, path)
        return declared

    def _observe(self, network: Values) -> Values | None:
        """Runs a network and keeps what is seen; returns one seen before that contradicts it, if there is one."""
        if network not in self._seen:
            self._seen[network] = self._run(dict(zip(self._decisions, network, strict=True)))
            for path in self._seen[network]:
                if path not in self.scopes:
                    self.scopes[path] = tuple(name for name in self._decisions if name in self._certain[path])
                    self._recall(path)
        for path in self.scopes:
            other = self._keep(path, network)
            if other is not None:
                return other
        return None

    def _keep(self, path: str, network: Values) -> Values | None:
        operations = self._seen[network].get(path, ())
        values = dict(zip(self._decisions, network, strict=True))
        known, where = self.known[path].setdefault(
            tuple(values[name] for name in self.scopes[path]), (operations, network)
        )
        return None if known == operations else where

    def _recall(self, path: str) -> None:
        """Anew from all networks seen, for another scope."""
        self.known[path] = {}
        for network in self._seen:
            self._keep(path, network)

    def _walk(self, start: Values, end: Values) -> None:
        """From one network to another, a decision after the other: whatever changes depends on that decision."""
        before = self._seen[start]
        for place, name in enumerate(self._decisions):
            current = (*end[: place + 1], *start[place + 1 :])
            if current not in self._seen:
                self._observe(current)
            after = self._seen[current]
            for path, scope in self.scopes.items():
                if before.get(path, ()) != after.get(path, ()) and name not in scope:
                    self.scopes[path] = tuple(n for n in self._decisions if n == name or n in scope)
                    self._recall(path)
            before = after
