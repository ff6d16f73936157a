"""Proof that a derived network is within its budgets: recounted and measured on the module itself, cut if refuted."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.counting import peak_activation_mb, recount
from hardware_models.measuring.measure import Measurement
from hardware_models.metrics import PEAK_METRICS
from hardware_models.placement.chain import runs_of
from hardware_models.placement.placement import PlacedChain, place
from hardware_models.profile import BYTES_PER_ELEMENT, HardwareProfile, flash_kb
from search_spaces.space import SearchSpace
from search_spaces.tensor_spec import Inputs
from search_spaces.tracing import operations_of
from trainers.search.candidates import Candidate

COUNTED_TO = 1e-6  # relative: a recount adds the same integers in another order
Prove = Callable[[tuple[int, ...]], "Certificate"]
# From a tightened problem and the refuted networks to the next candidate, or to none.
Fallback = Callable[[BudgetProblem, Sequence[tuple[int, ...]]], Candidate | None]


@dataclass(frozen=True)
class Held:
    """The figure that decides whether each budget is met, and its origin: measured, recounted, upper or predicted.

    `utilisation` is the share of each budget that it uses, above 1 only where that breaks it; `broken` is the first
    metric that does, if any.
    """

    figures: dict[str, float]
    origins: dict[str, str]
    utilisation: dict[str, float]
    broken: str | None


@dataclass(frozen=True)
class Certificate:
    """Figures of one network from three origins that never mix, by metric; and how each budget stands.

    `upper` has no latency where the profile has no bound. `placement` gives, in order, each stay on a unit with its
    operations; none on a device of one unit.
    """

    predicted: dict[str, float]
    upper: dict[str, float]
    recounted: dict[str, float]
    measured: Measurement | None
    held: Held
    placement: list[dict[str, Any]] | None

    @property
    def refuted_by(self) -> str | None:
        return self.held.broken


@dataclass(frozen=True)
class Verdict:
    """The network taken for a device and its certificate, with the networks that recount or measurement refuted."""

    candidate: Candidate
    certificate: Certificate
    refuted: tuple[tuple[Candidate, Certificate], ...]

    @property
    def met(self) -> bool:
        return self.certificate.refuted_by is None


def certify(
    problem: BudgetProblem,
    space: SearchSpace,
    network: nn.Module,
    indices: tuple[int, ...],
    *,
    clock: Callable[[nn.Module], Measurement] | None = None,
) -> Certificate:
    """Recounts a network as deployed and, with a `clock`, times it.

    A measured latency decides alone; where there is none, the figure that the problem's margin names does.
    """
    profile = problem.profile
    inputs = space.inputs_of(space.choices(indices))
    placed = place(problem, indices) if profile.units else None
    totals = problem.table.named(indices, problem.device) if placed is None else placed.costs
    predicted = {metric: profile.estimate(metric, total) for metric, total in totals.items()}
    bounded = profile.network_bound is not None
    known = {metric: total for metric, total in totals.items() if metric != "latency_ms" or bounded}
    upper = {metric: profile.upper(metric, total) for metric, total in known.items()}
    recounted = _recounted(profile, network, inputs, placed)
    measured = None if clock is None else clock(network)
    held = hold(problem, totals, recounted=recounted, measured_ms=None if measured is None else measured.p50_ms)
    runs = None if placed is None else runs_of(placed.chain, placed.units)
    return Certificate(predicted, upper, recounted, measured, held, runs)


def hold(
    problem: BudgetProblem, totals: Mapping[str, float], *, recounted: Mapping[str, float], measured_ms: float | None
) -> Held:
    """What decides of a network whose operations' prices sum to `totals`: a clock, a count, or else the prediction."""
    figures, origins = {}, {}
    for metric in problem.limits:
        figures[metric], origins[metric] = problem.held(metric, totals[metric]), "predicted"
        if metric in recounted:
            figures[metric], origins[metric] = recounted[metric], "recounted"
        elif measured_ms is not None:
            figures[metric], origins[metric] = measured_ms, "measured"
        elif problem.is_bound(metric):
            origins[metric] = "upper"
    used = {metric: figures[metric] / limit for metric, limit in problem.limits.items()}
    broken = [metric for metric, share in used.items() if share > 1 + COUNTED_TO]
    used = {metric: share if metric in broken else min(share, 1.0) for metric, share in used.items()}
    return Held(figures, origins, used, broken[0] if broken else None)


