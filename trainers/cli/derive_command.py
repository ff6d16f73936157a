"""`espalier-derive`: networks for other devices or budgets out of a run that keeps its supernet."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.cli.command import App, run, tell

if TYPE_CHECKING:
    from trainers.runs.config import SearchConfig
    from trainers.runs.derive_config import DeriveConfig


def _check(content: dict[str, Any]) -> "DeriveConfig":
    from trainers.runs.derive_config import validate

    return validate(content)


def _identify(config: "DeriveConfig", known: dict[Any, str]) -> "SearchConfig":
    from trainers.search.derivation import derived_config
    from trainers.search.identification import identified

    return identified(derived_config(config), known, tell)


def _work(config: "SearchConfig", command: str) -> Mapping[str, Any]:
    from trainers.cli.search import run_identified

    result = run_identified(config, tell, command=command)
    return {"status": result.status, "objective": result.objective}


def _folder(config: "SearchConfig") -> Path:
    return config.run_folder


DERIVE = App(
    "espalier-derive",
    "derive",
    _check,
    _work,
    "the same command starts again",
    _folder,
    _identify,
    instead_of_sweeps="hardware takes several devices, and a budget a list, as in "
    "`espalier-derive from=<run> 'hardware=[mid_tablet]' 'hardware.mid_tablet.budgets.latency_ms=[20,40,80]'`",
)


def main() -> None:
    """Runs `espalier-derive` and exits: 0 done, 1 error, 2 refused, 3 a budget not met, 130 and 143 on signals."""
    run(DERIVE)
