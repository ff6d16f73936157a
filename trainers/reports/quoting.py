"""Figures of a report, each taken from the file it stands in and marked with its field, so that a test can compare."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from trainers.analysis.loading import Run

Form = Literal["number", "given", "accuracy", "percent", "count", "seconds", "text", "code"]
Quote = Callable[..., Markup]
NONE = Markup('<span class="none">{}</span>')


@dataclass(frozen=True)
class Quotes:
    """Quotes of the files of a run: `r` of its result, `s` of its status, `c` of its configuration.

    `o` quotes `origin`, which says what it came of, its hashes, code and versions: the result, else the status.
    """

    r: Quote
    s: Quote
    c: Quote
    o: Quote
    origin: Mapping[str, Any]


def quotes_of(run: Run, prefix: str = "") -> Quotes:
    """`prefix` leads to the folder of the run. The page says of which run the result is."""
    status = run.state.model_dump(mode="json", by_alias=True)  # as it really is: one that says it runs may have ended
    result = {} if run.result is None else run.result.model_dump()
    return Quotes(
        r=quoting(result, None),
        s=quoting(status, f"{prefix}status.json"),
        c=quoting(run.config, f"{prefix}config.yaml"),
        o=quoting(result or status, f"{prefix}{'result' if result else 'status'}.json"),
        origin=result or status,
    )


def quoting(content: Mapping[str, Any], source: str | None) -> Quote:
    """A function from the path to a field of `content` to its value as HTML, or to why there is none.

    `source` is the file of the content; none where an element around the value has it as its `data-source`.
    It takes a keyword `form`, how the value is written, and `missing`, the words for a value that is null or absent.
    """

    def quote(*path: Any, form: Form = "number", missing: str = "not recorded") -> Markup:
        value: Any = content
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else value[key] if isinstance(value, list) else None
        marks = {"data-field": ".".join(map(str, path))} | ({} if source is None else {"data-source": source})
        if isinstance(value, float) and math.isnan(value):  # the loss of an epoch that a search diverged in
            return NONE.format("no number")
        return _marked(value, form, missing, marks)

    return quote


def derived(
    value: float | None, what: str, *, form: Form = "number", missing: str = "not recorded", decimals: int | None = None
) -> Markup:
    """A number that is computed from the files' own, with how: `mean`, `deviation`, `count`, `share`.

    `decimals` are those of a plain number, where they are given.
    """
    value = None if value is None or math.isnan(value) else value
    return _marked(value, form, missing, {"data-derived": what}, decimals)


def _marked(value: Any, form: Form, missing: str, marks: dict[str, str], decimals: int | None = None) -> Markup:
    if value is None:
        return NONE.format(missing)
    attributes = Markup(" ").join(Markup('{}="{}"').format(*pair) for pair in marks.items())
    if form in ("text", "code"):
        tag = "code" if form == "code" else "span"
        return Markup("<{0} {1}>{2}</{0}>").format(tag, attributes, value)
    return Markup('<data value="{}" {}>{}</data>').format(json.dumps(value), attributes, written(value, form, decimals))


def written(value: Any, form: Form, decimals: int | None = None) -> str:
    """The value as readers see it: four significant digits or so many decimals, or all of what was given; accuracies
    to a thousandth, percents to a tenth. Whole numbers are whole, none has an exponent: 0.1604, 24.70, 1,325.
    """
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
    if decimals is None:
        decimals = 0 if value == int(value) else decimals_of(value)
    return f"{value:,.{decimals}f}" + (" s" if form == "seconds" else "")


def decimals_of(value: float) -> int:
    """How many decimals a number of four significant digits has."""
    return max(0, 3 - math.floor(math.log10(abs(value)))) if value and math.isfinite(value) else 0
