"""The trials of one process: taken under the study's lock, kept alive, and settled or given back.

A trial belongs to the process that it names. One whose process is gone goes back to those that wait, so it is
run again under its own number, by one process only. Clocks of machines that share a study agree within a minute.
"""

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainers.runs.state import FINISHED, this_process, why_lost
from trainers.tuning.studies import num_points, sampler_of
from trainers.tuning.study_place import locked, open_storage
from trainers.tuning.tuning_config import TuningConfig

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial, TrialState

OWNER, HEARTBEAT, ATTEMPT, AGAIN, SAME_AS = "owner", "heartbeat", "attempt", "runs_again", "same_as"
INFEASIBLE = "budgets"  # name of the constraint that a search without any network within its budgets violates
BEAT_SECONDS = 15.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0  # before a trial that was put off is run again


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `status` is that of its run, or refused or busy; without an objective unless it ended."""

    status: str
    objective: Mapping[str, float]
    folder: str | None = None
    error: str | None = None


class Turns:
    """Takes trials of a study for this process and tells what became of them."""

    def __init__(self, study: "Study", config: TuningConfig, space: "Mapping[str, BaseDistribution]") -> None:
        self.study, self.config, self.space = study, config, dict(space)
        self.storage = open_storage(config.place)
        self.study_id = self.storage.get_study_id_from_name(config.study_name)
        self.owner = this_process()
        self.num_points = num_points(space)
        self.held: dict[int, Trial] = {}
        self.waiting: list[Trial] = []  # those held that are run once their duplicate is known not to end
        self.put_offs: list[tuple[float, Trial]] = []  # those held that are run once `time.monotonic` is so far
        self.pauses: dict[int, float] = {}  # seconds for which a trial is put off next, by its number

    def retry_failed(self) -> int:
        """How many trials that failed are lined up to run again. They no longer count, those in their place do."""
        from optuna.trial import TrialState

        with locked(self.config.place):
            trials = self.study.get_trials(deepcopy=False)
            replaced = {trial.user_attrs.get(AGAIN) for trial in trials}
            failed = [t for t in trials if t.state == TrialState.FAIL and t.number not in replaced]
            for trial in failed:
                self.study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})
        return len(failed)

    def take(self, count: int) -> tuple[list["Trial"], list["FrozenTrial"]]:
        """Up to `count` trials to run now, and those that were told at once because a duplicate had ended.

        Both empty if none are left, or all that are left are run by others.
        """
        taken: list[Trial] = []
        told: list[FrozenTrial] = []
        with locked(self.config.place):
            self._recover()
            waited, self.waiting = [*self.waiting, *self._due()], []
            while len(taken) < count and (waited or self._is_one_left()):
                trial = waited.pop(0) if waited else self._ask()
                duplicate = self._twin(trial)
                if duplicate is None:
                    taken.append(trial)
                elif duplicate.state.is_finished():
                    told.append(self._tell_as(trial, duplicate))
                else:
                    self.waiting.append(trial)
            self.waiting += waited
        return taken, told

    def is_over(self) -> bool:
        """Whether every trial of the study has ended."""
        return not self._is_one_left() and all(t.state.is_finished() for t in self.study.get_trials(deepcopy=False))

    def settle(self, trial: "Trial", outcome: Outcome) -> "FrozenTrial | None":
        """The trial with what became of it told to the study; none if another process has it by now."""
        state, values, constraints = self._verdict(outcome)
        notes = {"status": outcome.status, "folder": outcome.folder, "error": outcome.error}
        with locked(self.config.place):
            if self.held.pop(trial.number, None) is None or not self._is_mine(trial.number):
                return None
            for key, value in {**notes, "figures": dict(outcome.objective)}.items():
                trial.set_user_attr(key, value)
            self._tell(trial, state, values, constraints)
        return self._now(trial.number)

    def give_back(self, trials: "Iterable[Trial] | None" = None) -> None:
        """Lets others, or a repetition of the command, run these trials, whose jobs were lost, or all that are held."""
        with locked(self.config.place):
            for number in list(self.held) if trials is None else [trial.number for trial in trials]:
                if self.held.pop(number, None) is not None and self._is_mine(number):
                    self._put_back(number, lost=trials is not None)

    def put_off(self, trial: "Trial") -> None:
        """Keeps a trial whose run another process is at, for a pause that doubles each time. It is no new attempt."""
        pause_s = self.pauses.get(trial.number, FIRST_PAUSE_SECONDS)
        self.pauses[trial.number] = min(2 * pause_s, LONGEST_PAUSE_SECONDS)
        self.put_offs.append((time.monotonic() + pause_s, trial))

    def has_succeeded(self) -> bool:
        """Whether any job of the study has come to its end."""
        from optuna.trial import TrialState

        return bool(self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]))

    def attempt(self, trial: "Trial") -> int:
        """Which attempt at a trial this is: one more than were lost with their process."""
        return int(self._now(trial.number).user_attrs[ATTEMPT])

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Shows other processes that the trials held are being run."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(BEAT_SECONDS):
                for number in list(self.held):
                    try:
                        self._note(number, {HEARTBEAT: time.time()})
                    except Exception:  # the trial has ended meanwhile, or the storage is away: the main thread will see
                        continue

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def tried_all(self) -> bool:
        """Whether the study has a trial of every point of its search space."""
        if math.isinf(self.num_points):
            return False
        # Samplers may differ in the last digits of a number.
        points = {
            tuple(f"{key}={value:.9g}" if isinstance(value, float) else f"{key}={value}" for key, value in params)
            for params in (sorted(t.params.items()) for t in self.study.get_trials(deepcopy=False))
            if len(params) == len(self.space)  # not of one that is lined up to run again
        }
        return len(points) >= self.num_points

    def _due(self) -> list["Trial"]:
        now, put_offs = time.monotonic(), self.put_offs
        self.put_offs = [(moment, trial) for moment, trial in put_offs if moment > now]
        return [trial for moment, trial in put_offs if moment <= now]

    def _is_one_left(self) -> bool:
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False)
        replaced = {trial.user_attrs.get(AGAIN) for trial in trials}
        counted = sum(trial.number not in replaced for trial in trials)
        if any(trial.state == TrialState.WAITING for trial in trials):
            return True
        return counted < self.config.n_trials and not self.tried_all()

    def _ask(self) -> "Trial":
        self.study.sampler = sampler_of(self.config, len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask(fixed_distributions=self.space)
        attempt = trial.user_attrs.get(ATTEMPT, 1)
        self._note(trial.number, {OWNER: self.owner, HEARTBEAT: time.time(), ATTEMPT: attempt})
        self.held[trial.number] = trial
        return trial

    def _twin(self, trial: "Trial") -> "FrozenTrial | None":
        """The earlier trial of the same parameters, ended if one has; none if this one is to be run."""
        from optuna.trial import TrialState

        others = [t for t in self.study.get_trials(deepcopy=False) if t.number != trial.number]
        duplicates = [t for t in others if t.params == trial.params and t.state != TrialState.FAIL]
        ended = [duplicate for duplicate in duplicates if duplicate.state.is_finished()]
        # Two jobs in one run folder would be one too many: the later trial waits for the earlier.
        return next(iter([*ended, *(duplicate for duplicate in duplicates if duplicate.number < trial.number)]), None)

    def _tell_as(self, trial: "Trial", duplicate: "FrozenTrial") -> "FrozenTrial":
        from optuna.trial import TrialState

        for key in ("status", "folder", "figures"):
            trial.set_user_attr(key, duplicate.user_attrs.get(key))
        trial.set_user_attr(SAME_AS, duplicate.number)
        values = None if duplicate.state == TrialState.PRUNED else duplicate.values
        self._tell(trial, duplicate.state, values, duplicate.constraints)
        del self.held[trial.number]
        return self._now(trial.number)

    def _verdict(self, outcome: Outcome) -> tuple["TrialState", list[float] | None, dict[str, float]]:
        from optuna.trial import TrialState

        if outcome.status in FINISHED:
            values = [float(outcome.objective[name]) for name in self.config.objectives]
            over = {name: float(outcome.objective[name]) - limit for name, limit in self.config.constraints.items()}
            return TrialState.COMPLETE, values, over
        if outcome.status == "infeasible":  # without values, so not complete; samplers learn from the constraint
            return TrialState.PRUNED, None, {INFEASIBLE: 1.0}
        return (TrialState.PRUNED if outcome.status == "stopped" else TrialState.FAIL), None, {}

    def _tell(
        self, trial: "Trial", state: "TrialState", values: list[float] | None, constraints: Mapping[str, float]
    ) -> None:
        told = self._now(trial.number).constraints  # by a process that was killed before its last step
        for name, value in constraints.items():
            if name not in told:
                trial.set_constraint(name, value)
        self.study.tell(trial, values, state)

    def _recover(self) -> None:
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if trial.number not in self.held and is_lost(trial.user_attrs, self.owner, now=time.time()):
                self._put_back(trial.number, lost=trial.user_attrs.get(OWNER) is not None)

    def _put_back(self, number: int, *, lost: bool) -> None:
        from optuna.trial import TrialState

        attempt = self._now(number).user_attrs.get(ATTEMPT, 1)
        self._note(number, {OWNER: None, ATTEMPT: attempt + lost})
        self.storage.set_trial_state_values(self._trial_id(number), TrialState.WAITING)

    def _is_mine(self, number: int) -> bool:
        return bool(self._now(number).user_attrs.get(OWNER) == self.owner)

    def _now(self, number: int) -> "FrozenTrial":
        return self.storage.get_trial(self._trial_id(number))

    def _note(self, number: int, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            self.storage.set_trial_user_attr(self._trial_id(number), key, value)

    def _trial_id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)


def is_lost(notes: Mapping[str, Any], mine: Mapping[str, Any], *, now: float) -> bool:
    """Whether a running trial that the process `mine` does not hold is held by none: its process is gone."""
    owner = notes.get(OWNER)
    # Killed between two steps of taking the trial, which only the holder of the lock does; or unable to give it back.
    if owner is None or owner == mine:
        return True
    silent_s = now - notes.get(HEARTBEAT, 0.0)
    return why_lost(owner["pid"], owner["pid_start"], host=owner["host"], silent_s=silent_s) is not None
