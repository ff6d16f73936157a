"""How work ends: the state that is left of it, the line that says why, its exit code; and errors that end it."""

import signal
from dataclasses import dataclass

from hardware_models.infeasible import BudgetInfeasibleError
from search_spaces.errors import EspalierError, InvalidInputError

EXIT_CODES = {"done": 0, "stopped": 0, "failed": 1, "busy": 1, "infeasible": 2, "refused": 2, "unmet": 3}
SIGNALLED = 128  # with the number of the signal, as shells have it
KILLED = SIGNALLED + signal.SIGKILL


class SearchStoppedError(EspalierError):
    """The study that a search is a trial of has stopped it: it is pruned beside the others."""


class RunFolderError(EspalierError):
    """A file of a run cannot be written or is not whole."""


class RunInUseError(EspalierError):
    """Another process is at the same run."""


class OutOfMemoryError(EspalierError):
    """A search needs more memory than there is."""


@dataclass(frozen=True)
class ExitStatus:
    """`state` is one of a run folder's, or `refused` or `busy`, which leave none; `reason` is none if all went well."""

    state: str
    reason: str | None
    exit_code: int


def status_with(state: str, reason: str | None = None) -> ExitStatus:
    return ExitStatus(state, reason, EXIT_CODES[state])


STATES: dict[type[BaseException], str] = {  # the first that an error is of
    BudgetInfeasibleError: "infeasible",
    InvalidInputError: "refused",
    RunInUseError: "busy",
    SearchStoppedError: "stopped",
    EspalierError: "failed",
}


def status_of(error: BaseException) -> ExitStatus:
    """What an error makes of the work that it ended."""
    if isinstance(error, KeyboardInterrupt):
        number = error.args[0] if error.args else signal.SIGINT
        return ExitStatus("interrupted", f"ended by {signal.Signals(number).name}", SIGNALLED + number)
    for kind, state in STATES.items():
        if isinstance(error, kind):
            return status_with(state, str(error))
    return status_with("failed", f"{type(error).__name__}: {error}")
