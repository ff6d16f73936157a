"""What a finished search leaves: result.json, architectures, weights and the ledger."""

import platform
import resource
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import safetensors.torch

from trainers.derive import Derived
from trainers.finalise import Candidate
from trainers.ledger import ledger_rows, write_ledger
from trainers.prepare import Plan
from trainers.run_folder import RunFolder, write_bytes, write_json, write_text
from trainers.search_module import SearchModule

SCHEMA = 1
WELL_USED = 0.8  # share of the binding budget below which the larger candidates that lost are named
PACKAGES = ("torch", "pytorch-lightning", "fvcore", "scipy", "numpy", "onnxruntime")


def write_result(
    plan: Plan, module: SearchModule, derived: Sequence[Derived], folder: RunFolder, *, seconds: dict[str, float]
) -> dict[str, Any]:
    """Writes every file of the result, result.json last, and returns its content."""
    for network in derived:
        name = network.device
        write_text(folder.path / "architectures" / f"{name}.json", network.architecture.to_json())
        weights = {key: value.contiguous() for key, value in network.network.state_dict().items()}
        metadata = {"architecture": network.architecture.id}
        write_bytes(folder.path / "weights" / f"{name}.safetensors", safetensors.torch.save(weights, metadata))
    choices = {network.device: plan.space.choices(network.verdict.candidate.indices) for network in derived}
    write_ledger(folder.path / "prune.csv", ledger_rows(module.prune_log, plan.space, choices, last_step=module.step))
    content = {
        "schema": SCHEMA,
        "status": "done" if all(network.verdict.met for network in derived) else "unmet",
        "space": plan.space.name,
        "strategy": plan.config.strategy["name"],
        "seed": plan.config.seed,
        "data": {
            "name": plan.data.name,
            "origin": plan.data.origin,
            "split_hash": plan.data.splits.hash,
            "images": {s: plan.data.size(s) for s in ("weights", "architecture", "validation", "test")},
        },
        "devices": {network.device: _device(plan, network) for network in derived},
        "search": _search(module, seconds),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    write_json(folder.path / "result.json", content)
    return content


def _search(module: SearchModule, seconds: dict[str, float]) -> dict[str, Any]:
    return {
        **{f"{phase}_seconds": round(value, 2) for phase, value in seconds.items()},
        "steps": module.step,
        "step_over_floor": round(module.step_seconds / module.pass_seconds, 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
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
    utilisation = certificate.utilisation
    binding = max(utilisation, key=lambda metric: utilisation[metric])
    measured = certificate.measured
    return {
        "architecture": f"architectures/{derived.device}.json",
        "weights": f"weights/{derived.device}.safetensors",
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
        "recounted": certificate.recounted,
        "measured": None if measured is None else {"latency_ms": measured.p50_ms, **asdict(measured)},
        "measured_reason": None if measured else "the device is neither this machine nor one of boards",
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
