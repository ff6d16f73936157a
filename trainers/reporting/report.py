"""The report of a run or a sweep: one HTML file that needs nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError

from search_spaces.errors import InvalidInputError
from trainers.analysis.loading import load_run, load_sweep
from trainers.reporting.run_view import run_view
from trainers.reporting.sweep_view import sweep_view
from trainers.run_folder import write_text

NAME = "report.html"


def write_report(folder: Path) -> Path:
    """Writes `report.html` into the folder of a run or of a sweep, and returns its path.

    Raises: InvalidInputError if it is neither, or if a file in it is malformed, by name; RunFolderError if it cannot be
    written.
    """
    folder = Path(folder)
    page = run_page(folder) if (folder / "status.json").is_file() else sweep_page(folder)
    write_text(folder / NAME, page)
    return folder / NAME


def run_page(folder: Path) -> str:
    run = load_run(folder)
    return _page(folder, "run.html.j2", lambda: run_view(run))


def sweep_page(folder: Path) -> str:
    sweep = load_sweep(folder)
    return _page(folder, "sweep.html.j2", lambda: sweep_view(sweep))


def _page(folder: Path, template: str, view: Callable[[], dict[str, Any]]) -> str:
    try:
        return _environment().get_template(template).render(view())
    except (KeyError, TypeError, AttributeError, UndefinedError) as error:  # result.json may come from elsewhere
        raise InvalidInputError(f"{folder}: result.json is not whole: {type(error).__name__}: {error}") from error


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("trainers.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
