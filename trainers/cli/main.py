"""The console scripts, one Hydra application each. The configuration ends here; plain values go on."""

import logging
import os
import re
import shlex
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from search_spaces.errors import EspalierError
from trainers.cli.command import CALIBRATE, MEASURE, SEARCH, TUNE, App, tell, unheard
from trainers.cli.composition import CONFIGURATION, CommandLine, all_problems, completions
from trainers.cli.job import run_job, say, task_overrides
from trainers.cli.overrides import (
    SHORT_NAMES,
    as_written,
    expand_home,
    not_text,
    not_to_be_set,
    overrides_last,
    without_key,
)
from trainers.cli.own_files import check_own_files
from trainers.cli.plugin_sections import offer_sections
from trainers.cli.sweep_start import knows_its_jobs
from trainers.runs.exit_status import KILLED, ExitStatus, JobFailedError, StudyRefusedError, status_of, status_with
from trainers.runs.plugins import import_plugins, named_plugins
from trainers.runs.state import FINISHED
from trainers.runs.validation import refusal
from trainers.sweeps import sweep
from trainers.sweeps.records import Job, summary

DONE, ERROR, REFUSED = 0, 1, 2
Ended = dict[tuple[str, ...], Job]  # by overrides
OmegaConf.register_new_resolver("expand_home", os.path.expanduser, replace=True)


def search() -> None:
    """Runs `espalier-search` and exits: 0 done, 1 error, 2 refused, 3 a budget not met, 130 and 143 on signals."""
    _run(SEARCH)


def tune() -> None:
    """Runs `espalier-tune` and exits as `espalier-search` does after a sweep."""
    sys.argv[1:] = [re.sub(r"^sampler=", f"{SHORT_NAMES['sampler']}=", argument) for argument in sys.argv[1:]]
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
    logging.raiseExceptions = False  # Hydra logs what --info tells, and none may be there to read it
    code = _guarded(app)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        unheard()
    sys.exit(code)


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
    sys.argv[1:] = overrides_last(as_written(expand_home(argument)) for argument in sys.argv[1:])
    os.environ.pop(sweep.VARIABLE, None)
    arguments = get_args_parser().parse_args()
    wrong = _wrong_flags(app, arguments)
    shows_help = arguments.help or arguments.hydra_help or arguments.shell_completion
    if not wrong and not shows_help:
        try:
            _import_plugins(arguments)
        except EspalierError as error:
            wrong.append(str(error))
    if wrong:
        return _told(app.name, REFUSED, str(refusal(wrong)))
    if arguments.shell_completion and (completed := completions(os.environ.get("COMP_LINE", ""))):
        tell(" ".join(completed))
        return DONE
    runs = not (arguments.cfg or arguments.info or arguments.help or arguments.hydra_help or arguments.shell_completion)
    if app.sweeps and runs and not arguments.multirun:
        sys.argv.insert(1, "--multirun")
    given = CommandLine(app.config, arguments.overrides, arguments.config_dir)
    codes, ended, ending = [DONE], Ended(), status_with("done")
    check_own_files()
    try:
        offer_sections(arguments.overrides)
        task = _task(app, arguments, ended)
        hydra.main(version_base="1.3", config_path="pkg://conf", config_name=app.config)(task)()
    except JobFailedError:  # of which its user has been told
        pass
    except KeyboardInterrupt as error:
        ending = status_of(error)
        _end_sweep(app.name, ending)
        return _told(app.name, ending.exit_code, f"interrupted; {app.interrupted.format(command=command)}")
    except SystemExit as end:  # of Hydra, when it has told what it was asked for; or of `Start`
        codes.append(int(end.code or DONE))
    except BrokenPipeError:  # whoever read has gone, and wants no more
        unheard()
    except Exception as error:
        if arguments.shell_completion and isinstance(error, CONFIGURATION):  # where there is a prompt
            return DONE
        ending = status_of(error)
        codes.append(_ended_by(error, app, given))
    return exit_code([*_end_sweep(app.name, ending), *codes, *(job.code or DONE for job in ended.values())])


def _import_plugins(arguments: Namespace) -> None:
    folders = [os.getcwd(), *([arguments.config_dir] if arguments.config_dir else [])]
    import_plugins(named_plugins(arguments.overrides), folders=folders)


