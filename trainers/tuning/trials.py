"""The trials of one process: ask for them, send their heartbeats, tell their results, or queue them to run again."""

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainers.runs.state import FINISHED
from trainers.tuning import study_storage
from trainers.tuning.search_space import num_points
from trainers.tuning.study import attempts_before, current_trials, sampler_of
from trainers.tuning.study_storage import answering, experimental, retry
from trainers.tuning.tuning_config import TuningConfig

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial, TrialState

SAME_AS = "same_as"  # attribute of a trial: number of an earlier one of the same parameters, which was run
INFEASIBLE = "budgets"  # name of the constraint that a search without any network within its budgets violates


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `status` is that of its run, or refused or busy; without an objective unless it ended."""

    status: str
    objective: Mapping[str, float]
    folder: str | None = None
    error: str | None = None


class Trials:
    """Asks a study for trials for this process and tells it what became of them. Raises: StudyError if it is away."""

    def __init__(self, study: "Study", config: TuningConfig, space: "Mapping[str, BaseDistribution]") -> None:
        self.study, self.config, self.space = study, config, dict(space)
        self.storage: Any = study._storage  # with the heartbeat, see study_storage
        self.num_points = num_points(space)
        self.running: dict[int, Trial] = {}  # by number
        self.seen: set[int] = set()  # numbers of running trials of other processes

    def retry_failed(self) -> int:
        """How many trials that have failed are queued to run again."""
        from optuna.trial import TrialState

        with answering(self.config.place):
            failed = [trial for trial in current_trials(self.study) if trial.state == TrialState.FAIL]
            for trial in failed:
                retry(self.study, trial)
        return len(failed)

    def ask(self, count: int) -> tuple[list["Trial"], list["FrozenTrial"]]:
        """Up to `count` trials to run now, and those that ended at once, as earlier ones of the same parameters had.

        Both are empty if none are left, or all that are left are run by others.
        """
        to_run: list[Trial] = []
        repeated: list[FrozenTrial] = []
        with answering(self.config.place):
            self._requeue_lost()
            while len(to_run) < count and self._is_one_left():
                trial = self._ask()
                duplicate = self._ended_duplicate(trial)
                if duplicate is None:
                    to_run.append(trial)
                else:
                    repeated.append(self._tell_as(trial, duplicate))
        return to_run, repeated

    def tell(self, trial: "Trial", outcome: Outcome) -> "FrozenTrial | None":
        """The trial with its outcome; none if another process has taken it over, as after a long sleep of this one."""
        from optuna.exceptions import UpdateFinishedTrialError

        state, values, constraints = self._verdict(outcome)
        notes = {"status": outcome.status, "folder": outcome.folder, "error": outcome.error}
        self.running.pop(trial.number)
        with answering(self.config.place), suppress(UpdateFinishedTrialError):
            return self._tell(trial, {**notes, "figures": dict(outcome.objective)}, state, values, constraints)
        return None

    def give_back(self, trials: "Iterable[Trial] | None" = None) -> None:
        """Queues trials whose jobs were lost, or all of this process, for any process to run again."""
        from optuna.trial import TrialState

        with answering(self.config.place):
            for trial in list(self.running.values()) if trials is None else trials:
                del self.running[trial.number]
                if self._now(trial).state == TrialState.RUNNING:
                    retry(self.study, self.study.tell(trial, state=TrialState.FAIL))

    def is_over(self) -> bool:
        """Whether every trial of the study has ended."""
        with answering(self.config.place):
            return not self._is_one_left() and all(t.state.is_finished() for t in current_trials(self.study))

    def has_succeeded(self) -> bool:
        """Whether any job of the study has come to its end."""
        from optuna.trial import TrialState

        with answering(self.config.place):
            return bool(self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]))

    def tried_all(self) -> bool:
        """Whether the study has a trial of every point of its search space."""
        if math.isinf(self.num_points):
            return False
        # Samplers may differ in the last digits of a number.
        points = {
            tuple(f"{key}={value:.9g}" if isinstance(value, float) else f"{key}={value}" for key, value in params)
            for params in (sorted(t.params.items()) for t in current_trials(self.study))
            if len(params) == len(self.space)  # not of one whose process died while it sampled
        }
        return len(points) >= self.num_points

    def first_attempt(self, trial: "Trial") -> int:
        """The number of the trial that this one repeats, or its own."""
        return [*attempts_before(self._now(trial)), trial.number][0]

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Sends heartbeats of the running trials; Optuna does so itself only where it calls the objective."""
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(ended,), name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(study_storage.HEARTBEAT_SECONDS):
            for trial in list(self.running.values()):
                with suppress(Exception):  # it has ended meanwhile, or the storage is away: the main thread will see
                    self.storage.record_heartbeat(trial._trial_id)
        if hasattr(self.storage, "remove_session"):
            self.storage.remove_session()  # the connection of this thread

    def _requeue_lost(self) -> None:
        from optuna.storages import fail_stale_trials
        from optuna.trial import TrialState

        with experimental():
            fail_stale_trials(self.study)
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if trial.number not in self.running and trial.number not in self.seen:
                self.seen.add(trial.number)
                # Optuna waits for ever for a trial whose process died before its first heartbeat: this is one.
                self.storage.record_heartbeat(trial._trial_id)

    def _is_one_left(self) -> bool:
        from optuna.trial import TrialState

        trials = current_trials(self.study)
        if any(trial.state == TrialState.WAITING for trial in trials):
            return True
        return len(trials) < self.config.n_trials and not self.tried_all()

    def _ask(self) -> "Trial":
        self.study.sampler = sampler_of(self.config, len(self.study.get_trials(deepcopy=False)))
        with experimental():
            trial = self.study.ask(fixed_distributions=self.space)
        self.storage.record_heartbeat(trial._trial_id)
        self.running[trial.number] = trial
        return trial

    def _ended_duplicate(self, trial: "Trial") -> "FrozenTrial | None":
        from optuna.trial import TrialState

        ended = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])
        return next((other for other in ended if other.params == trial.params), None)

    def _tell_as(self, trial: "Trial", duplicate: "FrozenTrial") -> "FrozenTrial":
        from optuna.trial import TrialState

        del self.running[trial.number]
        notes = {key: duplicate.user_attrs.get(key) for key in ("status", "folder", "figures")}
        values = None if duplicate.state == TrialState.PRUNED else duplicate.values
        notes[SAME_AS] = duplicate.number
        return self._tell(trial, notes, duplicate.state, values, duplicate.constraints)

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
        self,
        trial: "Trial",
        notes: Mapping[str, Any],
        state: "TrialState",
        values: list[float] | None,
        constraints: Mapping[str, float],
    ) -> "FrozenTrial":
        for key, value in notes.items():
            trial.set_user_attr(key, value)
        known = self._now(trial).constraints  # of an attempt that was killed before its last step
        for name in constraints.keys() - known.keys():
            trial.set_constraint(name, constraints[name])
        return self.study.tell(trial, values, state)

    def _now(self, trial: "Trial") -> "FrozenTrial":
        found: FrozenTrial = self.storage.get_trial(trial._trial_id)
        return found
