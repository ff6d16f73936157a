"""Pickles as data: containers, texts, numbers and NumPy arrays. One that names anything else is refused unrun."""

import pickle
import warnings
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from hardware_models.measuring.csv_file import refusal

_FUNCTIONS = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(0).__reduce__()[0]}
_KNOWN: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", name): made for core in ("core", "_core") for name, made in _FUNCTIONS.items()},
    **{("numpy", "dtype"): np.dtype, ("numpy", "ndarray"): np.ndarray, ("collections", "OrderedDict"): OrderedDict},
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which may be code; allowed: plain numbers")
        return _KNOWN[module, name]


def read_pickle(path: Path, content: bytes) -> Any:
    """What a pickle holds. Raises: InvalidInputError if it is damaged or names what may be code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, about types as its older versions wrote them
            return _Plain(BytesIO(content)).load()
    except Exception as error:  # a damaged pickle raises anything
        raise refusal(path, [f"not readable as a pickle of numbers: {error or type(error).__name__}"]) from error
