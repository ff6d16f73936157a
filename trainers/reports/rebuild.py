"""What the files of a finished run give again: its prices, and its networks rebuilt, counted and tested."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.latency_models.roofline import price_kinds
from hardware_models.profile import profile_from_dict
from search_spaces.architecture import Architecture, build_network, make_space, read_architecture
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import check_regular
from search_spaces.space import Choice
from trainers.data.datasets import ImageData
from trainers.runs.config import SearchConfig
from trainers.runs.result import Result
from trainers.runs.state import architecture_file, weights_file
from trainers.search.certificate import Certificate, certify
from trainers.search.evaluation import Score, score
from trainers.search.plan import is_host, load_profile

# Beside its kinds, in place of prices that were measured on another day: all but latency is counted, and needs none.
NO_PRICES = {"model": "roofline", "weight_gb_per_s": None, "activation_gb_per_s": None}


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
    """The prices and budgets of a run, and its networks. Of `hosts` the latency prices are not known."""

    table: CostTable
    problems: Mapping[str, BudgetProblem]
    hosts: tuple[str, ...]
    networks: Mapping[str, Network]

    def decided_by(self, device: str) -> list[str]:
        """Names of the decisions that make a network, and of those where its own device runs it."""
        placed = self.table.placements[self.problems[device].device]
        return [self.table.space.decisions[k].name for k in (*range(self.table.num_own), *placed)]


def rebuild(folder: Path, config: SearchConfig, result: Result, data: ImageData | str) -> Rebuilt:
    """Every device's network from its files, with the prices of `config`; `data`, or why they cannot be read.

    Of a host, whose profile was measured, the error, bound and origin are those of `result`.
    Raises: EspalierError for an architecture or a profile that cannot be used.
    """
    architectures = {name: read_architecture(architecture_file(folder, name)) for name in config.hardware}
    first = next(iter(architectures.values()))
    space = make_space(config.space, num_classes=first.spec.get("num_classes", 2))
    hosts = tuple(name for name, mapping in config.hardware.items() if is_host(mapping))
    no_prices = {**NO_PRICES, "kinds": {kind: {"throughput_gops": None, "overhead_ms": 0.0} for kind in price_kinds()}}
    profiles = [
        profile_from_dict(name, {**result.devices[name].profile.model_dump(), **mapping, "latency": no_prices})
        if name in hosts
        else load_profile(name, mapping, config)
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
    return Rebuilt(table, problems, hosts, networks)


def _indices(problem: BudgetProblem, choices: Mapping[str, Choice]) -> tuple[int, ...]:
    """The network of `choices`; on a device of several units it runs where it runs best."""
    space = problem.table.space
    first = {decision.name: decision.choices[0] for decision in space.decisions}
    return problem.with_best_placement(space.indices({**first, **choices}))


def _network(
    folder: Path, architecture: Architecture, problem: BudgetProblem, data: ImageData | str, *, batch_size: int
) -> Network:
    network = build_network(architecture).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    indices, fault = _indices(problem, architecture.choices), None
    certificate = certify(problem, problem.table.space, copy.deepcopy(network), indices, measure=False)
    try:
        _load(weights_file(folder, problem.name), network, architecture)
    except InvalidInputError as error:
        fault = str(error)
    tested: Score | str = data if isinstance(data, str) else "its weights cannot be used"
    if fault is None and not isinstance(data, str):
        tested = score(network, data, "test", images=None, batch_size=batch_size)
    return Network(architecture, indices, certificate, tested, fault)


def _load(path: Path, network: nn.Module, architecture: Architecture) -> None:
    """Fills the network from its file of weights. Raises: InvalidInputError if they are not its own."""
    try:
        check_regular(path)
        network.load_state_dict(load_file(path))
        with safe_open(path, framework="pt") as file:
            owner = (file.metadata() or {}).get("architecture")
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise InvalidInputError(f"weights/{path.name} cannot be loaded into its network: {error}") from error
    if owner != architecture.id:
        raise InvalidInputError(f"weights/{path.name} are of network {owner}, not {architecture.id}")
