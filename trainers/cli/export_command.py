"""`espalier-export`: the files that devices run, of the networks of a finished run, each tested."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainers.cli.command import App, run, tell

if TYPE_CHECKING:
    from trainers.deploy.export_config import ExportConfig


def _check(content: dict[str, Any]) -> "ExportConfig":
    from trainers.deploy.export_config import ExportConfig
    from trainers.runs.validation import checked

    return checked(ExportConfig, content)


def _work(config: "ExportConfig", command: str) -> Mapping[str, Any]:
    from trainers.reports.export import run_export

    return {"status": run_export(config, tell, command=command).status}


EXPORT = App(
    "espalier-export",
    "export",
    _check,
    _work,
    "the same command starts again",
    instead_of_sweeps="devices, formats and precisions take several; else repeat the command, as in "
    "`for n in 64 512; do espalier-export calibration_images=$n output=calibrated$n ...; done`",
)


def main() -> None:
    """Runs `espalier-export` and exits: 0 done, 1 error, 2 refused, 3 a limit not kept, 130 and 143 on signals."""
    run(EXPORT)
