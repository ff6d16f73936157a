"""What the files of a finished run give again: its prices, and its networks rebuilt, counted and tested."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.latency_models.roofline import PRICE_KINDS
from hardware_models.profile import HardwareProfile, profile_from_dict
from search_spaces.architecture import Architecture, build_network, read_architecture
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import check_regular
from search_spaces.space import Choice, SearchSpace
from trainers.data.datasets import ImageData
from trainers.runs.config import SearchConfig
from trainers.runs.state import architecture_file, weights_file
from trainers.search.certificate import Certificate, certify
from trainers.search.evaluation import Score, score
from trainers.search.plan import is_host, load_profile, make_space

# In place of prices that were measured on another day: all but latency is counted, and needs none.
NO_PRICES = {
    "model": "roofline",
    "weight_gb_per_s": None,
    "activation_gb_per_s": None,
    "kinds": {kind: {"throughput_gops": None, "overhead_ms": 0.0} for kind in PRICE_KINDS},
}


@dataclass(frozen=True)
class Network:
    """A network of a run. `tested` is the score of its saved weights on the test images, or why there is none."""

    architecture: Architecture
    indices: tuple[int, ...]
    certificate: Certificate
    tested: Score | str
    weights_fault: str | None


@dataclass(frozen=True)
class Rebuilt:
    """The space of a run, the budgets of its devices, its networks. Of `hosts` the latency prices are not known."""

    space: SearchSpace
    table: CostTable
    problems: Mapping[str, BudgetProblem]
    hosts: tuple[str, ...]
    networks: Mapping[str, Network]

    def indices(self, choices: Mapping[str, Choice], device: str | None = None) -> tuple[int, ...]:
        return _placed(self.space, choices, None if device is None else self.problems[device])

    def decided_by(self, device: str) -> list[str]:
        """Names of the decisions that make a network, and of those where its own device runs it."""
        own, placed = self.table.num_own, self.table.placements[self.problems[device].device]
        return [self.space.decisions[k].name for k in (*range(own), *placed)]

    def with_told(self, device: str, totals: Mapping[str, float], latency_ms: float) -> dict[str, float]:
        """Sums of prices; of a device without them, the one that gives the latency that was told."""
        if device not in self.hosts:
            return dict(totals)
        profile = self.problems[device].profile
        return {**totals, "latency_ms": profile.largest_total("latency_ms", latency_ms, margin="point")}


@dataclass(frozen=True)
class Told:
    """One device as result.json tells of it, beside what the other files of its run give again."""

    name: str
    folder: Path
    config: SearchConfig
    result: Mapping[str, Any]
    rebuilt: Rebuilt

    @property
    def device(self) -> dict[str, Any]:
        found: dict[str, Any] = self.result["devices"][self.name]
        return found

    @property
    def field(self) -> str:
        return f"devices.{self.name}"

    @property
    def problem(self) -> BudgetProblem:
        return self.rebuilt.problems[self.name]

    @property
    def network(self) -> Network:
        return self.rebuilt.networks[self.name]

    @property
    def totals(self) -> dict[str, float]:
        """Sums of the prices of the network's operations, by metric."""
        totals = self.problem.table.named(self.network.indices, self.problem.device)
        return self.rebuilt.with_told(self.name, totals, self.device["predicted"]["latency_ms"])


def rebuild(folder: Path, config: SearchConfig, result: Mapping[str, Any], data: ImageData | str) -> Rebuilt:
    """Every device's network from its files, with the prices of `config`; `data`, or why they cannot be read.

    Of a host, whose profile was measured, the error, bound and origin are those that `result` tells.
    Raises: EspalierError for an architecture or a profile that is not whole.
    """
    architectures = {name: read_architecture(architecture_file(folder, name)) for name in config.hardware}
    first = next(iter(architectures.values()))
    space = make_space(config.space, num_classes=first.spec.get("num_classes", 2))
    hosts = tuple(name for name, mapping in config.hardware.items() if is_host(mapping))
    profiles = [
        _told_profile(name, mapping, result) if name in hosts else load_profile(name, mapping, config)
        for name, mapping in config.hardware.items()
    ]
    table = CostTable(space, profiles)
    problems = {
        profile.name: BudgetProblem(table, profile.name, dict(profile.budgets.items()), margin=config.margin)
        for profile in profiles
    }
    networks = {
        name: _network(folder, architecture, problems[name], data, batch_size=config.trainer.batch_size)
        for name, architecture in architectures.items()
    }
    return Rebuilt(table.space, table, problems, hosts, networks)


def _told_profile(name: str, mapping: Mapping[str, Any], result: Mapping[str, Any]) -> HardwareProfile:
    return profile_from_dict(name, {**result["devices"][name]["profile"], **mapping, "latency": NO_PRICES})


def _placed(space: SearchSpace, choices: Mapping[str, Choice], problem: BudgetProblem | None) -> tuple[int, ...]:
    """The network in `space`; on a device of several units it runs where it runs best."""
    first = {decision.name: decision.choices[0] for decision in space.decisions}
    indices = space.indices({**first, **choices})
    return indices if problem is None else problem.with_best_placement(indices)


def _network(
    folder: Path, architecture: Architecture, problem: BudgetProblem, data: ImageData | str, *, batch_size: int
) -> Network:
    space, fault = problem.table.space, None
    network = build_network(architecture).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    indices = _placed(space, architecture.choices, problem)
    certificate = certify(problem, space, copy.deepcopy(network), indices, measure=False)
    try:
        _load(folder, problem.name, network, architecture)
    except InvalidInputError as error:
        fault = str(error)
    tested: Score | str = data if isinstance(data, str) else "its weights cannot be used"
    if fault is None and not isinstance(data, str):
        tested = score(network, data, "test", images=None, batch_size=batch_size)
    return Network(architecture, indices, certificate, tested, fault)


def _load(folder: Path, name: str, network: nn.Module, architecture: Architecture) -> None:
    """Fills the network from its file of weights. Raises: InvalidInputError if they are not its own."""
    path = weights_file(folder, name)
    try:
        check_regular(path)
        weights = load_file(path)
        with safe_open(path, framework="pt") as file:
            owner = (file.metadata() or {}).get("architecture")
        network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise InvalidInputError(f"weights/{name}.safetensors cannot be loaded into its network: {error}") from error
    if owner != architecture.id:
        raise InvalidInputError(f"weights/{name}.safetensors are of network {owner}, not {architecture.id}")
