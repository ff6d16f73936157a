"""The console scripts: what each does with plain values. Nothing heavy is imported before one starts to work."""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.errors import InvalidInputError
from trainers.runs.plain_text import printable_lines
from trainers.runs.validation import refusal, untitled

if TYPE_CHECKING:
    from trainers.devices.command_config import CalibrateConfig, MeasureConfig
    from trainers.runs.config import SearchConfig


@dataclass(frozen=True)
class App:
    """A console script: its YAML file, what it does with plain values, and what an interrupted user is told.

    `check` takes the configuration and raises InvalidInputError that lists whatever is wrong with it. `work` takes it
    and the command that runs this job alone, and returns the content of a result with its `status`. Both import what
    they need themselves, so that --help and --cfg answer at once. `folder` is where it works, if that is a folder of
    its own; `sweeps` if each command is a sweep; `instead_of_sweeps` if none is, what to do.
    """

    name: str
    config: str
    check: Callable[[dict[str, Any]], Any]
    work: Callable[[dict[str, Any], str], Mapping[str, Any]]
    interrupted: str
    folder: Callable[[dict[str, Any]], Path | None] = lambda content: None
    sweeps: bool = False
    instead_of_sweeps: str | None = None


def _search(content: dict[str, Any], command: str) -> Mapping[str, Any]:
    config = _checked(content)
    from trainers.cli.search import run_search

    return run_search(config, tell, command=command)


def _search_folder(content: dict[str, Any]) -> Path:
    return _checked(content).run_folder


def _checked(content: dict[str, Any]) -> "SearchConfig":
    """The configuration of a search. Raises: InvalidInputError that lists whatever is wrong, in all of its parts."""
    from trainers.runs.config import validate

    try:
        return validate(content)
    except InvalidInputError as error:
        from trainers.search.plan import with_refused_parts  # needs torch, to ask its optimizers

        others = {key: value for key, value in content.items() if f"{key}._target_: " not in str(error)}  # said above
        refused = [with_refused_parts(error, others)]
        if isinstance(logger := content.get("logger"), dict) and isinstance(logger.get("name"), str):
            from trainers.loggers.base import check_logger

            tags = content.get("tags")
            try:
                check_logger(logger, tags=[t for t in tags if isinstance(t, str)] if isinstance(tags, list) else [])
            except InvalidInputError as another:
                refused.append(another)
        raise (refused[0] if len(refused) == 1 else refusal(map(untitled, refused))) from error


def _checked_measure(content: dict[str, Any]) -> "MeasureConfig":
    from trainers.devices.command_config import validate_measure

    return validate_measure(content)


def _measure(content: dict[str, Any], command: str) -> Mapping[str, Any]:
    config = _checked_measure(content)
    from trainers.devices.measurement import run_measure

    run_measure(config, tell)
    return {"status": "done"}


def _checked_calibrate(content: dict[str, Any]) -> "CalibrateConfig":
    from trainers.devices.command_config import validate_calibrate

    return validate_calibrate(content)


def _calibrate(content: dict[str, Any], command: str) -> Mapping[str, Any]:
    config = _checked_calibrate(content)
    from trainers.devices.calibrate import run_calibrate, run_propose

    (run_calibrate if config.propose is None else run_propose)(config, tell)
    return {"status": "done"}


def _tune(content: dict[str, Any], command: str) -> Mapping[str, Any]:
    return _search(_of_search(content), _search_command(command, content["sweep"]))


def _checked_tune(content: dict[str, Any]) -> "SearchConfig":
    """The configuration of its search. Raises: InvalidInputError that lists what is wrong with it or the study."""
    problems = _study_problems(content)
    try:
        config = _checked(_of_search(content))
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


def _tune_folder(content: dict[str, Any]) -> Path:
    return _search_folder(_of_search(content))


def _of_search(content: dict[str, Any]) -> dict[str, Any]:
    """The configuration without the settings of the study that its search is a trial of."""
    return {key: value for key, value in content.items() if key not in OF_STUDIES}


def _search_command(command: str, sweep: str) -> str:
    """What runs the search of a trial alone, in the same run folder."""
    _, *arguments = shlex.split(command)
    kept = [a for a in arguments if a.partition("=")[0] not in (*OF_STUDIES, "trial", "sweep")]
    return shlex.join([SEARCH.name, *kept, f"sweep={sweep}"])


STUDY_KEYS = {  # setting of a study: key of conf/tune.yaml
    **{"storage": "study", "n_trials": "trials", "n_jobs": "jobs", "pruner.name": "pruner"},
    **{key: key for key in ("timeout_s", "objectives", "constraints")},
}
OF_STUDIES = tuple(STUDY_KEYS.values())
CONTINUES = "the same command continues:\n  {command}"
SEARCH = App("espalier-search", "search", _checked, _search, CONTINUES, _search_folder)
TUNE = App("espalier-tune", "tune", _checked_tune, _tune, CONTINUES, _tune_folder, sweeps=True)
SEARCHES = {app.name: app for app in (SEARCH, TUNE)}  # whose jobs are searches
MEASURE = App(
    "espalier-measure",
    "measure",
    _checked_measure,
    _measure,
    "what was measured is kept; this continues:\n  {command}",
    instead_of_sweeps="architecture takes several files; else repeat the command, as in "
    "`for n in 1 2 4; do espalier-measure threads=$n output=threads$n.csv ...; done`",
)
CALIBRATE = App(
    "espalier-calibrate",
    "calibrate",
    _checked_calibrate,
    _calibrate,
    "the same command starts again",
    instead_of_sweeps="repeat the command, as in "
    "`for name in a b; do espalier-calibrate measurements=$name.csv name=$name; done`",
)


def tell(line: str) -> None:
    try:
        print(f"{printable_lines(line)}\n", end="", flush=True)  # at once, for other jobs write there too
    except BrokenPipeError:  # whoever read the lines has gone, as `head` does; the work goes on
        unheard()
    except OSError as error:  # the disk of a file that they go to is full
        unheard()
        print(f"lines cannot be written: {error.strerror}; the work goes on without them", file=sys.stderr)


def unheard() -> None:
    """From now on what is printed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
