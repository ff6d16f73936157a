"""The networks of a finished run, rebuilt from their files, priced and counted again, and held to their budgets."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.budgets.factors import SUMMED
from hardware_models.placement.chain import network_chain, placed_costs
from hardware_models.placement.placed_space import PlacedSpace
from hardware_models.placement.placement import segment_placement
from hardware_models.profile import HardwareProfile
from search_spaces.architecture import Architecture, build_network, read_architecture
from search_spaces.errors import EspalierError, InvalidInputError
from search_spaces.space import Choice, SearchSpace
from trainers.certificate import COUNTED_TO, Held, certify, hold
from trainers.config import SearchConfig
from trainers.data import ImageData
from trainers.evaluation import score
from trainers.ledger import replay_network
from trainers.prepare import is_host, load_profile, make_space
from trainers.reporting.check import OLDER, Check, compared
from trainers.run_state import architecture_file, weights_file

HOST = "its prices were measured on the machine that searched, when it did"


@dataclass(frozen=True)
class Priced:
    """The space of a run as its cost table knows it, and the budgets of each device that can be priced again."""

    space: SearchSpace
    problems: Mapping[str, BudgetProblem]

    def indices(self, architecture: Architecture, problem: BudgetProblem | None) -> tuple[int, ...]:
        """The network in this space; on a device of several units it runs where it runs best."""
        first = {decision.name: decision.choices[0] for decision in self.space.decisions}
        indices = self.space.indices({**first, **architecture.choices})
        return indices if problem is None else problem.settled(indices)

    def decided_by(self, architecture: Architecture, problem: BudgetProblem | None) -> list[str]:
        """Names of the decisions that make the network, and of those where its own device runs it."""
        placed = () if problem is None else problem.table.placements[problem.device]
        return [*architecture.choices, *(self.space.decisions[k].name for k in placed)]


def recounted_devices(
    folder: Path, config: SearchConfig, result: Mapping[str, Any], data: ImageData | str
) -> Iterator[Check]:
    """Checks of every device's files and figures; `data` are those of the run, or why they cannot be read.

    Raises: EspalierError for an architecture file that is not whole.
    """
    devices: Mapping[str, Any] = result["devices"]
    yield compared("devices", list(devices), list(config.hardware), field="devices")
    architectures = {}
    for name, device in devices.items():
        architecture = read_architecture(architecture_file(folder, name))
        yield compared(f"{name}: architecture", device["id"], architecture.id, field=f"devices.{name}.id")
        yield _origin(folder, name, result)
        architectures[name] = architecture
    first = next(iter(architectures.values()))
    space = make_space(config.space, num_classes=first.spec.get("num_classes", 2))
    specs = {name: dict(architecture.spec) for name, architecture in architectures.items()}
    yield compared("space of the networks", specs, dict.fromkeys(specs, space.spec()), field="spec")
    hosts = [name for name, mapping in config.hardware.items() if is_host(mapping)]
    profiles = [load_profile(name, mapping, config) for name, mapping in config.hardware.items() if name not in hosts]
    table = CostTable(space, profiles) if profiles else None
    yield _table(table, hosts, result)
    problems = {}
    for profile in profiles:
        assert table is not None
        problems[profile.name] = BudgetProblem(table, profile.name, dict(profile.budgets.items()), margin=config.margin)
    priced = Priced(table.space if table else space, problems)
    for name, architecture in architectures.items():
        if name not in config.hardware:
            continue
        try:
            yield from _device(folder, name, devices[name], architecture, priced)
            yield _accuracy(folder, name, devices[name], architecture, data, config.trainer.batch_size)
        except EspalierError as error:
            yield Check(f"{name}: network", "FAILED", str(error))
    yield _transfer(result, architectures, priced)


def _origin(folder: Path, name: str, result: Mapping[str, Any]) -> Check:
    """Whether the architecture's file tells the same origin as the result: it may travel without it."""
    origin = json.loads(architecture_file(folder, name).read_text(encoding="utf-8")).get("origin")
    if not isinstance(origin, dict) or "hashes" not in result:
        return Check(f"{name}: origin", "not checked", OLDER)
    found = {key: origin.get(key) for key in (*result["hashes"], "versions", "device")}
    told = {**result["hashes"], "versions": result["versions"], "device": name}
    return compared(f"{name}: origin", told, found, field=f"architectures/{name}.json: origin")


def _table(table: CostTable | None, hosts: list[str], result: Mapping[str, Any]) -> Check:
    if table is None or hosts:
        return Check("cost table", "not checked", f"{', '.join(hosts)}: {HOST}")
    if "hashes" not in result:
        return Check("cost table", "not checked", OLDER)
    return compared("cost table", result["hashes"]["cost_table"], table.digest, field="hashes.cost_table")


