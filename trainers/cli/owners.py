"""Whose lines are printed, where several jobs print to one terminal."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.errors import InvalidInputError
from trainers.sweeps import sweep
from trainers.sweeps.records import cut, own_overrides, read_sweep


def owner_of(config: Mapping[str, Any], overrides: Sequence[str]) -> str | None:
    """What tells a job of a sweep from the others, as `seed=1 strategy=dual`, or `trial 3`; none of a job alone."""
    if not sweep.in_sweep():
        return None
    trial = config.get("trial")
    if isinstance(trial, Mapping) and "number" in trial:
        return f"trial {trial['number']}"
    try:
        found = read_sweep(sweep.sweep_folder())
    except InvalidInputError:
        return None
    if found is None:
        return None
    if not found.jobs:  # of a study, which chooses them as it goes
        given = set(shlex.split(found.command))
        return cut(" ".join(override for override in overrides if override not in given)) or None
    jobs = [job.overrides for job in found.jobs]
    names = dict(zip(map(tuple, jobs), own_overrides(jobs), strict=True))
    name = names.get(tuple(overrides))
    return None if name is None else cut(name)
