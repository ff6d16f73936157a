"""The console scripts, one Hydra application each. The configuration ends here; plain values go on."""

import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from hardware_models.errors import BudgetInfeasibleError
from search_spaces.errors import EspalierError, InvalidInputError
from trainers import sweep
from trainers.apps import CALIBRATE, MEASURE, SEARCH, TUNE, App, tell
from trainers.errors import RunInUseError, SearchStoppedError
from trainers.overrides import (
    expand_home,
    misplaced_profiles,
    named,
    not_text,
    not_to_be_set,
    overrides_last,
    unknown_choice,
    unknown_key,
    without_key,
)
from trainers.run_state import FINISHED
from trainers.sweep import Job, JobFailedError

DONE, ERROR, REFUSED, UNMET = 0, 1, 2, 3
CODES = {
    "done": DONE,
    "stopped": DONE,
    "unmet": UNMET,
    "infeasible": REFUSED,
    "refused": REFUSED,
    "failed": ERROR,
    "busy": ERROR,
}
# Where no configuration can be composed; Hydra has assertions about what it was given.
CONFIGURATION = (HydraException, OmegaConfBaseException, ValueError, OSError, AssertionError)


def search() -> None:
    """Runs `espalier-search` and exits: 0 done, 1 error, 2 refused, 3 a budget not met, 130 and 143 on signals."""
    _run(SEARCH)


def tune() -> None:
    """Runs `espalier-tune` and exits as `espalier-search` does after a sweep."""
    # A group of Hydra's own, which has no shorter name.
    sys.argv[1:] = [re.sub(r"^sampler=", "hydra/sweeper/sampler=", argument) for argument in sys.argv[1:]]
    _run(TUNE)


def measure() -> None:
    """Runs `espalier-measure` and exits: 0 done, 1 error, 2 refused, 130 and 143 on signals."""
    _run(MEASURE)


def calibrate() -> None:
    """Runs `espalier-calibrate` and exits: 0 done, 1 error, 2 refused, 130 and 143 on signals."""
    _run(CALIBRATE)


def _run(app: App) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors arrive here as they are
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell has it ignored in the background
        signal.signal(signal.SIGINT, _interrupt)
    sys.exit(_guarded(app))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends a run as Ctrl-C does, whatever it is at, after the jobs that it has in other processes."""
    if sweep.in_sweep():
        sweep.stop_jobs()
    raise KeyboardInterrupt(number)


def _interrupt_job(number: int, frame: FrameType | None) -> None:
    """Ends a job in a process of its own; the sweep may pass on a signal that the whole terminal has had."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


