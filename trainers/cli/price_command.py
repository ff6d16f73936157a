"""`espalier-price`: what a network is predicted to cost on devices, beside their budgets."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainers.cli.command import App, run, tell

if TYPE_CHECKING:
    from trainers.devices.command_config import PriceConfig


def _check(content: dict[str, Any]) -> "PriceConfig":
    from trainers.devices.command_config import PriceConfig
    from trainers.runs.validation import checked

    return checked(PriceConfig, content)


def _work(config: "PriceConfig", command: str) -> Mapping[str, Any]:
    from trainers.devices.price import run_price

    run_price(config, tell)
    return {"status": "done"}


PRICE = App(
    "espalier-price",
    "price",
    _check,
    _work,
    "the same command starts again",
    instead_of_sweeps="hardware takes several devices; else repeat the command, as in "
    "`for file in a b; do espalier-price architecture=$file.json; done`",
)


def main() -> None:
    """Runs `espalier-price` and exits: 0 done, 1 error, 2 refused, 130 and 143 on signals."""
    run(PRICE)
