"""The jobs of a comparison: arms checked, their lengths planned by short searches, seeds in turn."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from search_spaces.errors import InvalidInputError
from trainers.cli.command import tell
from trainers.cli.compare import COMPARE, OF_COMPARISONS
from trainers.cli.composition import CONFIGURATION, explained, task_overrides, values_of_job
from trainers.cli.overrides import as_value, key_of
from trainers.runs.validation import checked, refusal, untitled
from trainers.sweeps.records import Job

if TYPE_CHECKING:
    from trainers.runs.compare_result import Arm, Arms, CompareConfig
    from trainers.runs.config import SearchConfig

SHARED = ("seed", "sweep", "paths", "trial", "plugins", "hydra", *OF_COMPARISONS)  # keys that hold for all arms


@dataclass(frozen=True)
class _Checked:
    """An arm that can be searched: its overrides, and its configuration with the first seed."""

    overrides: list[str]
    config: "SearchConfig"


def comparison_jobs(loader: ConfigLoader, config: DictConfig, folder: Path) -> list[Job]:
    """The searches of a comparison, the first seed of each arm first; the plan is written into `folder`.

    Arms that were planned for as many CPU-seconds before keep their lengths, so that their runs go on.
    Raises: InvalidInputError that names each arm that cannot be used, before any run; RunFolderError.
    """
    from trainers.runs.compare_result import ARMS, CompareConfig
    from trainers.runs.files import write_text

    content: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, list(OF_COMPARISONS)), resolve=True)
    if not content["arms"]:
        raise refusal(["arms: got none; name two or more, as 'arms={pool:{},random:{searcher:random}}'"])
    arms = {str(name): own if own is not None else {} for name, own in content["arms"].items()}
    settings = checked(CompareConfig, {**content, "arms": arms})
    common = _common(loader, config)
    found = _checked_arms(loader, config, settings, common)
    plan = _plan(settings, found, folder)
    write_text(folder / ARMS, plan.to_json())
    return [
        Job(
            overrides=[*common, *found[name].overrides, f"seed={seed}", *_planned_overrides(arm, found[name].config)],
            folder=arm.runs[number],
            label=f"{name} seed={seed}",
        )
        for number, seed in enumerate(plan.seeds)
        for name, arm in plan.arms.items()
    ]


def _common(loader: ConfigLoader, config: DictConfig) -> list[str]:
    """The overrides of every arm. Raises: InvalidInputError for one of several values."""
    parsed = OverridesParser.create(loader).parse_overrides(task_overrides(config.hydra))
    several = [each.get_key_element() for each in parsed if each.is_sweep_override()]
    if several:
        raise refusal(f"{key}: got several values, allowed: one; make arms of them, or seeds=" for key in several)
    lines = [str(each.input_line) for each in parsed]
    return [line for line in lines if key_of(line).partition(".")[0] not in ("seed", *OF_COMPARISONS)]


def _checked_arms(
    loader: ConfigLoader, config: DictConfig, settings: "CompareConfig", common: Sequence[str]
) -> dict[str, _Checked]:
    """The arms by name. Raises: InvalidInputError that says what is wrong with each."""
    found: dict[str, _Checked] = {}
    problems: dict[str, list[str]] = {}
    known: dict[Any, str] = {}
    for name, own in settings.arms.items():
        overrides = [f"{key}={as_value(value)}" for key, value in own.items()]
        try:
            _check_keys(own)
            content = values_of_job(loader, config, [*common, *overrides, f"seed={config.seed}"])
            typed = COMPARE.identify(COMPARE.check(content), known)
            _check_length(own, typed)
            found[name] = _Checked(overrides, typed)
        except InvalidInputError as error:
            problems[name] = untitled(error).split("\n  ")
        except CONFIGURATION as error:
            problems[name] = [explained(error)]
    shared = set.intersection(*map(set, problems.values())) if len(problems) == len(settings.arms) else set()
    lines = [line for line in next(iter(problems.values()), []) if line in shared]
    lines += [f"arms.{name}.{line}" for name, own_lines in problems.items() for line in own_lines if line not in shared]
    alike: dict[str, str] = {}
    for name, arm in found.items():
        other = alike.setdefault(_asked(arm.config), name)
        if other != name:
            lines.append(f"arms.{name}: it is the same search as {other}; change it or leave it out")
    if lines:
        raise refusal(lines)
    return found


def _check_keys(own: Mapping[str, Any]) -> None:
    wrong = [key for key in own if str(key).lstrip("+~").replace("/", ".").partition(".")[0] in SHARED]
    if wrong:
        raise refusal(f"{key}: not to be set in an arm; it holds for all of them, outside of arms" for key in wrong)


def _check_length(own: Mapping[str, Any], config: "SearchConfig") -> None:
    from trainers.runs.config import dotted_values
    from trainers.search.probe import knob_of

    knob = knob_of(config)
    if knob in dotted_values(own):
        raise refusal([f"{knob}: not to be set in this arm; cpu_seconds sets it"])


def _asked(config: "SearchConfig") -> str:
    """A hash of what an arm is, but for its length and seed."""
    from trainers.search.probe import LEAST, knob_of

    knob = knob_of(config)
    trainer = config.trainer.model_copy(update={knob.partition(".")[2]: LEAST[knob]})
    return config.model_copy(update={"seed": 0, "trainer": trainer}).digest


def _plan(settings: "CompareConfig", found: Mapping[str, _Checked], folder: Path) -> "Arms":
    from hardware_models.measuring.runner import cpu_model
    from trainers.runs.compare_result import SCHEMA, Arms
    from trainers.runs.versions import versions

    first = next(iter(found.values())).config.seed
    seeds = [first + number for number in range(settings.seeds)]
    return Arms(
        schema=SCHEMA,
        command=shlex.join([COMPARE.name, *sys.argv[1:]]),
        planned=datetime.now(UTC).replace(microsecond=0),
        machine=cpu_model(),
        versions=versions(),
        cpu_seconds=settings.cpu_seconds,
        tolerance=settings.tolerance,
        seeds=seeds,
        regret=settings.regret,
        arms={
            name: _planned(name, arm, settings, seeds, _planned_before(folder, settings)) for name, arm in found.items()
        },
    )


def _planned_before(folder: Path, settings: "CompareConfig") -> dict[str, "Arm"]:
    """The arms of an earlier command in this folder for as many CPU-seconds, by what they ask."""
    from trainers.runs.compare_result import ARMS, Arms
    from trainers.runs.files import read_as

    with suppress(InvalidInputError):  # there was none, or it is torn
        before = read_as(folder / ARMS, Arms)
        if before.cpu_seconds == settings.cpu_seconds:
            return {arm.asked: arm for arm in before.arms.values()}
    return {}


def _planned(
    name: str, arm: _Checked, settings: "CompareConfig", seeds: Sequence[int], before: Mapping[str, "Arm"]
) -> "Arm":
    """The arm with its length. Raises: InvalidInputError if its short searches fail, or it cannot cost as much."""
    from trainers.runs.compare_result import Arm, Probe
    from trainers.search.probe import knob_of, planned, probe

    knob, asked = knob_of(arm.config), _asked(arm.config)
    if asked in before:
        length, probes = before[asked].length, before[asked].probes
    else:
        tell(f"{name}: short searches, to see what its steps or candidates cost")
        try:
            costs = probe(_of_length(arm.config, {}), settings.cpu_seconds, tell)
            length = planned(costs, knob, settings.cpu_seconds)
        except InvalidInputError as error:
            raise refusal(f"arms.{name}: {line}" for line in untitled(error).split("\n  ")) from error
        except Exception as error:  # a diverged training, say; Hydra would go on
            raise InvalidInputError(f"arms.{name}: a short search failed: {type(error).__name__}: {error}") from error
        probes = [Probe(length=steps, cpu_seconds=round(seconds, 3)) for steps, seconds in costs]
    whole = _of_length(arm.config, {knob.partition(".")[2]: length})
    runs = [whole.model_copy(update={"seed": seed}).run_key for seed in seeds]
    tell(f"{name}: {knob}={length} for {settings.cpu_seconds:g} CPU-seconds")
    return Arm(overrides=arm.overrides, asked=asked, knob=knob, length=length, probes=probes, runs=runs)


def _of_length(config: "SearchConfig", length: Mapping[str, int]) -> "SearchConfig":
    """An arm's configuration with its length, and without random networks beside those searched for."""
    from trainers.search.probe import random_candidates

    update = {**length, "random_candidates": random_candidates(config)}
    return config.model_copy(update={"trainer": config.trainer.model_copy(update=update)})


def _planned_overrides(arm: "Arm", config: "SearchConfig") -> list[str]:
    from trainers.search.probe import random_candidates

    return [f"{arm.knob}={arm.length}", f"trainer.random_candidates={as_value(random_candidates(config))}"]
