"""What can end a search besides its inputs."""

from search_spaces.errors import EspalierError


class SearchStoppedError(EspalierError):
    """The study that a search is a trial of has stopped it: it is hopeless beside the others."""


class RunFolderError(EspalierError):
    """A file of a run cannot be written or is not whole."""


class RunInUseError(EspalierError):
    """Another process is at the same run."""


class OutOfMemoryError(EspalierError):
    """A search needs more memory than there is."""
