"""Errors that a user can mend. Each message says what, got, allowed, and what to do."""


class EspalierError(Exception):
    """Base of every error that Espalier raises on purpose."""


class InvalidInputError(EspalierError, ValueError):
    """A value, file or name given by the user cannot be used."""


class UnknownDecisionError(InvalidInputError):
    """A selection or architecture names a decision or choice that the space lacks, or lacks one that it has."""
