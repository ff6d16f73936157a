"""Figures of a report, each taken from the file it stands in and marked with its field, so that a test can compare."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from markupsafe import Markup

Form = Literal["number", "given", "accuracy", "percent", "count", "seconds", "text", "code"]
MISSING = "not recorded"
Quote = Callable[..., Markup]


def quoting(content: Mapping[str, Any], source: str | None) -> Quote:
    """A function from the path to a field of `content` to its value as HTML, or to why there is none.

    `source` is the file of the content; none where an element around the value has it as its `data-source`.
    It takes a keyword `form`, how the value is written, and `missing`, the words for a value that is null or absent.
    """

    def quote(*path: Any, form: Form = "number", missing: str = MISSING) -> Markup:
        value: Any = content
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else value[key] if isinstance(value, list) else None
        is_none = isinstance(value, float) and math.isnan(value)  # the loss of an epoch that a search diverged in
        if value is None or is_none:
            return Markup('<span class="none">{}</span>').format("no number" if is_none else missing)
        origin = Markup('data-field="{}"').format(".".join(map(str, path)))
        if source is not None:
            origin = Markup('data-source="{}" {}').format(source, origin)
        if form == "code":
            return Markup("<code {}>{}</code>").format(origin, value)
        if form == "text":
            return Markup("<span {}>{}</span>").format(origin, value)
        return Markup('<data value="{}" {}>{}</data>').format(json.dumps(value), origin, written(value, form))

    return quote


def derived(
    value: float | None, what: str, *, form: Form = "number", missing: str = MISSING, decimals: int | None = None
) -> Markup:
    """A number that is computed from the files' own, with how: `mean`, `deviation`, `count`, `share`.

    `decimals` are those of a plain number, where they are given.
    """
    if value is None or math.isnan(value):
        return Markup('<span class="none">{}</span>').format(missing)
    attributes = Markup('value="{}" data-derived="{}"').format(json.dumps(value), what)
    words = written(value, form) if decimals is None or form != "number" else f"{value:,.{decimals}f}"
    return Markup("<data {}>{}</data>").format(attributes, words)


def written(value: Any, form: Form) -> str:
    """The value as readers see it: four significant digits, or all of what was given; accuracies to a
    thousandth, percents to a tenth."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    match form:
        case "accuracy":
            return f"{value:.3f}"
        case "given":
            return f"{value:,.9g}"
        case "percent":
            return f"{100 * value:.1f} %"
        case "count":
            return f"{value:,}"
        case "seconds":
            return f"{significant(value)} s"
        case _:
            return significant(value)


def significant(value: float, digits: int = 4) -> str:
    """A number of so many significant digits, never in exponent notation: 0.1604, 24.70, 1,325; whole ones whole."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.{decimals_of(value, digits)}f}"


def decimals_of(value: float, digits: int = 4) -> int:
    """How many decimals a number of so many significant digits has."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
