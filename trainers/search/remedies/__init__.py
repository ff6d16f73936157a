"""Small objects that change the training of a supernet against a known failure: one file each."""

from trainers.search.remedies.remedy import REMEDIES, Remedy

__all__ = ["REMEDIES", "Remedy"]
