"""`espalier-tune`: a study whose trials are searches."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search_spaces.errors import InvalidInputError
from trainers.cli.command import CONTINUES, App, run
from trainers.cli.search_command import SEARCH, check_search, run_folder, work
from trainers.runs.validation import refusal, untitled

if TYPE_CHECKING:
    from trainers.runs.config import SearchConfig

STUDY_KEYS = {  # setting of a study: key of conf/tune.yaml
    **{"storage": "study", "n_trials": "trials", "n_jobs": "jobs", "pruner.name": "pruner"},
    **{key: key for key in ("timeout_s", "objectives", "constraints")},
}
OF_STUDIES = tuple(STUDY_KEYS.values())


def check_tune(content: dict[str, Any]) -> "SearchConfig":
    """The configuration of a trial. Raises: InvalidInputError that lists what is wrong with it or the study."""
    problems = _study_problems(content)
    try:
        config = check_search({key: value for key, value in content.items() if key not in OF_STUDIES})
    except InvalidInputError as error:
        raise refusal([*problems, untitled(error)]) from error
    if problems:
        raise refusal(problems)
    return config


def _study_problems(content: dict[str, Any]) -> list[str]:
    """What is wrong with the settings of a study that its sweeper refers to; the sweeper has others."""
    from trainers.tuning.tuning_config import validate_tuning

    others = {"study_name": "study", "seed": None, "sampler": {"name": "tpe", "startup_trials": 1}}
    pruner = {"name": content.get("pruner"), "metric": "val/acc", "startup_trials": 1, "warmup_epochs": 1}
    given = {setting: content.get(key) for setting, key in STUDY_KEYS.items() if "." not in setting}
    _, problems = validate_tuning(
        {**given, **others, "storage": content.get("study") or "study.db", "pruner": pruner}, STUDY_KEYS
    )
    return [problem for problem in problems if not problem.startswith("hydra.")]


def _work(config: "SearchConfig", command: str) -> Mapping[str, Any]:
    return work(config, _search_command(command, config.sweep))


def _search_command(command: str, sweep: str) -> str:
    """What runs the search of a trial alone, in the same run folder."""
    _, *arguments = shlex.split(command)
    kept = [a for a in arguments if a.partition("=")[0] not in (*OF_STUDIES, "trial", "sweep")]
    return shlex.join([SEARCH.name, *kept, f"sweep={sweep}"])


TUNE = App("espalier-tune", "tune", check_tune, _work, CONTINUES, run_folder, sweeps=True)
SEARCHES = {app.name: app for app in (SEARCH, TUNE)}  # whose jobs are searches


def main() -> None:
    """Runs `espalier-tune` and exits as `espalier-search` does after a sweep."""
    run(TUNE)
