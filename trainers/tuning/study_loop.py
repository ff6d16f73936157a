"""The loop of a study: ask for trials, launch them as jobs, tell the study their results, report each."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from search_spaces.errors import EspalierError, InvalidInputError
from trainers.runs.state import FINISHED
from trainers.tuning.study_lines import trial_line
from trainers.tuning.study_storage import GRACE_SECONDS
from trainers.tuning.trials import Outcome, Trials

if TYPE_CHECKING:
    from optuna.trial import Trial

Report = Callable[[str], None]
Launch = Callable[[Sequence["Trial"]], list[Outcome]]
POLL_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0  # before trials are run again whose run folders other processes use
MAX_LOSSES = 3  # of a trial's job, before the trial counts as failed


class JobsLostError(EspalierError):
    """A launcher returned without the results of its jobs, as when a worker is killed."""


def run_study(trials: Trials, launch: Launch, report: Report, *, wait: Callable[[float], None] = time.sleep) -> None:
    """Runs trials until the study has all of them, whoever runs them, or of all points, or until the time is up.

    `launch` runs one job for each of some trials. `wait` is called with seconds.
    Raises: InvalidInputError if the jobs cannot be trials of this study; StudyError if its storage goes away.
    """
    again = trials.retry_failed()
    if again:
        report(f"{again} of its trials failed and run again")
    try:
        with trials.alive():
            _Loop(trials, launch, report, wait).run()
    finally:
        # A storage that is away does not hide what ended the study: others take its trials once this process is gone.
        with suppress(EspalierError):
            trials.give_back()


class _Loop:
    def __init__(self, trials: Trials, launch: Launch, report: Report, wait: Callable[[float], None]) -> None:
        self.trials, self.launch, self.report, self.wait = trials, launch, report, wait
        self.config = trials.config
        self.busy: list[Trial] = []  # to run again once the process that uses their run folder has ended
        self.pause_s = POLL_SECONDS
        self.losses: Counter[int] = Counter()  # by number of the first attempt

    def run(self) -> None:
        limit_s, waits = self.config.timeout_s, False
        deadline = math.inf if limit_s is None else time.monotonic() + limit_s
        while time.monotonic() < deadline:
            batch, repeated = self.trials.ask(self.config.n_jobs)
            for trial in repeated:
                self.report(trial_line(self.trials.study, trial, self.config))
            if batch:
                self.pause_s = POLL_SECONDS
                self._run(batch)
            elif self.busy:
                self.wait(self.pause_s)
                self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_SECONDS)
                batch, self.busy = self.busy[: self.config.n_jobs], self.busy[self.config.n_jobs :]
                self._run(batch)
            elif self.trials.is_over():
                if self.trials.tried_all():
                    self.report(f"all {self.trials.num_points:.0f} points of the search space have been tried")
                return
            elif not repeated:
                if not waits:
                    self.report(
                        "waiting for trials of other processes; one whose process is gone "
                        f"runs again after {GRACE_SECONDS} s"
                    )
                waits = True
                self.wait(POLL_SECONDS)
        self.report(f"the time of {limit_s:g} s is up; the same command continues")

    def _run(self, batch: Sequence["Trial"]) -> None:
        refusals = []
        for trial, outcome in zip(batch, self._outcomes(batch), strict=True):
            if outcome.status == "busy":
                self.busy.append(trial)
                continue
            if outcome.status == "interrupted" and self._may_run_again(trial):
                self.trials.give_back([trial])
                continue
            checked = usable(outcome, [*self.config.objectives, *self.config.constraints])
            ended = self.trials.tell(trial, checked)
            if ended is None:
                self.report(f"trial {trial.number} has been taken over by another process")
            else:
                self.report(trial_line(self.trials.study, ended, self.config))
            if checked.status == "refused":
                refusals.append(checked.error)
        if refusals and not self.trials.has_succeeded():  # all would be refused alike
            raise InvalidInputError(f"no trial can run: {refusals[0]}")

    def _outcomes(self, batch: Sequence["Trial"]) -> list[Outcome]:
        try:
            return self.launch(batch)
        except JobsLostError as error:
            self.report(f"{error}; the {len(batch)} trials of this batch run again, at most {MAX_LOSSES} times")
            return [Outcome("interrupted", {}, error=str(error))] * len(batch)

    def _may_run_again(self, trial: "Trial") -> bool:
        first = self.trials.first_attempt(trial)
        self.losses[first] += 1
        return self.losses[first] < MAX_LOSSES


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
