"""What TensorFlow Lite or LiteRT wrote to a log, whatever Android, Android Studio or a shell put before each line.

Source of the prefixes: Android's `adb logcat` (formats threadtime, time, brief and tag), Android Studio's Logcat before
and since 2021.3, tensorflow/lite/tools/logging.h, litert/c/internal/litert_logging.cc.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from hardware_models.measuring.foreign_text import lines_of, read_text

_TIME = r"(?:(?:\d{4}-)?\d\d-\d\d +\d\d:\d\d:\d\d[.,]\d+(?: [+-]\d{4})?|\d+\.\d{3,}) +"
_LOGCAT = re.compile(
    rf"(?:{_TIME})?(?:(?:[\w.]+ +)?(?P<process>\d+) +\d+ +|(?P<process_thread>\d+)-\d+(?:/\S+)? +)?"
    r"(?P<level>[VDIWEF])[ /](?P<tag>[^\s:(]+)\s*(?:\( *(?P<in_brackets>\d+)\))?: ?(?P<message>.*)"
)
# Time, process-thread, tag, package, level; a message of several lines continues without them.
_STUDIO = re.compile(
    rf"{_TIME}(?P<process>\d+)-\d+ +(?P<tag>\S+) +(?:\S+ +)?(?P<level>[VDIWEF]) {{1,2}}(?P<message>.*)"
)
_SHELL = re.compile(r"(?P<level>VERBOSE|INFO|WARN|WARNING|ERROR|FATAL): ?(?P<message>.*)")
_PLACE = re.compile(r"\[[\w.]+:\d+\] ?")  # LiteRT: file and line of the source
_TAGS = ("tflite", "litert")  # parts of the tags of the programs read here


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line from 1, its message, its level as Android's letter or nothing, and its process or nothing."""

    number: int
    message: str
    level: str
    process: str


def read_log(path: Path) -> list[LogLine]:
    """The lines of TensorFlow Lite and LiteRT in a log. Raises: InvalidInputError if it cannot be read."""
    lines = lines_of(read_text(path, errors="replace"))  # other programs may have written anything
    found = (_log_line(number, text.strip()) for number, text in enumerate(lines, start=1))
    return [line for line in found if line is not None]


def _log_line(number: int, text: str) -> LogLine | None:
    """The line without what stands before its message; nothing if another program wrote it."""
    level = process = ""
    if logged := _LOGCAT.fullmatch(text) or _STUDIO.fullmatch(text):
        groups = logged.groupdict()
        if not any(tag in groups["tag"].lower() for tag in _TAGS):
            return None
        level, text = groups["level"], groups["message"].strip()
        process = next((groups[key] for key in ("process", "process_thread", "in_brackets") if groups.get(key)), "")
    if shown := _SHELL.fullmatch(text):
        level, text = level or shown["level"][0], shown["message"]
    return LogLine(number, _PLACE.sub("", text, count=1) if _PLACE.match(text) else text, level, process)
