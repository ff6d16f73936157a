"""What a run takes from the run that it is derived from: its supernet and logits, and which choices it may use."""

# Shapes: N choices of all decisions.

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from hardware_models.budgets.budget_problem import BudgetProblem, Removal, Survivors
from hardware_models.budgets.cost_table import METRICS, Array, Mask
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import bytes_of
from search_spaces.space import Choice, SearchSpace
from trainers.runs.config import ParentConfig, is_host
from trainers.runs.result import Result, read_result
from trainers.runs.warnings import WELL_USED
from trainers.search.callbacks import Report
from trainers.search.computing import take_selections
from trainers.search.plan import Plan
from trainers.search.search_state import PruneRecord, SearchState
from trainers.search.trained import Kept, KeptDevice, Trained, asked_of, own_part, read_supernet

REMOVED = "parent"  # the pruning log's reason for choices that the pruning of the parent run had removed


def parent_result(folder: Path) -> tuple[Result, str]:
    """The result of a finished run and the sha256 of its file. Raises: InvalidInputError."""
    path = folder / "result.json"
    try:
        content = bytes_of(path)
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"from: no finished run in {folder}: {error}; give the folder <runs>/<sweep>/<run> of one"
        ) from error
    return read_result(path), hashlib.sha256(content).hexdigest()


def inherit(plan: Plan, parent: ParentConfig, state: SearchState, report: Report) -> Trained:
    """The supernet of the parent run, and in `state` the choices that each device may use.

    A device that the parent was asked for with the same profile and budgets has the choices that were left to it there.
    Any other has those that were active on some device to the end, as the supernet was trained for them; or, where the
    networks of these use too little of its budgets, or are beyond them, all choices. Its logits are its own if the
    parent searched for it, else those that all devices shared.
    Raises: InvalidInputError if the parent keeps no supernet, or has changed.
    """
    folder = Path(parent.run)
    result, digest = parent_result(folder)
    if digest != parent.result:
        raise InvalidInputError(f"{folder / 'result.json'} has changed since this was asked; repeat the command")
    kept = read_supernet(folder, result)
    heritage = Heritage(plan.space, kept)
    names, logits, numbers = list(kept.state.devices), [], []
    for device, problem in enumerate(plan.problems):
        base = parent.points.get(problem.name, problem.name)
        own = kept.state.devices.get(base)
        logits.append(heritage.logits(None if own is None else names.index(base)))
        numbers.append(len(names) + device if own is None else names.index(base))
        before = state.survivors[device]
        left = _same(plan, problem, own, heritage)
        if left is None:
            left = _trained_to_the_end(problem, before, logits[-1], heritage.active_N)
        if left is None:
            report(
                f"{problem.name}: its budgets ask for choices that pruning had removed on all devices of "
                f"{folder.name}; they are open again, though the supernet was not trained for them to the end"
            )
            continue
        state.survivors[device] = left
        state.prune_log += _removals(plan.space, problem.name, before.mask_N & ~left.mask_N, logits[-1])
    supernet = plan.searched.supernet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        own_part(supernet).load_state_dict(dict(kept.weights))
    except RuntimeError as error:
        raise InvalidInputError(f"the supernet of {folder} is not one of space {plan.space.name}: {error}") from error
    if plan.config.trainer.accelerator == "gpu":
        take_selections(supernet)
    return Trained(kept.state.id, supernet, logits, numbers, stale=heritage.stale())


