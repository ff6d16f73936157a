"""How work ends: the state that is left of it, the line that tells why, and the exit code that goes with it."""

import signal
from dataclasses import dataclass

from hardware_models.errors import BudgetInfeasibleError
from search_spaces.errors import EspalierError, InvalidInputError
from trainers.errors import JobFailedError, RunInUseError, SearchStoppedError

EXIT_CODES = {"done": 0, "stopped": 0, "failed": 1, "busy": 1, "infeasible": 2, "refused": 2, "unmet": 3}
SIGNALLED = 128  # with the number of the signal, as shells have it
KILLED = SIGNALLED + signal.SIGKILL


@dataclass(frozen=True)
class Ending:
    """`state` is one of a run folder's, or `refused` or `busy`, which leave none; `reason` is none if all went well."""

    state: str
    reason: str | None
    exit_code: int


def ending_with(state: str, reason: str | None = None) -> Ending:
    return Ending(state, reason, EXIT_CODES[state])


def ending_of(error: BaseException) -> Ending:
    """What an error makes of the work that it ended."""
    match error:
        case BudgetInfeasibleError():
            return ending_with("infeasible", str(error))
        case InvalidInputError():
            return ending_with("refused", str(error))
        case RunInUseError():
            return ending_with("busy", str(error))
        case SearchStoppedError():
            return ending_with("stopped", str(error))
        case JobFailedError():
            return Ending(error.state, error.reason, error.code)
        case EspalierError():
            return ending_with("failed", str(error))
        case KeyboardInterrupt():
            number = error.args[0] if error.args else signal.SIGINT
            return Ending("interrupted", f"ended by {signal.Signals(number).name}", SIGNALLED + number)
        case _:
            return ending_with("failed", f"{type(error).__name__}: {error}")
