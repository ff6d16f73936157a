"""What a finished search leaves: result.json, architectures, weights and the pruning log."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any

from hardware_models.budgets.budget_problem import BudgetProblem
from search_spaces.space import Choice, SearchSpace
from trainers.deploy.onnx_file import file_record
from trainers.runs.files import write_csv, write_text
from trainers.runs.folder import RunFolder
from trainers.runs.lineage import lineage
from trainers.runs.result import (
    SCHEMA,
    BestRow,
    CandidateRow,
    Certified,
    CutRow,
    DeployedFile,
    DeviceResult,
    Measured,
    PriorRecord,
    ProfileRecord,
    PruningRecord,
    Result,
    Search,
    Stay,
    Transfer,
)
from trainers.runs.result_parts import Accuracy, BalancedAccuracy, Validation
from trainers.runs.state import architecture_file, best_file, best_weights_file, onnx_path, weights_file
from trainers.runs.transfer import predicted_on
from trainers.runs.versions import file_hashes, versions
from trainers.runs.warnings import WELL_USED
from trainers.search.candidates import Candidate, agreement, decided_by
from trainers.search.certificate import Certificate
from trainers.search.computing import accelerator_here
from trainers.search.deployment import size_of
from trainers.search.derive import Derived
from trainers.search.front import FRONT_FILE, front_rows
from trainers.search.network_files import write_networks
from trainers.search.plan import Plan
from trainers.search.priors.prior import Prior
from trainers.search.progress import entropy_of, weights_of
from trainers.search.provenance import Computed, hashes
from trainers.search.prune_log import prune_rows, write_prune_log
from trainers.search.search_state import SearchState, trusted
from trainers.search.trained import SUPERNET_FILES, Trained

MEAN_DECIMALS = 12  # fewer than the noise of a sum, more than any number of images tells apart
NOT_MEASURABLE = "the device is neither this machine nor one of boards"
RUN_FILES = ("config.yaml", "metrics.csv", "alphas.npz", "prune.csv", "lineage.json")
OF_TRAINING = ("metrics.csv", "alphas.npz")  # of a supernet


def run_files(*, steps: int, keep: str = "none", front: bool = False) -> list[str]:
    """The files of a run, beside those of its devices, whose supernet was trained for so many steps and `keep` kept."""
    found = [name for name in RUN_FILES if steps or name not in OF_TRAINING]
    if steps and keep == "supernet":
        found += SUPERNET_FILES
    return [*found, FRONT_FILE] if front else found


def write_result(
    plan: Plan,
    state: SearchState,
    trained: Trained | None,
    prior: Prior | None,
    derived: Sequence[Derived],
    folder: RunFolder,
    *,
    computed: Computed,
    seconds: dict[str, float],
    cpu_seconds: float,
    peaks: Mapping[str, int | None],
) -> Result:
    """Writes every file of the result, result.json last, and returns its content."""
    files = file_hashes(folder.path, write_networks(plan, derived, folder.path))
    choices = {network.device: plan.space.choices(network.verdict.candidate.indices) for network in derived}
    rows = prune_rows(state.prune_log, plan.space, choices, last_step=state.step)
    write_prune_log(folder.path / "prune.csv", rows)
    stale = {} if trained is None else trained.stale or {}
    devices = {network.device: _device(plan, network, stale) for network in derived}
    points = {} if plan.config.parent is None else plan.config.parent.points
    if points:
        points_rows = front_rows(devices, points)
        write_csv(folder.path / FRONT_FILE, points_rows, list(dict.fromkeys(key for row in points_rows for key in row)))
    own = run_files(steps=state.step, keep=plan.config.trainer.keep, front=bool(points))
    supernet = None if trained is None else trained.id
    record = lineage(plan.config.run_key, supernet, hashes(plan), devices, files, parent=plan.config.parent)
    write_text(folder.path / "lineage.json", record.to_json())
    result = Result(
        schema=SCHEMA,
        status="done" if all(device.met for device in devices.values()) else "unmet",
        command=folder.command,
        attempts=folder.attempt,
        space=plan.space.name,
        strategy=plan.config.strategy["name"],
        seed=plan.config.seed,
        data=plan.data.record(),
        devices=devices,
        objective=objective(devices, seconds=sum(seconds.values())),
        transfer={network.device: transfer(plan.problems, network.verdict.candidate.indices) for network in derived},
        search=_search(plan, state, trained, prior, seconds=seconds, cpu_seconds=cpu_seconds, peaks=peaks),
        hashes=hashes(plan),
        files=files | file_hashes(folder.path, own),
        versions=versions(),
        threads=computed.threads,
        processors=computed.processors,
        code=computed.code[-1],
        earlier_code=computed.code[:-1],
    )
    write_text(folder.path / "result.json", result.to_json())
    return result


def objective(devices: Mapping[str, DeviceResult], *, seconds: float) -> dict[str, float]:
    """What a sweep may compare or bound.

    Of accuracies only those on the validation split: the test split is for the end. Costs are the figures that decide
    of the budgets, measured and counted where they are; `utilisation` is the largest share of any budget.
    """
    found = {
        "validation_accuracy": round(fmean(d.validation.accuracy for d in devices.values()), MEAN_DECIMALS),
        "utilisation": max(device.used for device in devices.values()),
        "seconds": seconds,
    }
    for name, device in devices.items():
        found[f"{name}/validation_accuracy"] = device.validation.accuracy
        found |= {f"{name}/{metric}": value for metric, value in device.held.items()}
    return found


def transfer(problems: Iterable[BudgetProblem], indices: tuple[int, ...]) -> dict[str, Transfer]:
    """What a network is predicted to cost on every device of a search, and whether it is within its budgets."""
    return {problem.name: predicted_on(problem, indices) for problem in problems}


def _search(
    plan: Plan,
    state: SearchState,
    trained: Trained | None,
    prior: Prior | None,
    *,
    seconds: dict[str, float],
    cpu_seconds: float,
    peaks: Mapping[str, int | None],
) -> Search:
    settings, module = plan.config.trainer, None if trained is None else trained.module
    devices = list(zip(state.problems, state.survivors, strict=True))
    return Search(
        train_seconds=round(seconds["train"], 2),
        derive_seconds=round(seconds["derive"], 2),
        cpu_seconds=None if isnan(cpu_seconds) else round(cpu_seconds, 3),
        prior=None if prior is None else _prior(prior, seconds=seconds["prior"]),
        steps=state.step,
        entropy=None if module is None else round(entropy_of(module, weights_of(module)), 4),
        pruning=_pruning(state) if state.agreements else None,
        step_over_floor=None if module is None else round(module.step_seconds / module.pass_seconds, 3),
        accelerator=accelerator_here(settings.accelerator),
        processes=settings.devices,
        precision=settings.precision,
        **peaks,
        choices_alive={problem.name: int(survivors.mask_N.sum()) for problem, survivors in devices},
        worst_surviving_share={
            problem.name: round(float(problem.overshoot(survivors.mask_N).max()), 6) for problem, survivors in devices
        },
    )


def _pruning(state: SearchState) -> PruningRecord:
    agreements, last = state.agreements, state.agreements[-1]
    by_logits = sum(trusted(agreement) for agreement in agreements)
    return PruningRecord(
        events=len(agreements), by_logits=by_logits, agreement=None if last is None else round(last, 4)
    )


def _prior(prior: Prior, *, seconds: float) -> PriorRecord:
    return PriorRecord(
        networks=len(prior.networks_Sn),
        tau=round(prior.of_networks.tau, 4),
        agreement={name: round(tau, 4) for name, tau in prior.agreement.items()},
        seconds=round(seconds, 2),
    )


def certified(
    problem: BudgetProblem, indices: tuple[int, ...], certificate: Certificate, *, id: str, measured: Measured | None
) -> Certified:
    """The network of a device with its costs and budgets, as a result has them; `id` is that of its architecture."""
    space, profile, held = problem.table.space, problem.profile, certificate.held
    placement = certificate.placement
    return Certified(
        architecture=architecture_file(Path(), problem.name).as_posix(),
        weights=weights_file(Path(), problem.name).as_posix(),
        id=id,
        notation=space.notation(space.choices(indices)),
        met=held.broken is None,
        refuted_by=held.broken,
        binding=max(held.utilisation, key=lambda metric: held.utilisation[metric]),
        budgets=problem.limits,
        margin=problem.margin,
        utilisation=held.utilisation,
        predicted=certificate.predicted,
        upper=certificate.upper,
        upper_level=None if profile.network_bound is None else profile.network_bound.level,
        upper_subject=None if profile.network_bound is None else profile.network_bound.subject,
        held=held.figures,
        held_by=held.origins,
        recounted=certificate.recounted,
        measured=measured,
        measured_reason=None if measured else NOT_MEASURABLE,
        placement=None if placement is None else [Stay(**stay) for stay in placement],
        profile=ProfileRecord(**profile.provenance),
    )


def _device(plan: Plan, derived: Derived, stale: Mapping[str, Sequence[Choice]]) -> DeviceResult:
    problem = next(p for p in plan.problems if p.name == derived.device)
    verdict = derived.verdict
    taken, time = verdict.candidate, verdict.certificate.measured
    measured = None if time is None else Measured(latency_ms=time.p50_ms, **asdict(time))
    found = certified(problem, taken.indices, verdict.certificate, id=derived.architecture.id, measured=measured)
    return DeviceResult(
        **dict(found),
        cut=[CutRow(**dict(_row(plan, c)), refuted_by=refuted.refuted_by or "") for c, refuted in verdict.refuted],
        trained_size=list(plan.trained_size(taken.indices)),
        trained_smaller=plan.searched is not plan.space,
        input_size=list(plan.space.input_shape(plan.space.choices(taken.indices))[1:]),
        file=_file(plan, derived),
        accuracy=_accuracy(derived),
        validation=Validation(**asdict(taken.validation)),
        larger_candidates_that_lost=_larger(plan, derived, found.used),
        stale=stale_choices(plan.space, plan.space.choices(taken.indices), stale),
        taken=_row(plan, taken),
        best=_best(plan, problem, derived),
        decided_by=decided_by(derived.candidates),
        agreement={name: round(tau, 4) for name, tau in agreement(derived.candidates).items()},
        candidates=[_row(plan, candidate) for candidate in derived.candidates],
        random_candidates=[_row(plan, candidate) for candidate in derived.random_candidates],
    )


def _accuracy(derived: Derived) -> Accuracy:
    finished = derived.finished
    scores: dict[str, Any] = {kind: getattr(derived, kind) for kind in ("supernet", "inherited", "random")}
    scores |= {"finetuned": finished.finetuned, "deployed": finished.deployed}
    return Accuracy(
        **{kind: score and score.accuracy for kind, score in scores.items()},
        images=derived.finished.finetuned.images,
        balanced=BalancedAccuracy(**{kind: score and score.balanced_accuracy for kind, score in scores.items()}),
    )


def _file(plan: Plan, derived: Derived) -> DeployedFile | None:
    content = derived.finished.file
    if content is None:
        return None
    data = plan.data_at(size_of(plan, derived.verdict.candidate.indices))
    return file_record(onnx_path(Path(), derived.device), content, data)


def _larger(plan: Plan, derived: Derived, used: float) -> list[CandidateRow] | None:
    """The validated networks that use more of the budget and came behind; none where the budget is well used."""
    if used >= WELL_USED:
        return None
    chosen = derived.verdict.candidate  # like with like: of those that lost, no placement was certified
    return [_row(plan, c) for c in derived.candidates if c.utilisation > chosen.utilisation]


def stale_choices(
    space: SearchSpace, choices: Mapping[str, Choice], stale: Mapping[str, Sequence[Choice]]
) -> list[str]:
    """Those choices of a network that are among the `stale` ones and that it uses, in words."""
    named = [d for d in space.decisions if choices[d.name] in stale.get(d.name, ())]
    others = [(d, next((choice for choice in d.choices if choice != choices[d.name]), None)) for d in named]
    notation = space.notation(choices)
    return [
        f"{d.name} = {choices[d.name]}"
        for d, other in others
        if other is None or space.notation({**choices, d.name: other}) != notation
    ]


def _best(plan: Plan, problem: BudgetProblem, derived: Derived) -> list[BestRow]:
    rows = []
    for rank, best in enumerate(derived.best, 1):
        weights = None if best.network is None else best_weights_file(Path(), problem.name, rank).as_posix()
        rows.append(
            BestRow(
                **dict(_row(plan, best.candidate)),
                id=best.architecture.id,
                architecture=best_file(Path(), problem.name, rank).as_posix(),
                weights=weights,
                predicted=predicted(problem, best.candidate.indices),
            )
        )
    return rows


def predicted(problem: BudgetProblem, indices: tuple[int, ...]) -> dict[str, float]:
    """Estimates of all metrics of a network on its device."""
    totals = problem.table.named(indices, problem.device)
    return {metric: problem.profile.estimate(metric, total) for metric, total in totals.items()}


def _row(plan: Plan, candidate: Candidate) -> CandidateRow:
    return CandidateRow(
        notation=plan.space.notation(plan.space.choices(candidate.indices)),
        utilisation=round(candidate.utilisation, 4),
        validation_accuracy=candidate.validation.accuracy,
        validation_loss=candidate.validation.loss,
        evidence=dict(candidate.evidence),
    )
