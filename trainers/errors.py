"""What can end a search besides its inputs, and how a configuration is refused."""

from collections.abc import Iterable

from search_spaces.errors import EspalierError, InvalidInputError

CANNOT_BE_USED = "the configuration cannot be used:"


def refusal(problems: Iterable[str]) -> InvalidInputError:
    """One error that says all that is wrong with a configuration, a line each."""
    return InvalidInputError("\n  ".join([CANNOT_BE_USED, *problems]))


class SearchStoppedError(EspalierError):
    """The study that a search is a trial of has stopped it: it is hopeless beside the others."""


class RunFolderError(EspalierError):
    """A file of a run cannot be written or is not whole."""


class RunInUseError(EspalierError):
    """Another process is at the same run."""


class OutOfMemoryError(EspalierError):
    """A search needs more memory than there is."""


class JobFailedError(EspalierError):
    """A job has ended in this state with this exit code; its user has been told why."""

    def __init__(self, state: str, code: int, reason: str) -> None:
        super().__init__(state, code, reason)  # all of them, or it could not be sent between processes
        self.state, self.code, self.reason = state, code, reason

    def __str__(self) -> str:
        return self.reason
