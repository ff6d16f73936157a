"""What a check of a run found, and how a recorded value is compared with one made again."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from trainers.runs.result import LATER

Outcome = Literal["ok", "FAILED", "not checked"]
SHOWN = 3  # differences in a line


@dataclass(frozen=True)
class Check:
    """One comparison: of what, how it came out, and why.

    `fields` are those that failed or were not checked: paths in result.json, or in the file that they begin with;
    `*` is any.
    """

    what: str
    outcome: Outcome
    why: str = ""
    fields: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        named = f" ({', '.join(self.fields)})" if self.fields and self.outcome == "not checked" else ""
        return f"{self.outcome:11}  {self.what}" + (f": {self.why}" if self.why else "") + named


def compare(what: str, recorded: Any, found: Any, *, field: str, tolerance: float = 1e-6) -> Check:
    """`ok` if both are the same, numbers to a relative tolerance; else the fields that are not, each with its path."""
    pairs = _values(recorded, found, field)
    differing = {path: (one, other) for path, one, other in pairs if not _is_same(one, other, tolerance)}
    if not differing:
        return Check(what, "ok")
    words = [f"{path} is {one!r:.100}, found {other!r:.100}" for path, (one, other) in differing.items()]
    words[SHOWN:] = [f"and {len(words) - SHOWN} more"] if len(words) > SHOWN else []
    return Check(what, "FAILED", "; ".join(words), tuple(differing))


def _values(recorded: Any, found: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Each path that leads to a value in either, and the values there; none where one lacks it."""
    if isinstance(recorded, list) and isinstance(found, list):
        recorded, found = dict(enumerate(recorded)), dict(enumerate(found))
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key in {**recorded, **found}:
            if key in LATER and recorded.get(key) is None:
                continue  # of an earlier version
            yield from _values(recorded.get(key), found.get(key), f"{path}.{key}".removeprefix("."))
    else:
        yield path, recorded, found


def _is_same(recorded: Any, found: Any, tolerance: float) -> bool:
    if isinstance(recorded, int | float) and isinstance(found, int | float):
        return math.isclose(recorded, found, rel_tol=tolerance, abs_tol=1e-12)
    return bool(recorded == found)
