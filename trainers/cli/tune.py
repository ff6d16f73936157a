"""`espalier-tune`: a study whose trials are searches."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainers.cli.command import CONTINUES, App, run
from trainers.cli.search_command import asked, check_search, finished, identify, run_folder, search_command, work

if TYPE_CHECKING:
    from trainers.runs.config import SearchConfig

STUDY_KEYS = {  # setting of a study: key of conf/tune.yaml
    **{"storage": "study", "n_trials": "trials", "n_jobs": "jobs", "pruner.name": "pruner"},
    **{key: key for key in ("timeout_s", "objectives", "constraints")},
}
OF_STUDIES = tuple(STUDY_KEYS.values())


def check_tune(content: dict[str, Any]) -> "SearchConfig":
    """The configuration of a trial; its sweeper checks the settings of the study. Raises: as `check_search`."""
    return check_search({key: value for key, value in content.items() if key not in OF_STUDIES})


def _work(config: "SearchConfig", command: str) -> Mapping[str, Any]:
    return work(config, search_command(command, config.sweep, without=(*OF_STUDIES, "trial")))


TUNE = App(
    "espalier-tune",
    "tune",
    check_tune,
    _work,
    CONTINUES,
    run_folder,
    identify,
    sweeps=True,
    asked=asked,
    finished=finished,
)


def main() -> None:
    """Runs `espalier-tune` and exits as `espalier-search` does after a sweep."""
    run(TUNE)
