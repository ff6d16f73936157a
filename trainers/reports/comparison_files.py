"""What a comparison leaves in the folder of its sweep: compare.json, compare.csv and compare.png."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trainers.analysis.comparison import flat, read_comparison
from trainers.analysis.comparison_plot import plot_comparison
from trainers.reports.plots import DOTS_PER_INCH, themed_svg
from trainers.runs.compare_result import ARMS, COMPARISON, PICTURE, TABLE, Comparison, Difference, Figure, Row, Spread
from trainers.runs.files import write_bytes, write_csv, write_text

HEADER = (
    "arm",
    "device",
    "within",
    "CPU-seconds",
    "budget used",
    "validation",
    "test",
    "regret",
    "difference to first",
)


def write_comparison(folder: Path) -> tuple[Comparison, Markup]:
    """Writes what the runs of a comparison have come to, and returns it with its picture as SVG.

    Raises: InvalidInputError if the folder has none, or a file is malformed; RunFolderError if it cannot be written.
    """
    found, runs = read_comparison(folder)
    picture, buffer = plot_comparison(runs), io.BytesIO()
    write_text(folder / COMPARISON, found.to_json())
    lines = [flat(row) for row in found.rows]
    write_csv(folder / TABLE, lines, list(dict.fromkeys(key for line in lines for key in line)))
    picture.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    write_bytes(folder / PICTURE, buffer.getvalue())
    words = "Figures of each arm's networks, a point per seed, and their means; the numbers stand in the table."
    return found, themed_svg(picture, name="comparison", words=words)


def comparison_view(folder: Path) -> dict[str, Any] | None:
    """What the report of a sweep says of the comparison that it is, whose files it writes; none if it is none."""
    if not (folder / ARMS).is_file():
        return None
    found, picture = write_comparison(folder)
    return {**dict(found), "picture": picture}


def table_lines(found: Comparison) -> Iterator[str]:
    """The table as a terminal shows it, with what makes arms hard to compare below."""
    cells = [HEADER, *(_cells(row) for row in found.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
    yield f"asked: {found.cpu_seconds:g} CPU-seconds a search; " + ", ".join(
        f"{name} {length}" for name, length in found.lengths.items()
    )
    yield from (f"warning: {line}" for line in found.warnings)


def _cells(row: Row) -> tuple[str, ...]:
    kind: Figure = "test" if "regret" not in row.differences else "regret"
    difference = row.differences.get(kind)
    return (
        row.arm,
        row.device,
        f"{row.feasible}/{row.seeds}",
        _spread(row.cpu_seconds, ".1f"),
        _spread(row.used, ".0%"),
        _spread(row.validation, ".3f"),
        _spread(row.test, ".3f"),
        _spread(row.regret, ".2f"),
        "" if difference is None else f"{kind} {_difference(difference)}",
    )


def _spread(found: Spread | None, form: str) -> str:
    if found is None:
        return "-"
    return f"{found.mean:{form}}" + ("" if found.deviation is None else f" ± {found.deviation:{form}}")


def _difference(found: Difference) -> str:
    error = "" if found.error is None else f" ± {found.error:.3f}"
    return f"{found.mean:+.3f}{error}, n = {found.n}: {found.verdict}"
