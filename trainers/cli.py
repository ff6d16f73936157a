"""The console scripts, one Hydra application each. The configuration ends here; plain values go on."""

import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hardware_models.errors import BudgetInfeasibleError
from search_spaces.errors import EspalierError, InvalidInputError

DONE, ERROR, REFUSED, UNMET = 0, 1, 2, 3


@dataclass(frozen=True)
class App:
    """A console script: its YAML file, what it does with plain values, and what an interrupted user is told.

    `work` returns the exit code. It imports what it needs itself, so that --help and --cfg answer at once.
    """

    name: str
    config: str
    work: Callable[[dict[str, Any]], int]
    interrupted: str


def _search(content: dict[str, Any]) -> int:
    from trainers.config import validate
    from trainers.search import run_search

    result = run_search(validate(content), _print)
    return UNMET if result["status"] == "unmet" else DONE


def _measure(content: dict[str, Any]) -> int:
    from trainers.measure_config import validate_measure

    config = validate_measure(content)
    from trainers.measure import run_measure

    run_measure(config, _print)
    return DONE


def _calibrate(content: dict[str, Any]) -> int:
    from trainers.calibrate_config import validate_calibrate

    config = validate_calibrate(content)
    from trainers.calibrate import run_calibrate, run_propose

    (run_calibrate if config.propose is None else run_propose)(config, _print)
    return DONE


SEARCH = App("espalier-search", "search", _search, "the same command starts this search again")
MEASURE = App("espalier-measure", "measure", _measure, "what was measured is kept; this continues:\n  {command}")
CALIBRATE = App("espalier-calibrate", "calibrate", _calibrate, "the same command starts again")


def search() -> None:
    """Runs `espalier-search` and exits: 0 done, 1 error, 2 refused, 3 a budget not met, 130 and 143 on signals."""
    _run(SEARCH)


def measure() -> None:
    """Runs `espalier-measure` and exits: 0 done, 1 error, 2 refused, 130 and 143 on signals."""
    _run(MEASURE)


def calibrate() -> None:
    """Runs `espalier-calibrate` and exits: 0 done, 1 error, 2 refused, 130 and 143 on signals."""
    _run(CALIBRATE)


def _run(app: App) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors arrive here as they are
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(_guarded(app))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends a run as Ctrl-C does, whatever it is at."""
    raise KeyboardInterrupt(number)


def _guarded(app: App) -> int:
    command = shlex.join([app.name, *sys.argv[1:]])
    sys.argv[1:] = overrides_last(map(expand_home, sys.argv[1:]))
    codes: list[int] = []  # of the jobs of this command, in order

    def job(config: DictConfig) -> None:
        codes.append(_contained(app, config))

    try:
        hydra.main(version_base="1.3", config_path="pkg://conf", config_name=app.config)(job)()
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # a configuration that cannot be composed
        return _say(app, REFUSED, str(error))
    except KeyboardInterrupt as error:
        code = 128 + (error.args[0] if error.args else signal.SIGINT)
        return _say(app, code, f"interrupted; {app.interrupted.format(command=command)}")
    return min((code for code in codes if code != DONE), default=DONE)


def _contained(app: App, config: DictConfig) -> int:
    """One job. Its failure is told and kept here: raised, it would end a sweep's other jobs unseen."""
    try:
        misplaced = misplaced_profiles(_placed_profiles())
        if misplaced:
            raise InvalidInputError("\n  ".join(["the configuration cannot be used:", *misplaced]))
        content = OmegaConf.to_container(config, resolve=True)
        assert isinstance(content, dict)
        return app.work({str(key): value for key, value in content.items()})
    except (InvalidInputError, BudgetInfeasibleError, OmegaConfBaseException) as error:
        return _say(app, REFUSED, str(error))
    except EspalierError as error:
        return _say(app, ERROR, str(error))
    except Exception as error:
        traceback.print_exc()
        return _say(app, ERROR, f"{type(error).__name__}: {error}; this is a fault of Espalier, please report it")


def _placed_profiles() -> list[tuple[str, str]]:
    """Each chosen file of the group `hardware`, as hardware/host, and the key of the configuration it was put at.

    Those that the command line places itself, as hardware@hardware.second=host, are left out.
    """
    settings = HydraConfig.get()
    overrides = [*settings.overrides.hydra, *settings.overrides.task]
    loader = GlobalHydra.instance().config_loader()
    composed = loader.compute_defaults_list(settings.job.config_name, overrides, RunMode.RUN)
    return [
        (chosen.config_path, chosen.package or "")
        for chosen in composed.defaults
        if (chosen.config_path or "").startswith("hardware/") and "@" not in (chosen.override_key or "")
    ]


def misplaced_profiles(placed: Iterable[tuple[str, str]]) -> list[str]:
    """What is wrong with where profiles were put: one at another's key would replace it without a word."""
    problems = []
    for path, package in placed:
        name = path.rpartition("/")[2]
        if package != f"hardware.{name}":
            problems.append(
                f"{name}.yaml puts its profile at {package or 'the top'}; "
                f"its first line must be `# @package hardware.{name}`"
            )
    return problems


def overrides_last(arguments: Iterable[str]) -> list[str]:
    """The same arguments with flags first: Hydra's parser refuses overrides on both sides of a flag such as `-m`."""
    given = list(arguments)
    overrides = [a for a in given if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    return [a for a in given if a not in overrides] + overrides


def expand_home(argument: str) -> str:
    """The argument with `~/` at the start of its value replaced by the home folder: Hydra cannot read a `~` there."""
    key, equals, value = argument.partition("=")
    return f"{key}={os.path.expanduser(value)}" if equals and value.startswith("~/") else argument


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:  # whoever read the lines has gone, as `head` does; the work goes on unheard
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(app: App, code: int, message: str) -> int:
    print(f"{app.name}: {message}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    search()
