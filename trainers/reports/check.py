"""What a check of a run found, and how a recorded value is compared with one made again."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

Outcome = Literal["ok", "FAILED", "not checked"]
SHOWN = 3  # differences in a line


@dataclass(frozen=True)
class Check:
    """One comparison: of what, how it came out, and why, which names the field or the file.

    `fields` are what a `not checked` leaves out: paths in result.json, or in the file that they begin with; `*` is any.
    """

    what: str
    outcome: Outcome
    why: str = ""
    fields: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        named = f" ({', '.join(self.fields)})" if self.fields else ""
        return f"{self.outcome:11}  {self.what}" + (f": {self.why}" if self.why else "") + named


def compare(what: str, recorded: Any, found: Any, *, field: str, tolerance: float = 1e-6) -> Check:
    """`ok` if both are the same, numbers to a relative tolerance; else the fields that are not, each with its path."""
    left = list(_differences(_plain(recorded), _plain(found), field, tolerance))
    if not left:
        return Check(what, "ok")
    more = f"; and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    return Check(what, "FAILED", "; ".join(left[:SHOWN]) + more)


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


def _differences(recorded: Any, found: Any, field: str, tolerance: float) -> Iterator[str]:
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        for key in {**recorded, **found}:
            path = f"{field}.{key}" if field else str(key)
            if key not in recorded:
                yield f"{path} is missing"
            else:
                yield from _differences(recorded[key], found.get(key), path, tolerance)
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for place, (one, other) in enumerate(zip(recorded, found, strict=True)):
            yield from _differences(one, other, f"{field}.{place}", tolerance)
    elif not (recorded == found or _are_close(recorded, found, tolerance)):
        yield f"{field} is {recorded!r:.100}, found {found!r:.100}"


def _are_close(recorded: Any, found: Any, tolerance: float) -> bool:
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (recorded, found))
    return are_numbers and math.isclose(recorded, found, rel_tol=tolerance, abs_tol=1e-12)
