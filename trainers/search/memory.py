"""Memory: how much a search takes, and one error for running out of it, whichever library raises it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from trainers.runs.exit_status import OutOfMemoryError

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


def count_peak_anew() -> bool:
    """Whether `peak_mb` counts from now on, which Linux alone can do: jobs of a sweep may share a process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_mb() -> float:
    """The most memory that this process has held at once, in MB of 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kib) * 1024 / 1e6
