"""`espalier-search` as a console script; the search itself is in search.py, which imports torch."""

import shlex
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.errors import InvalidInputError
from trainers.cli.command import CONTINUES, App, run, tell
from trainers.cli.overrides import key_of
from trainers.runs.validation import refusal, untitled

if TYPE_CHECKING:
    from trainers.runs.config import SearchConfig


def check_search(content: dict[str, Any]) -> "SearchConfig":
    """The configuration of a search. Raises: InvalidInputError that lists the wrong keys."""
    from trainers.runs.config import validate

    config = validate(content)
    from trainers.loggers.base import check_logger
    from trainers.search.finished import finished_config

    problems = []
    if finished_config(config) is None:  # whose parts have been checked
        from trainers.search.plan import part_problems  # needs torch, to ask its optimizers

        problems += part_problems(config)
    try:
        check_logger(config.logger, tags=config.tags)
    except InvalidInputError as error:
        problems.append(untitled(error))
    if problems:
        raise refusal(problems)
    return config


def work(config: "SearchConfig", command: str) -> Mapping[str, Any]:
    from trainers.cli.search import run_identified

    result = run_identified(config, tell, command=command)
    return {"status": result.status, "objective": result.objective}


def run_folder(config: "SearchConfig") -> Path:
    return config.run_folder


def identify(config: "SearchConfig", known: dict[Any, str]) -> "SearchConfig":
    from trainers.search.finished import finished_config

    if (found := finished_config(config)) is not None:
        return found
    from trainers.search.identification import identified

    return identified(config, known, tell)


def search_command(command: str, sweep: str, *, without: Collection[str]) -> str:
    """What runs the search of a job of another command alone, in the same run folder: `without` that one's own keys."""
    _, *arguments = shlex.split(command)
    kept = [a for a in arguments if key_of(a).partition(".")[0] not in (*without, "sweep")]
    return shlex.join([SEARCH.name, *kept, f"sweep={sweep}"])


def asked(content: Mapping[str, Any]) -> str:
    """`space mobile · data digits · pixel6, mid_tablet · strategy pool · seed 0 · in runs/search`"""

    def part(key: str, name: str) -> Any:  # nothing is checked yet
        section = content.get(key)
        return section.get(name) if isinstance(section, Mapping) else section

    hardware, runs = content.get("hardware"), part("paths", "runs")
    devices = ", ".join(map(str, hardware)) if isinstance(hardware, Mapping) else str(hardware)
    named = [f"{key} {part(key, 'name')}" for key in ("space", "data", "strategy")]
    place = f"in {runs}/{content.get('sweep')}"
    return " · ".join([*named[:2], devices, named[2], f"seed {content.get('seed')}", place])


def finished(config: "SearchConfig") -> Callable[[Callable[[str], None]], Mapping[str, Any]] | None:
    from trainers.loggers.identity import is_published
    from trainers.search.finished import finished_result, report_finished

    result, logger = finished_result(config), config.logger["name"]
    if result is None or (logger != "local" and not is_published(config.run_folder, logger)):
        return None

    def show(report: Callable[[str], None]) -> Mapping[str, Any]:
        report_finished(result, config.run_folder, report)
        return {"status": result.status, "objective": result.objective}

    return show


SEARCH = App(
    "espalier-search", "search", check_search, work, CONTINUES, run_folder, identify, asked=asked, finished=finished
)


def main() -> None:
    """Runs `espalier-search` and exits: 0 done, 1 error, 2 refused, 3 a budget not met, 130 and 143 on signals."""
    run(SEARCH)
