"""The report of a run or a sweep: one HTML file that needs nothing else."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from search_spaces.errors import InvalidInputError
from trainers.analysis.loading import load_readable, load_run
from trainers.deploy.retrain_result import is_retrained
from trainers.reports.comparison_files import comparison_view
from trainers.reports.retrained import retrained_view
from trainers.reports.run_view import run_view
from trainers.reports.sweep_view import sweep_view
from trainers.runs.files import write_text
from trainers.runs.plain_text import printable_lines
from trainers.runs.plugins import require_plugins
from trainers.sweeps.records import FILE
from trainers.sweeps.survey import survey

NAME = "report.html"


def write_report(folder: Path) -> Path:
    """Writes `report.html` into the folder of a search, a training or a sweep, and returns its path.

    In a sweep, a run with a malformed file is shown as unreadable, with the reason.
    Raises: InvalidInputError if it is neither, or if a file of the run is malformed, by name; RunFolderError if it
    cannot be written.
    """
    folder = Path(folder)
    if is_retrained(folder):
        write_text(folder / NAME, _page("retrained.html.j2", retrained_view(folder)))
        return folder / NAME
    page = run_page(folder) if (folder / "status.json").is_file() else sweep_page(folder)
    write_text(folder / NAME, page)
    return folder / NAME


def run_page(folder: Path) -> str:
    run = load_run(folder)
    require_plugins(run.config, run.state.code.get("plugins", {}))
    return _page("run.html.j2", run_view(run))


def sweep_page(folder: Path) -> str:
    sweep = load_readable(folder)  # before the survey, which then knows every run that is loaded
    if not sweep.runs and not sweep.unreadable and not (folder / FILE).is_file():
        raise InvalidInputError(f"no runs in {folder}; give the folder <runs>/<sweep>, which holds a folder per run")
    surveyed, commands = survey(folder)
    view = sweep_view(sweep, surveyed, commands=commands)
    return _page("sweep.html.j2", {**view, "comparison": comparison_view(folder)})


def _page(template: str, view: dict[str, Any]) -> str:
    return printable_lines(_templates().get_template(template).render(view))


@cache
def _templates() -> Environment:
    settings: Any = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=PackageLoader("trainers.reports"), autoescape=True, **settings)
