"""The report of a run or a sweep: one HTML file that needs nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError

from search_spaces.errors import InvalidInputError
from trainers.analysis.loading import Sweep, load_readable, load_run, sweep_of
from trainers.reports.check import UNFIT
from trainers.reports.run_view import run_view
from trainers.reports.sweep_view import check_files, sweep_view
from trainers.runs.files import write_text
from trainers.runs.plain_text import printable_lines
from trainers.runs.plugins import require_plugins
from trainers.sweeps.records import FILE
from trainers.sweeps.survey import survey

NAME = "report.html"


def write_report(folder: Path) -> Path:
    """Writes `report.html` into the folder of a run or of a sweep, and returns its path.

    In a sweep, a run with a malformed file is told as unreadable, with the reason.
    Raises: InvalidInputError if it is neither, or if a file of the run is malformed, by name; RunFolderError if it
    cannot be written.
    """
    folder = Path(folder)
    page = run_page(folder) if (folder / "status.json").is_file() else sweep_page(folder)
    write_text(folder / NAME, page)
    return folder / NAME


def run_page(folder: Path) -> str:
    run = load_run(folder)
    require_plugins(run.config, run.state.origin["code"].get("plugins", {}))
    return _page(folder, "run.html.j2", lambda: run_view(run))


def sweep_page(folder: Path) -> str:
    sweep = load_readable(folder)  # before the survey, which then knows every run that is loaded
    if not sweep.runs and not sweep.unreadable and not (folder / FILE).is_file():
        raise InvalidInputError(f"no runs in {folder}; give the folder <runs>/<sweep>, which holds a folder per run")
    surveyed, commands = survey(folder)

    def page(shown: Sweep) -> str:
        return _page(folder, "sweep.html.j2", lambda: sweep_view(shown, surveyed, commands=commands))

    try:
        return page(sweep)
    except InvalidInputError:  # for what is read only now, or beyond what loading checks
        sound, broken = [], dict(sweep.unreadable)
        for run in sweep.runs:
            try:
                check_files(run)
                page(sweep_of(folder, [run]))
                sound.append(run)
            except InvalidInputError as error:
                broken[run.path.name] = str(error)
        return page(sweep_of(folder, sound, unreadable=broken))


def _page(folder: Path, template: str, view: Callable[[], dict[str, Any]]) -> str:
    try:
        page: str = _environment().get_template(template).render(view())
    except InvalidInputError:
        raise
    except (*UNFIT, UndefinedError) as error:
        raise InvalidInputError(f"{folder}: result.json is not whole: {type(error).__name__}: {error}") from error
    return printable_lines(page)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("trainers.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
