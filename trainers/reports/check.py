"""What a check of a run found, and how a recorded value is compared with one made again."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from search_spaces.errors import EspalierError

Outcome = Literal["ok", "FAILED", "not checked"]
TOLD = 3  # of what is wrong, in a line
# Raised where a file of a run, which may come from elsewhere, holds something else than was thought.
UNFIT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Check:
    """One thing that was compared: what, how it came out, and why, which names the field or the file.

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


def gathered(what: str, checks: Callable[[], Iterable[Check]]) -> list[Check]:
    """The checks of a part; a part that cannot be read at all has failed."""
    found: list[Check] = []
    try:
        found.extend(checks())
    except (EspalierError, OSError) as error:
        found.append(Check(what, "FAILED", str(error)))
    except UNFIT as error:
        found.append(Check(what, "FAILED", f"result.json is not whole: {type(error).__name__} {error}"))
    return found


def judged(what: str, problems: Iterable[str]) -> Check:
    """`ok` if there is no problem; else the first of them."""
    left = iter(problems)
    first = list(islice(left, TOLD))
    if not first:
        return Check(what, "ok")
    more = len(list(left))
    return Check(what, "FAILED", "; ".join(first) + (f"; and {more} more" if more else ""))


def compared(what: str, recorded: Any, found: Any, *, field: str, tolerance: float = 1e-9) -> Check:
    """`ok` if both are the same, numbers to a relative tolerance; else which fields of result.json are not."""
    return judged(what, differences(recorded, found, field=field, tolerance=tolerance))


def differences(recorded: Any, found: Any, *, field: str, tolerance: float = 1e-9) -> Iterator[str]:
    """Words for each field that is not the same, is missing, or is there and should not be."""
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        for key in {**recorded, **found}:
            path = f"{field}.{key}" if field else str(key)
            if key not in recorded:
                yield f"{path} is missing"
            elif key not in found:
                yield f"{path} is {_short(recorded[key])}, and belongs to no such run"
            else:
                yield from differences(recorded[key], found[key], field=path, tolerance=tolerance)
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for place, (one, other) in enumerate(zip(recorded, found, strict=True)):
            yield from differences(one, other, field=f"{field}.{place}", tolerance=tolerance)
    elif _is_number(recorded) and _is_number(found):
        if not math.isclose(recorded, found, rel_tol=tolerance, abs_tol=1e-12):
            yield f"{field} is {recorded!r}, found {found!r}"
    elif recorded != found or isinstance(recorded, bool) != isinstance(found, bool):
        yield f"{field} is {_short(recorded)}, found {_short(found)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
