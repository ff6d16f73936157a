"""The report of a run or a sweep: one HTML file that needs nothing else."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from trainers.analysis.loading import load_run
from trainers.reporting.run_view import run_view
from trainers.run_folder import write_text

NAME = "report.html"


def write_report(folder: Path) -> Path:
    """Writes `report.html` into the folder of a run or of a sweep, and returns its path.

    Raises: InvalidInputError if it is neither, or if a file in it is malformed, by name; RunFolderError if it cannot be
    written.
    """
    folder = Path(folder)
    path = folder / NAME
    write_text(path, run_page(folder))
    return path


def run_page(folder: Path) -> str:
    return _environment().get_template("run.html.j2").render(run_view(load_run(folder)))


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("trainers.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
