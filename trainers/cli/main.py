"""The Hydra application of the console scripts: a configuration is composed here, and typed values go on."""

import logging
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from search_spaces.errors import EspalierError, InvalidInputError
from trainers.cli.command import App, discard_output, lines_of, say, tell
from trainers.cli.composition import CONFIGURATION, explained, plain_values, task_overrides
from trainers.cli.overrides import ANSWERS, COMPLETION, CommandLine, read_arguments
from trainers.cli.own_files import search_path
from trainers.cli.owners import owner_of
from trainers.cli.plugin_sections import offer_sections
from trainers.runs.exit_status import SIGNALLED, ExitStatus, status_of, status_with
from trainers.runs.plugins import import_plugins, named_plugins
from trainers.runs.validation import refusal
from trainers.sweeps import sweep
from trainers.sweeps.records import begun, read_sweep
from trainers.sweeps.survey import job_rows, summary, sweep_exit_codes, worst_code

DONE, ERROR, REFUSED = 0, 1, 2
HANDOVER_SECONDS = 1.0  # for a process to give its launcher what its job came to
Ended = dict[tuple[str, ...], ExitStatus]  # by overrides
_signalled: list[int] = []  # signals that ended a job of this process: its launcher may have others for it
OmegaConf.register_new_resolver("expand_home", os.path.expanduser, replace=True)


def run_on_terminal(app: App) -> int:
    """The exit code of the command in `sys.argv`, whose user may press Ctrl-C and whose readers may go."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors arrive here as they are
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell has it ignored in the background
        signal.signal(signal.SIGINT, _interrupt)
    logging.raiseExceptions = False  # Hydra logs what --info prints, and none may be there to read it
    code = run_command(app)
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends a run as Ctrl-C does, whatever it is at, after the jobs that it has in other processes."""
    if sweep.in_sweep():
        sweep.stop_jobs()
    raise KeyboardInterrupt(number)


def run_command(app: App) -> int:
    """The exit code of the command in `sys.argv`: of several jobs 1 if any failed, else the first that is not 0."""
    command = shlex.join([app.name, *sys.argv[1:]])
    os.environ.pop(sweep.VARIABLE, None)
    line = read_arguments(sys.argv[1:])
    problems = list(line.problems)
    if line.is_sweep and app.instead_of_sweeps is not None:
        problems.append(f"--multirun: not to be used with {app.name}; {app.instead_of_sweeps}")
    try:
        if problems:
            raise refusal(problems)
        _import_plugins(line)
    except EspalierError as error:
        return _fail(app.name, REFUSED, str(error))
    flags = ["--multirun"] if app.sweeps and not line.is_sweep and not line.has(*ANSWERS) else []
    own = [search_path(line.config_dir)] if line.config_dir else []
    sys.argv[1:] = [*flags, *line.flags, *own, *line.overrides]
    ended, codes, interrupted = Ended(), [DONE], False
    try:
        offer_sections(line.overrides)
        with _known_mode():
            hydra.main(version_base="1.3", config_path="pkg://conf", config_name=app.config)(_task(app, line, ended))()
    except KeyboardInterrupt as error:
        status, interrupted = status_of(error), True
        codes.append(_fail(app.name, status.exit_code, f"interrupted; {app.interrupted.format(command=command)}"))
    except SystemExit as end:  # of Hydra, when it has answered; or of `Start`
        codes.append(int(end.code or DONE))
    except BrokenPipeError:  # whoever read has gone, and wants no more
        discard_output()
    except Exception as error:
        if line.has(*COMPLETION):
            return DONE
        codes.append(_code_of(error, app))
    codes += _end_sweep(app.name)
    codes += [status.exit_code for status in ended.values()]
    return codes[1] if interrupted else worst_code(codes)


@contextmanager
def _known_mode() -> Iterator[None]:
    """Hydra does not compose all once more to ask for hydra.mode, which nobody may set."""
    get_mode = Hydra.get_mode
    Hydra.get_mode = lambda *given, **more: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = get_mode  # type: ignore[method-assign]


def _task(app: App, line: CommandLine, ended: Ended) -> Callable[[DictConfig], dict[str, Any]]:
    """What Hydra calls for each job; those that have ended in this process are kept by their overrides.

    Sweepers are given how a job ended, whose failure is reported here, where it happened.
    """
    process, flags = os.getpid(), [f"--config-dir={line.config_dir}"] if line.config_dir else []

    def job(config: DictConfig) -> dict[str, Any]:
        overrides, alone = task_overrides(HydraConfig.get()), os.getpid() != process
        if alone:
            _import_plugins(line)
        lines = lines_of(owner_of(config, overrides), shared=alone)
        with lines, _signals_end_the_job() if alone else nullcontext():
            status, returned = _run_job(app, config, shlex.join([app.name, *flags, *overrides]), alone=alone)
        ended[tuple(overrides)] = status
        return {"status": status.state, "error": status.reason, "objective": {}, "folder": None, **returned}

    return job