def _recounted(
    profile: HardwareProfile, module: nn.Module, inputs: Inputs, placed: PlacedChain | None
) -> dict[str, float]:
    counted = recount(module, inputs)
    element_bytes = BYTES_PER_ELEMENT[profile.precision]
    if placed is None:
        params, biases = round(counted.params_m * 1e6), counted.biases
        activation_mb = peak_activation_mb(module, inputs, bytes_per_element=element_bytes)
    else:
        params, biases, activation_mb = _memory_of_local_units(profile, module, inputs, placed)
    return {
        "gflops": counted.gflops,
        "params_m": counted.params_m,
        "peak_memory_mb": params * element_bytes / 1e6 + activation_mb,
        "flash_kb": flash_kb(params, biases, element_bytes),
        "sram_kb": activation_mb * PEAK_METRICS["sram_kb"],
    }


def _memory_of_local_units(
    profile: HardwareProfile, module: nn.Module, inputs: Inputs, placed: PlacedChain
) -> tuple[int, int, float]:
    """Weights, biases among them, and peak activations in MB, of the operations that no remote unit runs.

    They are found on the module itself.

    Of a module whose operations are not those that were placed, all memory counts.
    """
    element_bytes = BYTES_PER_ELEMENT[profile.precision]
    operations = operations_of(module, inputs)
    units: dict[str, list[str]] = {}
    for operation, unit in zip(placed.chain.operations, placed.units, strict=True):
        units.setdefault(operation.notation, []).append(unit)
    found = [operation.notation for operation in operations]
    as_placed = Counter(found) == {notation: len(those) for notation, those in units.items()}
    is_local = [not (as_placed and profile.units[units[notation].pop(0)].remote) for notation in found]
    here = [op for op, local in zip(operations, is_local, strict=True) if local]
    activation_mb = peak_activation_mb(module, inputs, bytes_per_element=element_bytes, counted=is_local)
    params, biases = sum(op.params for op in here), sum(op.biases for op in here)
    return params, biases, max(activation_mb, placed.transferred_mb)


def verify_and_cut(
    problem: BudgetProblem, candidates: Sequence[Candidate], prove: Prove, *, fallback: Fallback, max_cuts: int
) -> Verdict:
    """The first candidate that no recount or measurement refutes; when they run out, `fallback` gives more.

    A measurement that refutes a network also tightens the budget for those tried after it: they must keep within it if
    their estimate is as far off as that network's was. Where that leaves none, `fallback` may still give the tightest.
    """
    refuted: list[tuple[Candidate, Certificate]] = []
    queue, tightened = list(candidates), problem
    while queue and len(refuted) < max_cuts:
        candidate = queue.pop(0)
        certificate = prove(candidate.indices)
        if certificate.refuted_by is None:
            return Verdict(candidate, certificate, tuple(refuted))
        refuted.append((candidate, certificate))
        tightened = learn(tightened, certificate)
        queue = [c for c in queue if tightened.is_feasible(np.array([c.indices]))[0]]
        if not queue:
            following = fallback(tightened, [c.indices for c, _ in refuted])
            queue = [] if following is None else [following]
    last, certificate = refuted[-1]
    return Verdict(last, certificate, tuple(refuted[:-1]))


def learn(problem: BudgetProblem, certificate: Certificate) -> BudgetProblem:
    """The problem for those tried after a refuted network: its limit is as much lower as its estimate was too low."""
    metric = certificate.refuted_by
    assert metric is not None
    if certificate.measured is None or metric != "latency_ms":
        return problem
    # Below the refuted network's own estimate, as its measurement is above the limit: it and all larger ones are out.
    estimate_ms = problem.limits[metric] * certificate.predicted[metric] / certificate.measured.p50_ms
    return problem.tightened(metric, largest_total=problem.profile.largest_total(metric, estimate_ms, margin="point"))
