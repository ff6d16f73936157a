"""Files that may come from elsewhere, read only as far as a file of a run can go: a device or a pipe has no end."""

import stat
from pathlib import Path

MOST_BYTES = 2**26  # of a file of text; metrics.csv of 10 devices and 10,000 epochs is some 25 MB


def text_of(path: Path) -> str:
    """What a file of text holds, line ends as they are. Raises: OSError; ValueError, saying why it is none of a run."""
    return bytes_of(path).decode("utf-8")


def bytes_of(path: Path) -> bytes:
    """What a file holds. Raises: OSError; ValueError, saying why it is none of a run."""
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than any file of a run; allowed: {MOST_BYTES:,} bytes")
    return content


def check_regular(path: Path) -> None:
    """Raises: OSError if there is nothing; ValueError for what may have no end: a pipe, a device, a link to one."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file; put the file itself there")
