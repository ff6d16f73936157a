"""What the files of a finished run give again: its prices, and its networks rebuilt, counted and tested."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.latency_models.roofline import price_kinds
from hardware_models.profile import profile_from_dict
from search_spaces.architecture import Architecture, build_network, build_space, inputs_of, read_architecture
from search_spaces.blocks import without_resize
from search_spaces.errors import InvalidInputError
from search_spaces.space import image_shape
from trainers.data.datasets import DataConfig, load_data
from trainers.deploy.onnx_file import file_record, score_file
from trainers.deploy.standalone import Score, load_weights, score
from trainers.runs.config import SearchConfig, is_host
from trainers.runs.result import DeployedFile, Result
from trainers.runs.state import architecture_file, onnx_path, weights_file
from trainers.search.certificate import Certificate, certify
from trainers.search.plan import load_profile

# Beside its kinds, in place of prices that were measured on another day: all but latency is counted, and needs none.
NO_PRICES = {"model": "roofline", "weight_gb_per_s": None, "activation_gb_per_s": None}


@dataclass(frozen=True)
class Prices:
    """The prices and budgets of a run. Of `hosts`, measured when they searched, the latency prices are not known."""

    table: CostTable
    problems: Mapping[str, BudgetProblem]
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """A network of a run. `tested` is the score of its saved weights on the test images, none without either.

    `weights_fault` says why its weights cannot be used, if they cannot.
    """

    architecture: Architecture
    indices: tuple[int, ...]
    certificate: Certificate
    weights_fault: str | None
    tested: dict[str, Score]
    file: DeployedFile | None


def rebuild_prices(folder: Path, config: SearchConfig, result: Result) -> Prices:
    """The cost table and the budgets of a run, from its configuration.

    Of a host, whose profile was measured, the error, bound and origin are those of `result`.
    Raises: EspalierError for an architecture or a profile that cannot be used.
    """
    first = read_architecture(architecture_file(folder, next(iter(config.hardware))))
    space = build_space(first)
    hosts = tuple(name for name, mapping in config.hardware.items() if is_host(mapping))
    no_prices = {**NO_PRICES, "kinds": {kind: {"throughput_gops": None, "overhead_ms": 0.0} for kind in price_kinds()}}
    profiles = [
        profile_from_dict(
            name, {**result.devices[name].profile.model_dump(exclude={"widening"}), **mapping, "latency": no_prices}
        )
        if name in hosts
        else load_profile(name, mapping, config)
        for name, mapping in config.hardware.items()
    ]
    table = CostTable(space, profiles)
    problems = {p.name: BudgetProblem(table, p.name, dict(p.budgets.items()), margin=config.margin) for p in profiles}
    return Prices(table, problems, hosts)


def rebuild_network(folder: Path, problem: BudgetProblem, data: DataConfig | None, *, batch_size: int) -> Network:
    """The network of a device from its files; on a device of several units it runs where it runs best.

    `data` is what it is tested with, if it can be. Raises: EspalierError for an architecture that cannot be used.
    """
    space, architecture = problem.table.space, read_architecture(architecture_file(folder, problem.name))
    network = build_network(architecture).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    indices = indices_of(problem, architecture)
    certificate = certify(problem, space, copy.deepcopy(network), indices)
    fault = None
    try:
        load_weights(network, weights_file(folder, problem.name), id=architecture.id)
    except InvalidInputError as error:
        fault = str(error)
    path = onnx_path(folder, problem.name)
    if fault is not None or data is None:
        return Network(architecture, indices, certificate, fault, {}, None)
    channels, height, width = image_shape(inputs_of(architecture))
    data = data.model_copy(update={"channels": channels})  # earlier versions always had three
    if not path.is_file():
        tested = score(network, load_data(data), "test", images=None, batch_size=batch_size)
        return Network(architecture, indices, certificate, fault, {"finetuned": tested}, None)
    sized, content = load_data(data, image_size=(height, width)), path.read_bytes()
    scores = {
        "finetuned": score(without_resize(network), sized, "test", images=None, batch_size=batch_size),
        "deployed": score_file(content, sized, "test", threads=torch.get_num_threads()),
    }
    file = file_record(path.relative_to(folder), content, sized)
    return Network(architecture, indices, certificate, fault, scores, file)


def indices_of(problem: BudgetProblem, architecture: Architecture) -> tuple[int, ...]:
    """The positions of a network's choices in the space of a problem, placed where it runs best."""
    space = problem.table.space
    first = {decision.name: decision.choices[0] for decision in space.decisions}
    return problem.with_best_placement(space.indices({**first, **architecture.choices}))
