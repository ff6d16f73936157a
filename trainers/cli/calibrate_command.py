"""`espalier-calibrate`: a device's profile from what was measured on it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainers.cli.command import App, run, tell

if TYPE_CHECKING:
    from trainers.devices.command_config import CalibrateConfig


def _check(content: dict[str, Any]) -> "CalibrateConfig":
    from trainers.devices.command_config import CalibrateConfig
    from trainers.runs.validation import checked

    return checked(CalibrateConfig, content)


def _work(config: "CalibrateConfig", command: str) -> Mapping[str, Any]:
    from trainers.devices.calibrate import run_calibrate, run_propose

    (run_calibrate if config.propose is None else run_propose)(config, tell)
    return {"status": "done"}


CALIBRATE = App(
    "espalier-calibrate",
    "calibrate",
    _check,
    _work,
    "the same command starts again",
    instead_of_sweeps="repeat the command, as in "
    "`for name in a b; do espalier-calibrate measurements=$name.csv name=$name; done`",
)


def main() -> None:
    """Runs `espalier-calibrate` and exits: 0 done, 1 error, 2 refused, 130 and 143 on signals."""
    run(CALIBRATE)
