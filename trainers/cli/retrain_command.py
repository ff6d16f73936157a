"""`espalier-retrain`: one network trained by a protocol, with several seeds, into a folder with its file."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.cli.command import CONTINUES, App, run, tell

if TYPE_CHECKING:
    from trainers.deploy.retrain_config import RetrainConfig
    from trainers.deploy.retrain_job import Job


def _check(content: dict[str, Any]) -> "RetrainConfig":
    from trainers.deploy.retrain_config import validate

    return validate(content)


def _identify(config: "RetrainConfig", known: dict[Any, str]) -> "Job":
    from trainers.deploy.retrain_job import identified

    return identified(config, tell)


def _folder(job: "Job") -> Path:
    return job.run_folder


def _work(job: "Job", command: str) -> Mapping[str, Any]:
    from trainers.deploy.retrain import retrain

    result = retrain(job, tell, command=command)
    return {"status": result.status}


RETRAIN = App(
    "espalier-retrain",
    "retrain",
    _check,
    _work,
    CONTINUES,
    _folder,
    _identify,
    instead_of_sweeps="seeds=3 trains with three seeds; else repeat the command, as in "
    "`for size in 32 64; do espalier-retrain batch_size=$size ...; done`",
)


def main() -> None:
    """Runs `espalier-retrain` and exits: 0 done, 1 error, 2 refused, 130 and 143 on signals."""
    run(RETRAIN)
