"""The loop of a study: ask for trials, launch them as jobs, tell the study their results, report each."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from search_spaces.errors import InvalidInputError
from trainers.runs.state import FINISHED
from trainers.tuning.study_lines import trial_line
from trainers.tuning.trials import Outcome, Trials

if TYPE_CHECKING:
    from optuna.trial import Trial

Report = Callable[[str], None]
Launch = Callable[[Sequence["Trial"]], list[Outcome]]
Wait = Callable[[float], None]  # takes seconds
POLL_SECONDS = 1.0  # between looks at trials of other processes
BUSY_SECONDS = 10.0  # before a job is launched again whose run folder another process uses
MAX_ATTEMPTS = 3  # at a trial whose job is lost, before it counts as failed


def run_study(trials: Trials, launch: Launch, report: Report, *, wait: Wait = time.sleep) -> None:
    """Runs trials until the study has all of them, whoever runs them, or until the time is up.

    `launch` runs one job for each of some trials. Raises: InvalidInputError if the jobs cannot be trials of this study.
    """
    if again := trials.retry_failed():
        report(f"{again} of its trials failed and run again")
    limit_s = trials.config.timeout_s
    deadline = math.inf if limit_s is None else time.monotonic() + limit_s
    try:
        with trials.alive():
            while time.monotonic() < deadline:
                if batch := trials.ask(trials.config.n_jobs):
                    _run(trials, batch, launch, report, wait)
                elif trials.is_over():
                    return
                else:  # others run the last trials, or are gone
                    wait(POLL_SECONDS)
        report(f"the time of {limit_s:g} s is up; the same command continues")
    finally:
        # A storage that is away does not hide what ended the study: others take its trials once this process is gone.
        with suppress(Exception):
            trials.give_back()


def _run(trials: Trials, batch: Sequence["Trial"], launch: Launch, report: Report, wait: Wait) -> None:
    """Runs a batch, and tells the study what became of it."""
    names = [*trials.config.objectives, *trials.config.constraints]
    refusals = []
    for trial, outcome in _outcomes(batch, launch, wait):
        if outcome.status == "interrupted" and len(trials.attempts(trial)) < MAX_ATTEMPTS:
            trials.give_back([trial])
            report(f"trial {trial.number} is interrupted and runs again: {outcome.error}")
            continue
        checked = usable(outcome, names)
        if ended := trials.tell(trial, checked):
            report(trial_line(trials.study, ended, trials.config))
        if checked.status == "refused":
            refusals.append(checked.error)
    if refusals and not trials.has_succeeded():  # all would be refused alike
        raise InvalidInputError(f"no trial can run: {refusals[0]}")


def _outcomes(batch: Sequence["Trial"], launch: Launch, wait: Wait) -> list[tuple["Trial", Outcome]]:
    """Each trial with its outcome; one that is alike another runs once that has ended, and finds its result."""
    found = dict(zip(batch, launch(batch), strict=True))
    while busy := [trial for trial, outcome in found.items() if outcome.status == "busy"]:
        wait(BUSY_SECONDS)
        found |= zip(busy, launch(busy), strict=True)
    return list(found.items())


def usable(outcome: Outcome, names: Sequence[str]) -> Outcome:
    """The same outcome, or a refused or failed one if a figure that the study needs is missing or no number."""
    if outcome.status not in FINISHED:
        return outcome
    for name in names:
        value = outcome.objective.get(name, "nothing")
        if not (isinstance(value, int | float) and math.isfinite(value)):
            problem = f"{name}: got {value!r}; allowed: figures of a job, {', '.join(sorted(outcome.objective))}"
            return Outcome("failed" if name in outcome.objective else "refused", {}, outcome.folder, problem)
    return outcome
