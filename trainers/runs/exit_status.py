"""How work ends: the state that is left of it, the line that says why, its exit code; and errors that end it."""

import signal
from dataclasses import dataclass

from hardware_models.infeasible import BudgetInfeasibleError
from search_spaces.errors import EspalierError, InvalidInputError

EXIT_CODES = {"done": 0, "stopped": 0, "failed": 1, "busy": 1, "infeasible": 2, "refused": 2, "unmet": 3}
SIGNALLED = 128  # with the number of the signal, as shells have it
KILLED = SIGNALLED + signal.SIGKILL


class StudyRefusedError(InvalidInputError):
    """All that is wrong with a study, and with every one of its jobs: nothing is left to look for."""


class SearchStoppedError(EspalierError):
    """The study that a search is a trial of has stopped it: it is pruned beside the others."""


class RunFolderError(EspalierError):
    """A file of a run cannot be written or is not whole."""


class RunInUseError(EspalierError):
    """Another process is at the same run."""


class OutOfMemoryError(EspalierError):
    """A search needs more memory than there is."""


class JobFailedError(EspalierError):
    """A job has ended in this state with this exit code; the reason has been reported."""

    def __init__(self, state: str, code: int, reason: str) -> None:
        super().__init__(state, code, reason)  # all of them, or it could not be sent between processes
        self.state, self.code, self.reason = state, code, reason

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class ExitStatus:
    """`state` is one of a run folder's, or `refused` or `busy`, which leave none; `reason` is none if all went well."""

    state: str
    reason: str | None
    exit_code: int


def status_with(state: str, reason: str | None = None) -> ExitStatus:
    return ExitStatus(state, reason, EXIT_CODES[state])


def status_of(error: BaseException) -> ExitStatus:
    """What an error makes of the work that it ended."""
    match error:
        case BudgetInfeasibleError():
            return status_with("infeasible", str(error))
        case InvalidInputError():
            return status_with("refused", str(error))
        case RunInUseError():
            return status_with("busy", str(error))
        case SearchStoppedError():
            return status_with("stopped", str(error))
        case JobFailedError():
            return ExitStatus(error.state, error.reason, error.code)
        case EspalierError():
            return status_with("failed", str(error))
        case KeyboardInterrupt():
            number = error.args[0] if error.args else signal.SIGINT
            return ExitStatus("interrupted", f"ended by {signal.Signals(number).name}", SIGNALLED + number)
        case _:
            return status_with("failed", f"{type(error).__name__}: {error}")