def _task(app: App, arguments: Namespace, ended: Ended) -> Callable[[DictConfig], dict[str, Any]]:
    """What Hydra calls for each job; those that have ended in this process are kept by their overrides."""
    process, flags = os.getpid(), [f"--config-dir={arguments.config_dir}"] if arguments.config_dir else []

    def job(config: DictConfig) -> dict[str, Any]:
        if os.getpid() != process:
            _import_plugins(arguments)
        own = shlex.join([app.name, *flags, *task_overrides(HydraConfig.get())])
        with nullcontext() if os.getpid() == process else _signals_of_a_job():
            one, returned = run_job(app, config, own, alone=os.getpid() != process)
        ended[tuple(one.overrides)] = one
        # Hydra's own sweeper has no use for a failure: it would tell of it again, and leave out later batches.
        if sweep.in_sweep() and one.state not in FINISHED and not knows_its_jobs(HydraConfig.get().sweeper):
            raise JobFailedError(one.state, one.code or DONE, one.reason or one.state)
        return returned

    return job


def _wrong_flags(app: App, arguments: Namespace) -> list[str]:
    """What is wrong with a command line before Hydra reads it."""
    wrong = [*not_text(sys.argv[1:]), *without_key(arguments.overrides), *not_to_be_set(arguments.overrides)]
    if arguments.config_dir is not None and not os.path.isdir(arguments.config_dir):
        wrong.append(f"--config-dir: no such folder: {arguments.config_dir}")
    if arguments.experimental_rerun is not None:  # it unpickles what it is given
        wrong.append("--experimental-rerun: not to be used; config.yaml in a run folder is what ran")
    if arguments.config_path is not None or arguments.config_name is not None:  # they would replace what is checked
        wrong.append("--config-path, --config-name: not to be used; --config-dir adds a folder of your own files")
    if arguments.multirun and app.instead_of_sweeps is not None:
        wrong.append(f"--multirun: not to be used with {app.name}; {app.instead_of_sweeps}")
    return wrong


def _ended_by(error: Exception, app: App, given: CommandLine) -> int:
    """The exit code of a command that an error has ended, after words for its user. A fault before any job is raised.

    Once a job has begun its configuration was right: what fails then is the surroundings, a process, or a fault.
    """
    begun = sweep.in_sweep() and sweep.has_begun()
    if isinstance(error, CONFIGURATION) and not isinstance(error, StudyRefusedError) and not begun:
        return _told(app.name, REFUSED, all_problems(error, given, app.check))
    if isinstance(error, EspalierError):
        return _told(app.name, status_of(error).exit_code, str(error))
    if not begun:
        raise error
    sweep.await_jobs()  # of a launcher that has lost one
    if isinstance(error, RuntimeError):  # as joblib's and submitit's are
        return _told(app.name, ERROR, f"a process of the sweep is gone ({type(error).__name__})")
    traceback.print_exception(error)
    return _told(app.name, ERROR, f"{status_of(error).reason}; this is a fault of Espalier, please report it")


def exit_code(codes: Iterable[int]) -> int:
    """That of several jobs: 1 if any failed, else the first that is not 0."""
    others = [code for code in codes if code != DONE]
    return ERROR if ERROR in others else next(iter(others), DONE)


def _end_sweep(name: str, ending: ExitStatus) -> list[int]:
    """The exit codes of the jobs of the sweep that this was, if it was one, after a summary of it."""
    if not sweep.in_sweep():
        return []
    folder, ended, codes = sweep.sweep_folder(), None, []
    try:
        ended = sweep.ended_sweep()
        sweep.end_sweep(ending)
    except EspalierError as error:  # of a full disk
        codes.append(_told(name, ERROR, str(error)))
    if ended is None:
        return codes
    jobs = _last_attempts(ended.jobs)
    for line in summary(jobs):
        tell(line)
    tell(f"report  {_report_of(folder)}")
    return [*codes, *(ERROR if job.code in (None, KILLED) else job.code or DONE for job in jobs)]


def _last_attempts(jobs: Iterable[Job]) -> list[Job]:
    """The last job of each trial: a study runs again what was interrupted, or what another process was at."""
    return list({tuple(job.overrides): job for job in jobs}.values())


def _report_of(folder: Path) -> str:
    """Where the report of a sweep is, or why there is none: the sweep is worth as much without it."""
    try:
        from trainers.reports.report import write_report

        return os.path.relpath(write_report(folder))
    except KeyboardInterrupt:  # its jobs have ended, and so does this
        return f"not written: interrupted; this writes it: espalier-report {shlex.quote(os.path.relpath(folder))}"
    except Exception as error:
        return f"could not be written: {type(error).__name__}: {error}"


def _told(name: str, code: int, message: str) -> int:
    say(name, message)
    return code


if __name__ == "__main__":
    search()