def _run_job(app: App, config: DictConfig, command: str, *, alone: bool) -> tuple[ExitStatus, dict[str, Any]]:
    """How the job ended, with its objective and folder.

    Raises: KeyboardInterrupt on a signal, unless the job is `alone` in its process: that ends only itself.
    """
    if _signalled and alone:
        return ExitStatus("interrupted", "the sweep was interrupted before it began", SIGNALLED + _signalled[0]), {}
    began = datetime.now(UTC).replace(microsecond=0)
    folder: Path | None = None
    returned: dict[str, Any] = {}
    try:
        content = plain_values(config)
        if app.asked is not None and not sweep.in_sweep():
            tell(app.asked(content))
        typed = app.identify(app.check(content), {})
        folder = app.folder(typed)
        if folder is not None and sweep.in_sweep():
            sweep.name_in_sweep(folder)
        show = app.finished(typed)
        result = app.work(typed, command) if show is None else show(tell)
        status = status_with(result["status"])
        returned = {"objective": dict(result.get("objective", {})), "folder": str(folder)}
    except KeyboardInterrupt as error:
        status = status_of(error)
        if not alone:
            raise
    except EspalierError as error:
        say(app.name, str(error))
        status = status_of(error)
    except Exception as error:
        status = status_of(error)
        traceback.print_exc()
        say(app.name, f"{status.reason}; internal error, please report it")
    is_own = folder is not None and sweep.in_sweep() and folder.resolve().parent == sweep.sweep_folder()
    if folder is not None and is_own and status.state != "busy":
        _record(app.name, folder, status, command=command, began=began)
    return status, returned


@contextmanager
def _signals_end_the_job() -> Iterator[None]:
    """SIGTERM and Ctrl-C end a job in a process of its own, whatever its launcher makes of them; then the process.

    That waits a little: a result that is torn while it is handed over keeps joblib waiting for the rest of it.
    """
    _on_signals(_end_job)
    try:
        yield
    finally:
        handed_over = time.monotonic() + HANDOVER_SECONDS

        def leave(number: int, frame: FrameType | None) -> None:
            if time.monotonic() > handed_over:
                os._exit(SIGNALLED + number)

        _on_signals(leave)


def _end_job(number: int, frame: FrameType | None) -> None:
    _on_signals(signal.SIG_IGN)  # the sweep may pass on a signal that the whole terminal has had
    _signalled.append(number)
    raise KeyboardInterrupt(number)


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _record(name: str, folder: Path, status: ExitStatus, *, command: str, began: datetime) -> None:
    """Writes how a job of a sweep ended into its run folder."""
    try:
        sweep.record_end(folder, status, command=command, began=began)
    except EspalierError as error:  # of a full disk, or of a run that another process is at
        if status.reason is None:  # else the reason has been reported
            say(name, str(error))


def _import_plugins(line: CommandLine) -> None:
    folders = [os.getcwd(), *([line.config_dir] if line.config_dir else [])]
    import_plugins(named_plugins(line.overrides), folders=folders)


def _code_of(error: Exception, app: App) -> int:
    """The exit code of a command that an error has ended, after words for its user.

    Once a job has begun its configuration was right: what fails then is the surroundings, a process, or Espalier.
    """
    has_begun = sweep.in_sweep() and _has_begun(sweep.sweep_folder())
    if isinstance(error, EspalierError):
        return _fail(app.name, status_of(error).exit_code, str(error))
    if isinstance(error, CONFIGURATION) and not has_begun:
        return _fail(app.name, REFUSED, explained(error))
    if has_begun:
        sweep.await_jobs()  # of a launcher that has lost one
        if isinstance(error, RuntimeError):  # as joblib's and submitit's are
            return _fail(app.name, ERROR, f"a process of the sweep is gone ({type(error).__name__})")
    traceback.print_exception(error)
    return _fail(app.name, ERROR, f"{status_of(error).reason}; internal error, please report it")


def _has_begun(folder: Path) -> bool:
    """Whether a job of the sweep in a folder has begun."""
    found = read_sweep(folder)
    return found is not None and bool(begun(found, folder))


def _end_sweep(name: str) -> list[int]:
    """The exit codes of the jobs of the sweep that this was, if it was one, after a summary of it."""
    if not sweep.in_sweep():
        return []
    folder = sweep.sweep_folder()
    sweep.end_sweep()
    try:
        ended = read_sweep(folder)
    except InvalidInputError as error:
        return [_fail(name, ERROR, str(error))]
    if ended is None:
        return []
    rows = job_rows(ended, folder, running=False)
    for line in [*summary(rows), f"report  {_report_of(folder)}"]:
        tell(line)
    return sweep_exit_codes(rows)


def _report_of(folder: Path) -> str:
    """Where the report of a sweep is, or why there is none: the sweep is worth as much without it."""
    try:
        from trainers.reports.report import write_report

        return os.path.relpath(write_report(folder))
    except Exception as error:
        return f"could not be written: {type(error).__name__}: {error}"


def _fail(name: str, code: int, message: str) -> int:
    say(name, message)
    return code
