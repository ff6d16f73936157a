"""The pruning log: every choice that went, in order; replayed, it gives the masks and the networks again.

A network that was found for another device may have choices that went here; they come back in a row of their own.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from hardware_models.budgets.cost_table import METRICS, Mask
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import text_of
from search_spaces.space import Choice, Decision, SearchSpace
from trainers.runs.files import write_csv
from trainers.search.search_state import PruneRecord

SAVED = tuple(f"saved_{metric}" for metric in METRICS)
LOST, OFFERED = "validation", "offered"  # reasons: it is not of the network taken; it is, and came back with it
COLUMNS = ("step", "device", "decision", "choice", "logit", *SAVED, "reason")


def prune_rows(
    records: Sequence[PruneRecord], space: SearchSpace, derived: Mapping[str, Mapping[str, Choice]], *, last_step: int
) -> list[dict[str, Any]]:
    """Rows of the pruning log: the removals, then for each device the choices that its derived network brought back and
    those that lost to it.
    """
    rows = [
        {
            "step": record.step,
            "device": record.device,
            "decision": record.removal.decision,
            "choice": record.removal.choice,
            "logit": f"{record.removal.utility:.6g}",
            **{f"saved_{metric}": f"{value:.6g}" for metric, value in record.removal.saved.items()},
            "reason": record.removal.reason,
        }
        for record in records
    ]
    for device, choices in derived.items():
        gone = {(r["decision"], r["choice"]) for r in rows if r["device"] == device}
        for decision in space.decisions:
            taken = choices[decision.name]
            lost = [c for c in decision.choices if c != taken and (decision.name, c) not in gone]
            final: dict[str, Choice] = {"step": last_step, "device": device, "decision": decision.name}
            if (decision.name, taken) in gone:
                rows.append({**final, "choice": taken, "reason": OFFERED})
            rows += [{**final, "choice": choice, "reason": LOST} for choice in lost]
    return rows


def write_prune_log(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_csv(path, rows, COLUMNS)


def replay(path: Path, space: SearchSpace, device: str, *, reasons: Sequence[str] | None = None) -> Mask:
    """Choices (N,) of one device that are left after the pruning log's removals, of all reasons or of those given.

    Raises: InvalidInputError if it cannot be read, or a row names a decision or choice that the space lacks, one that
    is gone already, or one that comes back and never went.
    """
    try:
        rows = [row for row in csv.DictReader(StringIO(text_of(path), newline="")) if row["device"] == device]
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidInputError(f"cannot read {path}: {error}") from error
    places = {(d.name, str(choice)): place for place, (d, choice) in enumerate(_choices(space))}
    mask_N = np.ones(len(places), dtype=bool)
    for row in rows:
        if reasons is not None and row["reason"] not in reasons:
            continue
        place = places.get((row["decision"], row["choice"]))
        comes_back = row["reason"] == OFFERED
        if place is None or mask_N[place] == comes_back:
            why = "is no choice" if place is None else "comes back, but never went" if comes_back else "goes twice"
            raise InvalidInputError(f"{path}: {row['decision']} = {row['choice']} of {device} {why}")
        mask_N[place] = comes_back
    return mask_N


def replay_network(path: Path, space: SearchSpace, device: str) -> dict[str, Choice]:
    """The network that the whole pruning log leaves. Raises: InvalidInputError if it does not leave exactly one."""
    mask_N = replay(path, space, device)
    left = [(d.name, choice) for (d, choice), alive in zip(_choices(space), mask_N, strict=True) if alive]
    many = [name for name, count in Counter(name for name, _ in left).items() if count > 1]
    if many or len(left) < len(space.decisions):
        raise InvalidInputError(f"{path}: {device} has not exactly one choice left for each decision: {many or left}")
    return dict(left)


def _choices(space: SearchSpace) -> list[tuple[Decision, Choice]]:
    """All choices with their decisions, in the order of a mask."""
    return [(decision, choice) for decision in space.decisions for choice in decision.choices]
