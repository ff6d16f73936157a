"""Which lines and columns of a file an error says are wrong."""

import re

_PROBLEM = re.compile(r"^\s*lines? (\d+)(?: to \d+)?: (?:(\w+): )?", re.MULTILINE)


def wrong_cells(error: object) -> list[tuple[int, str]]:
    """Line, from 1, and column of each problem; no column where the line as a whole is wrong."""
    return [(int(line), column) for line, column in _PROBLEM.findall(str(error))]
