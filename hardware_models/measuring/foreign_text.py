"""Text that other programs wrote: UTF-8, or UTF-16 where Windows' PowerShell redirected it to the file."""

from pathlib import Path

from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import bytes_of

_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def read_text(path: Path, *, errors: str = "strict") -> str:
    """What the file holds, without a byte-order mark.

    Raises: InvalidInputError if it cannot be read or, unless `errors` is `replace`, is no text.
    """
    content = read_bytes(path)
    mark = next((mark for mark in _MARKS if content.startswith(mark)), b"")
    try:
        return content.removeprefix(mark).decode(_MARKS.get(mark) or _unmarked(content), errors)
    except ValueError as error:
        raise InvalidInputError(f"{path} is not readable as text: {error}; give a file of text") from error


def read_bytes(path: Path) -> bytes:
    """Raises: InvalidInputError if the file cannot be read, or has no end."""
    try:
        return bytes_of(Path(path))
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}; give a file that you can read") from error
    except ValueError as error:
        raise InvalidInputError(f"cannot read {path}: {error}") from error


def lines_of(text: str) -> list[str]:
    """The lines of a text as an editor counts them, without their ends. adb may end them with more than one return."""
    return [line.rstrip("\r") for line in text.split("\n")]


def _unmarked(content: bytes) -> str:
    """UTF-16 has a zero byte in each ASCII character; UTF-8 has none."""
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        halves = content[start:64:2]
        if halves and halves.count(0) * 2 > len(halves) and content[1 - start] != 0:
            return encoding
    return "utf-8"