class Heritage:
    """What a parent keeps of each choice, as the decisions of `space` have them.

    The devices of a run may add decisions, of the unit that runs a part: of those that the parent lacks, all choices
    are active, with logits 0.
    """

    def __init__(self, space: SearchSpace, kept: Kept) -> None:
        self.space, self.kept = space, kept
        self.starts: dict[str, int] = {}
        total = 0
        for name, choices in kept.state.decisions.items():
            self.starts[name] = total
            total += len(choices)
        known = {name: tuple(choices) for name, choices in kept.state.decisions.items()}
        wrong = [d.name for d in space.decisions if d.name in known and known[d.name] != d.choices]
        if wrong or kept.shared_N.shape != (total,) or kept.offsets_DN.shape != (len(kept.state.devices), total):
            raise InvalidInputError(f"the kept supernet is of another space than {space.name}: {', '.join(wrong)}")
        self.active_N = self.mask(list(kept.state.devices.values()))

    def logits(self, device: int | None) -> Array:
        """Logits (N,) of a device of the parent, or those that its devices shared."""
        kept = self.kept
        values_N = (kept.shared_N if device is None else kept.shared_N + kept.offsets_DN[device]).double().numpy()
        blocks = []
        for decision in self.space.decisions:
            start, count = self.starts.get(decision.name), len(decision.choices)
            blocks.append(np.zeros(count) if start is None else values_N[start : start + count])
        logits_N: Array = np.concatenate(blocks)
        return logits_N

    def mask(self, devices: Sequence[KeptDevice]) -> Mask:
        """Choices (N,) that were active on some of these devices."""
        blocks = []
        for decision in self.space.decisions:
            if decision.name not in self.starts:
                blocks.append(np.ones(len(decision.choices), dtype=bool))
                continue
            active = {k for device in devices for k in device.active.get(decision.name, [])}
            blocks.append(np.isin(np.arange(len(decision.choices)), list(active)))
        mask_N: Mask = np.concatenate(blocks)
        return mask_N

    def survivors(self, own: KeptDevice) -> Survivors | None:
        """What was left to a device; none where its networks have other decisions now."""
        if list(self.starts) != [decision.name for decision in self.space.decisions]:
            return None
        return Survivors(self.mask([own]), tuple(own.incumbent))

    def stale(self) -> Mapping[str, Sequence[Choice]]:
        """The choices that were active on no device."""
        sizes = np.cumsum([len(decision.choices) for decision in self.space.decisions])[:-1]
        blocks = zip(self.space.decisions, np.split(self.active_N, sizes), strict=True)
        return {
            decision.name: [choice for choice, active in zip(decision.choices, mask, strict=True) if not active]
            for decision, mask in blocks
        }


def _same(plan: Plan, problem: BudgetProblem, own: KeptDevice | None, heritage: Heritage) -> Survivors | None:
    """What the parent left to a device that it was asked for as it is now; none to others, or where prices differ."""
    mapping = plan.config.hardware[problem.name]
    if own is None or is_host(mapping) or own.asked != asked_of(mapping, margin=plan.config.margin):
        return None
    left = heritage.survivors(own)
    if left is None or len(left.incumbent) != len(plan.space.decisions):
        return None
    return left if problem.is_feasible(np.array([left.incumbent]))[0] else None


def _trained_to_the_end(problem: BudgetProblem, before: Survivors, logits_N: Array, active_N: Mask) -> Survivors | None:
    """The active and possible choices; none where no network of them fits, or all use little of the budgets."""
    mask_N = before.mask_N & active_N
    if (mask_N == before.mask_N).all():
        return before
    starts = problem.table.first_choice[:-1]
    if not np.logical_or.reduceat(mask_N, starts).all():
        return None
    try:
        mask_N = problem.table.rules.reduced(mask_N)
    except InvalidInputError:  # no network of these choices obeys the rules
        return None
    best = problem.select(logits_N, mask_N=mask_N)
    if best is None or problem.overshoot(mask_N).max() < WELL_USED:
        return None
    return Survivors(mask_N, best.indices)


def _removals(space: SearchSpace, device: str, gone_N: Mask, logits_N: Array) -> list[PruneRecord]:
    pairs = [(decision.name, choice) for decision in space.decisions for choice in decision.choices]
    saved: dict[str, float] = dict.fromkeys(METRICS, 0.0)
    return [
        PruneRecord(0, device, Removal(*pairs[place], float(logits_N[place]), saved, REMOVED))
        for place in np.flatnonzero(gone_N)
    ]
