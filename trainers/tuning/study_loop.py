"""The loop of a study: take trials, launch them as jobs, tell what became of them, say so."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from search_spaces.errors import EspalierError, InvalidInputError
from trainers.runs.state import FINISHED
from trainers.tuning.study_lines import trial_line
from trainers.tuning.study_place import answering
from trainers.tuning.trial_queue import Outcome, Turns

if TYPE_CHECKING:
    from optuna.trial import Trial

Report = Callable[[str], None]
Launch = Callable[[Sequence["Trial"]], list[Outcome]]
POLL_SECONDS = 1.0
MAX_ATTEMPTS = 3  # of a trial whose process dies before it counts as failed


class JobsLostError(EspalierError):
    """A launcher came back without saying what became of its jobs, as when a worker is killed."""


def run_study(turns: Turns, launch: Launch, report: Report) -> None:
    """Runs trials until the study has all of them, whoever runs them, or of all points, or until the time is up.

    Raises: InvalidInputError if the jobs cannot be trials of this study.
    """
    config = turns.config
    again = turns.retry_failed()
    if again:
        report(f"{again} of its trials failed and run again")
    deadline = math.inf if config.timeout_s is None else time.monotonic() + config.timeout_s
    waits = False
    try:
        with turns.alive():
            while time.monotonic() < deadline:
                batch, told = turns.take(config.n_jobs)
                for trial in told:
                    report(trial_line(turns.study, trial, config))
                if batch:
                    _run(turns, batch, launch, report)
                elif turns.is_over():
                    if turns.tried_all():
                        report(f"all {turns.num_points:.0f} points of the search space have been tried")
                    return
                elif not told:
                    if not waits:
                        report("waiting for the trials of other processes; Ctrl-C leaves them to it")
                    waits = True
                    time.sleep(POLL_SECONDS)
            report(f"the time of {config.timeout_s:g} s is up; the same command continues")
    finally:
        # A storage that is away does not hide what ended the study: others take its trials once this process is gone.
        with suppress(EspalierError), answering(config.place):
            turns.give_back()


def _run(turns: Turns, batch: Sequence["Trial"], launch: Launch, report: Report) -> None:
    try:
        outcomes = launch(batch)
    except JobsLostError as error:
        report(f"{error}; the {len(batch)} trials of this batch run again, at most {MAX_ATTEMPTS} times")
        outcomes = [Outcome("interrupted", {}, error=str(error))] * len(batch)
    refusals = []
    for trial, outcome in zip(batch, outcomes, strict=True):
        if outcome.status == "busy":  # whoever is at its run folder will end it
            turns.put_off(trial)
            continue
        if outcome.status == "interrupted" and turns.attempt(trial) < MAX_ATTEMPTS:
            turns.give_back([trial])
            continue
        checked = usable(outcome, [*turns.config.objectives, *turns.config.constraints])
        told = turns.settle(trial, checked)
        if told is None:
            report(f"trial {trial.number} has been taken over by another process meanwhile")
        else:
            report(trial_line(turns.study, told, turns.config))
        if checked.status == "refused":
            refusals.append(checked.error)
    if refusals and not turns.has_succeeded():  # all would be refused alike
        raise InvalidInputError(f"no trial can run: {refusals[0]}")


def usable(outcome: Outcome, names: Sequence[str]) -> Outcome:
    """The same outcome, or a refused or failed one if a figure that the study needs is missing or no number."""
    if outcome.status not in FINISHED:
        return outcome
    missing = [name for name in names if name not in outcome.objective]
    if missing:
        allowed = ", ".join(sorted(outcome.objective))
        return Outcome("refused", {}, outcome.folder, f"{missing[0]}: no such figure of a job; allowed: {allowed}")
    wrong = [name for name in names if not _is_number(outcome.objective, name)]
    if wrong:
        return Outcome("failed", {}, outcome.folder, f"{wrong[0]} is no number: {outcome.objective[wrong[0]]!r}")
    return outcome


def _is_number(objective: Mapping[str, float], name: str) -> bool:
    value = objective[name]
    return isinstance(value, int | float) and math.isfinite(value)
