"""What a check of a run found, and how a recorded value is compared with one made again."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["ok", "FAILED", "not checked"]
OLDER = "not recorded by the version that wrote the run"
# Raised where a file of a run, which may come from elsewhere, holds something else than was thought.
UNFIT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Check:
    """One thing that was compared: what, how it came out, and why, which names the field or the file."""

    what: str
    outcome: Outcome
    why: str = ""

    @property
    def line(self) -> str:
        return f"{self.outcome:11}  {self.what}" + (f": {self.why}" if self.why else "")


def compared(what: str, recorded: Any, found: Any, *, field: str, tolerance: float = 1e-9) -> Check:
    """`ok` if both are the same, numbers to a relative tolerance; else which fields of result.json are not."""
    different = list(differences(recorded, found, field=field, tolerance=tolerance))
    if not different:
        return Check(what, "ok")
    more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
    return Check(what, "FAILED", "; ".join(different[:3]) + more)


def differences(recorded: Any, found: Any, *, field: str, tolerance: float) -> Iterator[str]:
    """Words for each field that is not the same."""
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        for key in {**recorded, **found}:
            path = f"{field}.{key}" if field else str(key)
            yield from differences(recorded.get(key), found.get(key), field=path, tolerance=tolerance)
    elif _is_number(recorded) and _is_number(found):
        if not math.isclose(recorded, found, rel_tol=tolerance, abs_tol=1e-12):
            yield f"{field} is {recorded!r}, found {found!r}"
    elif recorded != found:
        yield f"{field} is {_short(recorded)}, found {_short(found)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
