"""The page of a network that was trained again: decided from its folder; how it looks stands in the template."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup

from search_spaces.architecture import architecture_svg, read_architecture
from search_spaces.svg import STYLE, unstyled
from trainers.analysis.run_files import read_table
from trainers.deploy.retrain_result import RESULT, RetrainResult
from trainers.reports.quoting import Form, quoting
from trainers.reports.run_view import spaced
from trainers.runs import metric_names
from trainers.runs.files import read_as

SHOWN_EPOCHS = 24  # of all seeds, evenly spaced; the file has all
COLUMNS = (
    metric_names.SEED,
    metric_names.EPOCH,
    metric_names.LEARNING_RATE,
    metric_names.TRAIN_LOSS,
    metric_names.VALIDATION_LOSS,
    metric_names.VALIDATION_ACCURACY,
)


def retrained_view(folder: Path) -> dict[str, Any]:
    """All that the template asks for. Raises: InvalidInputError for a file that is not whole."""
    result = read_as(folder / RESULT, RetrainResult)
    architecture = read_architecture(folder / "architecture.json")
    rows: list[Any] = read_table(folder / "metrics.csv", required=COLUMNS)[list(COLUMNS)].to_dict("records")
    return {
        "name": folder.resolve().name,
        "state": result.status,
        "result": result,
        "r": quoting(result.model_dump(), None),
        "protocol": list(_leaves(result.asked)),
        "columns": COLUMNS,
        "epochs": [(i + 2, quoting(rows[i], None)) for i in spaced(len(rows), SHOWN_EPOCHS)],
        "drawing": Markup(unstyled(architecture_svg(architecture))),
        "drawing_style": Markup(STYLE),
    }


def _leaves(content: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Form]]:
    """Path of each value of what was asked, and how it is written."""
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _leaves(value, (*path, key))
    else:
        yield path, "text" if isinstance(content, str) else "given"