def _device(
    folder: Path, name: str, device: Mapping[str, Any], architecture: Architecture, priced: Priced
) -> Iterator[Check]:
    field, problem = f"devices.{name}", priced.problems.get(name)
    network = _loaded(folder, name, architecture)
    indices = priced.indices(architecture, problem)
    choices = priced.space.choices(indices)
    notation = {"notation": priced.space.notation(choices)}
    yield compared(f"{name}: notation", {"notation": device["notation"]}, notation, field=field)
    left = replay_network(folder / "prune.csv", priced.space, name)
    own = priced.decided_by(architecture, problem)  # where other devices would run it is left to chance
    ledger = {decision: left[decision] for decision in own}
    yield compared(f"{name}: prune ledger", ledger, {decision: choices[decision] for decision in own}, field=name)
    if problem is None:
        yield Check(f"{name}: predicted, upper bound, budgets", "not checked", HOST)
        return
    certificate = certify(problem, priced.space, network, indices, measure=False)
    yield _same(name, device, "recounted", {"recounted": certificate.recounted}, tolerance=COUNTED_TO)
    figures = {"predicted": certificate.predicted, "upper": certificate.upper, "placement": certificate.placement}
    yield _same(name, device, "predicted, upper bound", figures)
    profile = problem.profile
    known = {
        "budgets": problem.limits,
        "margin": problem.margin,
        "upper_level": None if profile.bound is None else profile.bound.level,
        "upper_subject": None if profile.bound is None else profile.bound.subject,
        "profile": profile.provenance,
    }
    yield _same(name, device, "budgets and profile", known)
    totals, measured = problem.table.named(indices, problem.device), device["measured"]
    measured_ms = None if measured is None else measured["latency_ms"]
    yield _verdict(name, device, hold(problem, totals, recounted=certificate.recounted, measured_ms=measured_ms))


def _same(name: str, device: Mapping[str, Any], what: str, found: Mapping[str, Any], tolerance: float = 1e-9) -> Check:
    recorded = {key: device[key] for key in found}
    return compared(f"{name}: {what}", recorded, found, field=f"devices.{name}", tolerance=tolerance)


def _verdict(name: str, device: Mapping[str, Any], found: Held) -> Check:
    """Whether the figures that decide are within the budgets: a recorded measurement decides alone, as it did."""
    verdict: dict[str, Any] = {
        "met": found.broken is None,
        "refuted_by": found.broken,
        "binding": max(found.utilisation, key=lambda metric: found.utilisation[metric]),
        "utilisation": found.utilisation,
    }
    verdict |= {key: value for key, value in (("held", found.figures), ("held_by", found.origins)) if key in device}
    return _same(name, device, "budgets met, as told", verdict, tolerance=COUNTED_TO)


def _loaded(folder: Path, name: str, architecture: Architecture) -> nn.Module:
    """The network with the weights in its file. Raises: InvalidInputError if they are not its own."""
    path = weights_file(folder, name)
    network = build_network(architecture)
    try:
        weights = load_file(path)
        with safe_open(path, framework="pt") as file:
            owner = (file.metadata() or {}).get("architecture")
        network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise InvalidInputError(f"weights/{name}.safetensors cannot be loaded into its network: {error}") from error
    if owner != architecture.id:
        raise InvalidInputError(f"weights/{name}.safetensors are of network {owner}, not {architecture.id}")
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _accuracy(
    folder: Path,
    name: str,
    device: Mapping[str, Any],
    architecture: Architecture,
    data: ImageData | str,
    batch_size: int,
) -> Check:
    """Test accuracy of the network as saved, to within one image: another machine may round a tie another way."""
    what = f"{name}: fine-tuned accuracy"
    if isinstance(data, str):
        return Check(what, "not checked", data)
    found = score(_loaded(folder, name, architecture), data, "test", images=None, batch_size=batch_size)
    recorded, images = device["accuracy"]["finetuned"], device["accuracy"]["images"]
    field = f"devices.{name}.accuracy"
    if images != found.images:
        return Check(what, "FAILED", f"{field}.images is {images}, found {found.images}")
    if abs(recorded - found.accuracy) * images > 1.5:
        return Check(what, "FAILED", f"{field}.finetuned is {recorded}, found {found.accuracy}")
    return Check(what, "ok")


def _transfer(result: Mapping[str, Any], architectures: Mapping[str, Architecture], priced: Priced) -> Check:
    """What each network costs on every device that can be priced again, by the prices of its operations."""
    recorded = result.get("transfer")
    if recorded is None:
        return Check("transfer", "not checked", OLDER)
    found = {
        name: {device: _costs(architecture, problem, priced) for device, problem in priced.problems.items()}
        for name, architecture in architectures.items()
    }
    known = {
        name: {device: costs for device, costs in on_devices.items() if device in priced.problems}
        for name, on_devices in recorded.items()
    }
    return compared("transfer", known, found, field="transfer")


def _costs(architecture: Architecture, problem: BudgetProblem, priced: Priced) -> dict[str, Any]:
    """Estimates of a network on a device, its largest share of a budget, and whether it is within all of them.

    The cost table, which the search went by, has a part only in where a device of several units runs it.
    """
    profile, choices = problem.profile, priced.space.choices(priced.indices(architecture, problem))
    totals = _totals(profile, priced.space, choices)
    used = max(problem.held(metric, totals[metric]) / limit for metric, limit in problem.limits.items())
    return {
        **{metric: profile.estimate(metric, total) for metric, total in totals.items()},
        "latency_upper_ms": None if profile.bound is None else profile.upper("latency_ms", totals["latency_ms"]),
        "utilisation": used,
        "within": used <= 1 + COUNTED_TO,
    }


def _totals(profile: HardwareProfile, space: SearchSpace, choices: Mapping[str, Choice]) -> dict[str, float]:
    """What the prices of a network's operations sum to, by metric."""
    if isinstance(space, PlacedSpace) and profile.units:
        return placed_costs(profile, network_chain(space, choices)[0], segment_placement(space, profile, choices))
    prices = [profile.price(operation) for operation in space.operations(choices)]
    sums = {column: sum(price[column] for price in prices) for column in SUMMED}
    sums["latency_ms"] += profile.constant_ms
    sums["peak_memory_mb"] = sums.pop("weight_mb") + max(price["activation_mb"] for price in prices)
    return sums
