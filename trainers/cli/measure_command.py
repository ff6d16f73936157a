"""`espalier-measure`: latency of networks or operations, into a CSV file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainers.cli.command import App, run, tell

if TYPE_CHECKING:
    from trainers.devices.command_config import MeasureConfig


def _check(content: dict[str, Any]) -> "MeasureConfig":
    from trainers.devices.command_config import MeasureConfig
    from trainers.runs.validation import checked

    return checked(MeasureConfig, content)


def _work(config: "MeasureConfig", command: str) -> Mapping[str, Any]:
    from trainers.devices.measurement import run_measure

    run_measure(config, tell)
    return {"status": "done"}


MEASURE = App(
    "espalier-measure",
    "measure",
    _check,
    _work,
    "what was measured is kept; this continues:\n  {command}",
    instead_of_sweeps="architecture takes several files; else repeat the command, as in "
    "`for n in 1 2 4; do espalier-measure threads=$n output=threads$n.csv ...; done`",
)


def main() -> None:
    """Runs `espalier-measure` and exits: 0 done, 1 error, 2 refused, 130 and 143 on signals."""
    run(MEASURE)