@contextmanager
def _signals_of_a_job() -> Iterator[None]:
    """SIGTERM and Ctrl-C end a job in a process of its own, whatever its launcher makes of them."""
    before = {number: signal.signal(number, _interrupt_job) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _guarded(app: App) -> int:
    """The exit code of the command in `sys.argv`."""
    command = shlex.join([app.name, *sys.argv[1:]])
    sys.argv[1:] = overrides_last(map(expand_home, sys.argv[1:]))
    os.environ.pop(sweep.VARIABLE, None)
    arguments = get_args_parser().parse_args()
    wrong = [*not_text(sys.argv[1:]), *without_key(arguments.overrides), *not_to_be_set(arguments.overrides)]
    if arguments.config_dir is not None and not os.path.isdir(arguments.config_dir):
        wrong.append(f"--config-dir: no such folder: {arguments.config_dir}")
    if arguments.experimental_rerun is not None:  # it unpickles what it is given
        wrong.append("--experimental-rerun: not to be used; config.yaml in a run folder is what ran")
    if wrong:
        return _say(app, REFUSED, _listed(wrong))
    runs = not (arguments.cfg or arguments.info or arguments.help or arguments.hydra_help or arguments.shell_completion)
    if app.sweeps and runs and not arguments.multirun:
        sys.argv.insert(1, "--multirun")
    flags = [f"--config-dir={arguments.config_dir}"] if arguments.config_dir else []
    process, codes = os.getpid(), [DONE]

    def job(config: DictConfig) -> dict[str, Any]:
        own = shlex.join([app.name, *flags, *_task_overrides(HydraConfig.get())])
        with nullcontext() if os.getpid() == process else _signals_of_a_job():
            ended, returned = _contained(app, config, own, alone=os.getpid() != process)
        codes.append(ended.code or DONE)
        if sweep.in_sweep() and ended.state not in FINISHED:
            raise JobFailedError(ended.state, ended.code or DONE, ended.reason or ended.state)
        return returned

    try:
        hydra.main(version_base="1.3", config_path="pkg://conf", config_name=app.config)(job)()
    except JobFailedError:  # of which its user has been told
        pass
    except KeyboardInterrupt as error:
        _end_sweep()
        code = 128 + (error.args[0] if error.args else signal.SIGINT)
        return _say(app, code, f"interrupted; {app.interrupted.format(command=command)}")
    except SystemExit as end:  # of Hydra, when it has told what it was asked for; or of `Start`
        codes.append(int(end.code or DONE))
    except CONFIGURATION as error:
        codes.append(_say(app, REFUSED, named(explained(error), arguments.overrides)))
    except Exception as error:
        if not (sweep.in_sweep() and sweep.has_begun()):
            raise
        sweep.await_jobs()  # of a launcher that has lost one
        codes.append(_say(app, ERROR, f"a process of the sweep is gone ({type(error).__name__})"))
    return exit_code([*_end_sweep(), *codes])


def exit_code(codes: Iterable[int]) -> int:
    """That of several jobs: 1 if any failed, else the first that is not 0."""
    others = [code for code in codes if code != DONE]
    return ERROR if ERROR in others else next(iter(others), DONE)


def _end_sweep() -> list[int]:
    """The exit codes of the jobs of the sweep that this was, if it was one, after a summary of it."""
    folder = sweep.sweep_folder() if sweep.in_sweep() else None
    ended = sweep.end_sweep() if sweep.in_sweep() else None
    if folder is None or ended is None:
        return []
    for line in sweep.summary(ended.jobs):
        tell(line)
    tell(f"report  {_report_of(folder)}")
    return [ERROR if job.code in (None, sweep.KILLED) else job.code or DONE for job in ended.jobs]


def _report_of(folder: Path) -> str:
    """Where the report of a sweep is, or why there is none: the sweep is worth as much without it."""
    try:
        from trainers.reporting.report import write_report

        return os.path.relpath(write_report(folder))
    except Exception as error:
        return f"could not be written: {type(error).__name__}: {error}"


def _contained(app: App, config: DictConfig, command: str, *, alone: bool) -> tuple[Job, dict[str, Any]]:
    """One job: what has become of it, and what sweepers are given. Its failure is told here, where it happened.

    A signal ends the job if it is `alone` in its process, and all that the process is at if not.
    """
    settings = HydraConfig.get()
    number = settings.job.num if sweep.in_sweep() else 0
    job = Job(number=number, overrides=_task_overrides(settings), pid=os.getpid(), host=os.uname().nodename)
    if sweep.in_sweep() and sweep.is_stopping():
        return job.ended("interrupted", 128 + signal.SIGTERM, "the sweep was interrupted before it began"), {}
    job = _noted(job.model_copy(update={"state": "running"}))
    returned: dict[str, Any] = {}
    try:
        content = _plain_values(config)
        folder = app.folder(content)
        if folder is not None and sweep.in_sweep():
            job = _noted(job.model_copy(update={"folder": os.path.relpath(folder, sweep.sweep_folder())}))
        result = app.work(content, command)
        job = job.ended(result["status"], CODES[result["status"]], None)
        returned = {"status": job.state, "objective": dict(result.get("objective", {})), "folder": str(folder)}
    except BudgetInfeasibleError as error:
        job = job.ended("infeasible", _say(app, REFUSED, str(error)), str(error))
    except (InvalidInputError, OmegaConfBaseException) as error:
        job = job.ended("refused", _say(app, REFUSED, str(error)), str(error))
    except RunInUseError as error:
        job = job.ended("busy", _say(app, CODES["busy"], str(error)), str(error))
    except SearchStoppedError as error:
        job = job.ended("stopped", _say(app, DONE, str(error)), str(error))
    except EspalierError as error:
        job = job.ended("failed", _say(app, ERROR, str(error)), str(error))
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        job = job.ended("interrupted", 128 + number, f"ended by {signal.Signals(number).name}")
        if not alone:
            _noted(job)
            raise
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        job = job.ended("failed", _say(app, ERROR, f"{reason}; this is a fault of Espalier, please report it"), reason)
    return _noted(job), returned


def _noted(job: Job) -> Job:
    if sweep.in_sweep():
        sweep.note_job(job)
    return job


def _plain_values(config: DictConfig) -> dict[str, Any]:
    misplaced = misplaced_profiles(_placed_profiles()) if _has_own_files() else []
    if misplaced:
        raise InvalidInputError(_listed(misplaced))
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _task_overrides(settings: Any) -> list[str]:
    """As they were given: read one by one, an interpolation among them would be resolved."""
    overrides = OmegaConf.to_container(settings.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return [str(override) for override in overrides]


def _has_own_files() -> bool:
    """Whether the configuration may hold files that do not come with Espalier."""
    return any(
        source.provider not in ("hydra", "main", "schema") for source in HydraConfig.get().runtime.config_sources
    )


def _placed_profiles() -> list[tuple[str, str]]:
    """Each chosen file of the group `hardware`, as hardware/host, and the key of the configuration it was put at.

    Those that the command line places itself, as hardware@hardware.second=host, are left out.
    """
    settings = HydraConfig.get()
    overrides = [*settings.overrides.hydra, *_task_overrides(settings)]
    loader = GlobalHydra.instance().config_loader()
    composed = loader.compute_defaults_list(settings.job.config_name, overrides, RunMode.RUN)
    return [
        (chosen.config_path, chosen.package or "")
        for chosen in composed.defaults
        if (chosen.config_path or "").startswith("hardware/") and "@" not in (chosen.override_key or "")
    ]


class Start(Callback):
    """Before Hydra makes the folder of a sweep: refuses what is none, and writes down the jobs that there will be."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        name = str(config.hydra.help.app_name)
        try:
            folder = sweep.checked_folder(str(config.paths.runs), str(config.sweep))
            launcher, jobs = str(config.hydra.runtime.choices["hydra/launcher"]), _jobs(config)
            if launcher in sweep.ALL_AT_ONCE and jobs:
                os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // len(jobs))))
            sweep.begin_sweep(folder, command=shlex.join([name, *sys.argv[1:]]), launcher=launcher, jobs=jobs)
        except (*CONFIGURATION, EspalierError) as error:  # raised here, it would be a warning and no more
            sys.exit(_tell(name, REFUSED, named(explained(error), _task_overrides(config.hydra))))


def _jobs(config: DictConfig) -> list[list[str]]:
    """The overrides of each job, if they are known: other sweepers than Hydra's own think of jobs as they go."""
    if not str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):
        return []
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    overrides = parser.parse_overrides(_task_overrides(config.hydra))
    return BasicSweeper.split_arguments(overrides, None)[0]


def explained(error: Exception) -> str:
    """What is wrong with a command line that makes no configuration, in one line that names the key."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        return unknown_choice(error.missing_cfg_file, error.options)
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        parent = cause.parent_node
        return unknown_key(cause.full_key, set(map(str, parent)) - {"hydra"} if isinstance(parent, DictConfig) else ())
    if isinstance(error, OverrideParseException):
        return f"{error.override}: {error.message}"
    return str(error) or type(error).__name__


def _listed(problems: Iterable[str]) -> str:
    return "\n  ".join(["the configuration cannot be used:", *problems])


def _say(app: App, code: int, message: str) -> int:
    return _tell(app.name, code, message)


def _tell(name: str, code: int, message: str) -> int:
    print(f"{name}: {message}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    search()
