"""The trials of one process: ask for them, sign that it runs them, tell their results, or queue them to run again."""

import copy
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainers.runs.folder import HEARTBEAT_SECONDS
from trainers.runs.state import FINISHED, this_process, why_lost
from trainers.tuning.study import attempts_before, current_trials, sampler_of
from trainers.tuning.study_storage import experimental
from trainers.tuning.tuning_config import TuningConfig

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial, TrialState

INFEASIBLE = "budgets"  # name of the constraint that a search without any network within its budgets violates
PROCESS = "process"  # attribute of a trial: which process runs it, and when that last gave a sign
UNKNOWN = {"pid": 0, "pid_start": None, "host": ""}  # it died before its first sign


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `status` is that of its run, or refused or busy; without an objective unless it ended."""

    status: str
    objective: Mapping[str, float]
    folder: str | None = None
    error: str | None = None


class Trials:
    """Asks a study for trials for this process and tells it what became of them."""

    def __init__(self, study: "Study", config: TuningConfig, space: "Mapping[str, BaseDistribution]") -> None:
        self.study, self.config, self.space = study, config, dict(space)
        self.storage: Any = study._storage
        self.running: dict[int, Trial] = {}  # by number

    def retry_failed(self) -> int:
        """How many trials that have failed are queued to run again."""
        from optuna.trial import TrialState

        failed = [trial for trial in current_trials(self.study) if trial.state == TrialState.FAIL]
        for trial in failed:
            retry(self.study, trial)
        return len(failed)

    def ask(self, count: int) -> list["Trial"]:
        """Up to `count` trials to run now; none if none are left, or all that are left are run by others."""
        self._retry_lost()
        asked: list[Trial] = []
        while len(asked) < count and self._is_one_left():
            self.study.sampler = sampler_of(self.config, len(self.study.get_trials(deepcopy=False)))
            trial = self.study.ask(fixed_distributions=self.space)
            self._sign(trial)
            self.running[trial.number] = trial
            asked.append(trial)
        return asked

    def tell(self, trial: "Trial", outcome: Outcome) -> "FrozenTrial | None":
        """The trial with its outcome; none if another process has taken it over, as after a long sleep of this one."""
        from optuna.exceptions import UpdateFinishedTrialError

        state, values, constraints = self._verdict(outcome)
        notes = {"status": outcome.status, "folder": outcome.folder, "error": outcome.error}
        del self.running[trial.number]
        with suppress(UpdateFinishedTrialError):
            for key, value in (notes | {"figures": dict(outcome.objective)}).items():
                trial.set_user_attr(key, value)
            known = self._now(trial).constraints  # of an attempt that was killed before its last step
            for name in constraints.keys() - known.keys():
                trial.set_constraint(name, constraints[name])
            return self.study.tell(trial, values, state)
        return None

    def give_back(self, trials: "Iterable[Trial] | None" = None) -> None:
        """Queues trials whose jobs were lost, or all of this process, for any process to run again."""
        for trial in list(self.running.values()) if trials is None else trials:
            del self.running[trial.number]
            self._fail_and_retry(trial._trial_id)

    def is_over(self) -> bool:
        """Whether every trial of the study has ended."""
        return not self._is_one_left() and all(t.state.is_finished() for t in current_trials(self.study))

    def has_succeeded(self) -> bool:
        """Whether any job of the study has come to its end."""
        from optuna.trial import TrialState

        return bool(self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]))

    def attempts(self, trial: "Trial") -> list[int]:
        """The numbers of the trials that this one repeats, the first attempt first, and its own."""
        return [*attempts_before(self._now(trial)), trial.number]

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Signs the running trials every now and then: a journal has no heartbeat, and ask and tell send none."""
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(ended,), name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            for trial in list(self.running.values()):
                with suppress(Exception):  # it has ended meanwhile, or the storage is away: the main thread will see
                    self._sign(trial)
        self.storage.remove_session()  # the connection of this thread

    def _sign(self, trial: "Trial") -> None:
        trial.set_user_attr(PROCESS, {**this_process(), "time": time.time()})

    def _retry_lost(self) -> None:
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            assert trial.datetime_start is not None
            sign = {"time": trial.datetime_start.timestamp(), **UNKNOWN, **trial.user_attrs.get(PROCESS, {})}
            silent_s = time.time() - sign["time"]
            if why_lost(sign["pid"], sign["pid_start"], host=sign["host"], silent_s=silent_s) is not None:
                self._fail_and_retry(trial._trial_id)

    def _fail_and_retry(self, trial_id: int) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with suppress(UpdateFinishedTrialError):  # another process was first
            if self.storage.set_trial_state_values(trial_id, state=TrialState.FAIL):
                retry(self.study, self.storage.get_trial(trial_id))

    def _is_one_left(self) -> bool:
        from optuna.trial import TrialState

        trials = current_trials(self.study)
        return len(trials) < self.config.n_trials or any(trial.state == TrialState.WAITING for trial in trials)

    def _verdict(self, outcome: Outcome) -> tuple["TrialState", list[float] | None, dict[str, float]]:
        from optuna.trial import TrialState

        if outcome.status in FINISHED:
            values = [float(outcome.objective[name]) for name in self.config.objectives]
            over = {name: float(outcome.objective[name]) - limit for name, limit in self.config.constraints.items()}
            return TrialState.COMPLETE, values, over
        if outcome.status == "infeasible":  # without values, so not complete; samplers learn from the constraint
            return TrialState.PRUNED, None, {INFEASIBLE: 1.0}
        return (TrialState.PRUNED if outcome.status == "stopped" else TrialState.FAIL), None, {}

    def _now(self, trial: "Trial") -> "FrozenTrial":
        found: FrozenTrial = self.storage.get_trial(trial._trial_id)
        return found


def retry(study: "Study", trial: "FrozenTrial") -> None:
    """Queues a trial that has failed, or whose process is gone, to be run again under a new number."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    again = copy.deepcopy(trial)
    again.user_attrs = {}
    with experimental():
        RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, again)
