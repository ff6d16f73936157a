"""Running out of memory, told as what it is by whichever library meets it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainers.errors import OutOfMemoryError

NO_MEMORY = ("can't allocate memory", "could not create a memory", "could not create a primitive")  # torch, oneDNN


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY)


@contextmanager
def memory_named() -> Iterator[None]:
    """Raises OutOfMemoryError for whatever says that memory ran out."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"out of memory ({error}); lower trainer.batch_size or space.widths") from error
        raise
