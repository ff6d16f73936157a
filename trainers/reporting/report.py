"""The report of a run or a sweep: one HTML file that needs nothing else."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

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
    return _environment().get_template("run.html.j2").render(run_view(load_run(folder)))


def sweep_page(folder: Path) -> str:
    return _environment().get_template("sweep.html.j2").render(sweep_view(load_sweep(folder)))


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("trainers.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
