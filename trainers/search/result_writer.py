"""What a finished search leaves: result.json, architectures, weights and the pruning log."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import safetensors.torch

from trainers.runs.files import write_bytes, write_json, write_text
from trainers.runs.folder import RunFolder
from trainers.runs.state import architecture_file, weights_file
from trainers.runs.warnings import WELL_USED
from trainers.search.candidates import Candidate
from trainers.search.derive import Derived
from trainers.search.module import SearchModule
from trainers.search.plan import Plan
from trainers.search.progress import entropy_of, weights_of
from trainers.search.provenance import file_hashes, hashes, lineage, versions
from trainers.search.prune_log import prune_rows, write_prune_log

SCHEMA = 1
MEAN_DECIMALS = 12  # fewer than the noise of a sum, more than any number of images tells apart
NOT_AT_HAND = "the device is neither this machine nor one of boards"
RUN_FILES = ("config.yaml", "metrics.csv", "alphas.npz", "prune.csv", "lineage.json")


def write_result(
    plan: Plan,
    module: SearchModule,
    derived: Sequence[Derived],
    folder: RunFolder,
    *,
    seconds: dict[str, float],
    peak_memory_mb: float | None,
) -> dict[str, Any]:
    """Writes every file of the result, result.json last, and returns its content."""
    files = _write_networks(plan, derived, folder.path)
    choices = {network.device: plan.space.choices(network.verdict.candidate.indices) for network in derived}
    write_prune_log(folder.path / "prune.csv", prune_rows(module.prune_log, plan.space, choices, last_step=module.step))
    write_json(folder.path / "lineage.json", lineage(plan, module.supernet, derived, files))
    devices = {network.device: _device(plan, network) for network in derived}
    content = {
        "schema": SCHEMA,
        "status": "done" if all(network.verdict.met for network in derived) else "unmet",
        "command": folder.command,
        "attempts": folder.attempt,
        "space": plan.space.name,
        "strategy": plan.config.strategy["name"],
        "seed": plan.config.seed,
        "data": {
            "name": plan.data.name,
            "origin": plan.data.origin,
            "split_hash": plan.data.splits.hash,
            "images": {s: plan.data.size(s) for s in ("weights", "architecture", "validation", "test")},
        },
        "devices": devices,
        "objective": objective(devices, seconds=sum(seconds.values())),
        "transfer": {network.device: _transfer(plan, network) for network in derived},
        "search": _search(module, seconds, peak_memory_mb),
        "hashes": hashes(plan),
        "files": files | file_hashes(folder.path, RUN_FILES),
        "versions": versions(),
        "threads": module.threads,
        "processors": module.processors,
        "code": vars(module.code[-1]),
        "earlier_code": [vars(code) for code in module.code[:-1]],
    }
    write_json(folder.path / "result.json", content)
    return content


def _write_networks(plan: Plan, derived: Sequence[Derived], folder: Path) -> dict[str, str]:
    """Writes the networks with their weights, and returns the hash of each file by its path below `folder`."""
    origin = {**hashes(plan), "run": plan.config.run_key, "versions": versions()}
    files = []
    for network in derived:
        paths = [architecture_file(folder, network.device), weights_file(folder, network.device)]
        write_text(paths[0], network.architecture.to_json(origin={**origin, "device": network.device}))
        weights = {key: value.contiguous() for key, value in network.network.state_dict().items()}
        write_bytes(paths[1], safetensors.torch.save(weights, {"architecture": network.architecture.id}))
        files += [path.relative_to(folder).as_posix() for path in paths]
    return file_hashes(folder, files)


def objective(devices: Mapping[str, Mapping[str, Any]], *, seconds: float) -> dict[str, float]:
    """What a sweep may compare or bound.

    Of accuracies only those on the validation split: the test split is for the end. Costs are the figures that decide
    of the budgets, measured and counted where they are; `utilisation` is the largest share of any budget.
    """
    accuracies = {name: float(device["validation"]["accuracy"]) for name, device in devices.items()}
    found = {
        "validation_accuracy": round(fmean(accuracies.values()), MEAN_DECIMALS),
        "utilisation": max(max(device["utilisation"].values()) for device in devices.values()),
        "seconds": seconds,
    }
    for name, device in devices.items():
        found[f"{name}/validation_accuracy"] = accuracies[name]
        found |= {f"{name}/{metric}": value for metric, value in device["held"].items()}
    return found


def _transfer(plan: Plan, derived: Derived) -> dict[str, Any]:
    """What the network of one device is predicted to cost on every device of the search, and whether it is within."""
    found: dict[str, Any] = {}
    for problem in plan.problems:
        indices = problem.with_best_placement(derived.verdict.candidate.indices)
        totals, profile = plan.table.named(indices, problem.device), problem.profile
        predicted = {metric: profile.estimate(metric, total) for metric, total in totals.items()}
        found[problem.name] = {
            **predicted,
            "latency_upper_ms": None if profile.bound is None else profile.upper("latency_ms", totals["latency_ms"]),
            "utilisation": max(problem.utilisation_of(totals).values()),
            "within": bool(problem.is_feasible(np.array([indices]))[0]),
        }
    return found


def _search(module: SearchModule, seconds: dict[str, float], peak_memory_mb: float | None) -> dict[str, Any]:
    return {
        **{f"{phase}_seconds": round(value, 2) for phase, value in seconds.items()},
        "steps": module.step,
        "entropy": round(entropy_of(module, weights_of(module)), 4),
        "step_over_floor": round(module.step_seconds / module.pass_seconds, 3),
        "peak_memory_mb": None if peak_memory_mb is None else round(peak_memory_mb),
        "choices_alive": {
            problem.name: int(survivors.mask_N.sum())
            for problem, survivors in zip(module.problems, module.strategy.survivors, strict=True)
        },
        "worst_surviving_share": {
            problem.name: round(float(problem.overshoot(survivors.mask_N).max()), 6)
            for problem, survivors in zip(module.problems, module.strategy.survivors, strict=True)
        },
    }


def _device(plan: Plan, derived: Derived) -> dict[str, Any]:
    problem = next(p for p in plan.problems if p.name == derived.device)
    profile = problem.profile
    certificate, chosen = derived.verdict.certificate, derived.verdict.candidate
    held, utilisation = certificate.held, certificate.held.utilisation
    binding = max(utilisation, key=lambda metric: utilisation[metric])
    measured = certificate.measured
    return {
        "architecture": architecture_file(Path(), derived.device).as_posix(),
        "weights": weights_file(Path(), derived.device).as_posix(),
        "id": derived.architecture.id,
        "notation": plan.space.notation(plan.space.choices(chosen.indices)),
        "met": derived.verdict.met,
        "refuted_by": certificate.refuted_by,
        "binding": binding,
        "budgets": problem.limits,
        "margin": problem.margin,
        "utilisation": utilisation,
        "predicted": certificate.predicted,
        "upper": certificate.upper,
        "upper_level": None if profile.bound is None else profile.bound.level,
        "upper_subject": None if profile.bound is None else profile.bound.subject,
        "held": held.figures,
        "held_by": held.origins,
        "recounted": certificate.recounted,
        "measured": None if measured is None else {"latency_ms": measured.p50_ms, **asdict(measured)},
        "measured_reason": None if measured else NOT_AT_HAND,
        "placement": certificate.placement,
        "cut": [candidate_row(plan, candidate, refuted_by=c.refuted_by) for candidate, c in derived.verdict.refuted],
        "accuracy": {
            "supernet": derived.supernet.accuracy,
            "inherited": derived.inherited.accuracy,
            "finetuned": derived.finetuned.accuracy,
            "random": derived.random.accuracy,
            "images": derived.inherited.images,
        },
        "validation": asdict(chosen.validation),
        "larger_candidates_that_lost": _larger(plan, derived, utilisation[binding]),
        "taken": candidate_row(plan, chosen),
        "candidates": [candidate_row(plan, candidate) for candidate in derived.candidates],
        "random_candidates": [candidate_row(plan, candidate) for candidate in derived.random_candidates],
        "profile": profile.provenance,
    }


def _larger(plan: Plan, derived: Derived, used: float) -> list[dict[str, Any]] | None:
    """The validated networks that use more of the budget and came behind; none where the budget is well used."""
    if used >= WELL_USED:
        return None
    chosen = derived.verdict.candidate  # like with like: of those that lost, no placement was certified
    return [candidate_row(plan, c) for c in derived.candidates if c.utilisation > chosen.utilisation]


def candidate_row(plan: Plan, candidate: Candidate, **more: Any) -> dict[str, Any]:
    return {
        "notation": plan.space.notation(plan.space.choices(candidate.indices)),
        "utilisation": round(candidate.utilisation, 4),
        "validation_accuracy": candidate.validation.accuracy,
        "validation_loss": candidate.validation.loss,
        **more,
    }
