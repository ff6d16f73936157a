"""One search: feasible? train and prune, choose, prove, write. However it ends, its folder says so."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml

from hardware_models.budgets.budget_problem import Survivors
from hardware_models.errors import BudgetInfeasibleError
from hardware_models.measuring.measure import counted
from search_spaces.errors import InvalidInputError
from trainers.checkpoints import CHECKPOINTS, remove_checkpoints
from trainers.config import SearchConfig
from trainers.derive import derive
from trainers.endings import EXIT_CODES, Ending, ending_of, ending_with
from trainers.errors import RunInUseError
from trainers.memory import count_peak_anew, memory_named, peak_mb
from trainers.prepare import Plan, is_host, measured_devices, prepare
from trainers.progress import Watcher
from trainers.provenance import origin
from trainers.result import write_result
from trainers.run_folder import RunFolder, finite, write_text
from trainers.run_state import FINISHED, missing_files, state_of
from trainers.search_module import PruneRecord
from trainers.tracking.alerts import epoch_alerts
from trainers.tracking.identity import follower, is_published
from trainers.tracking.metric_names import STEP
from trainers.tracking.tracker import LocalTracker, RunRecord, SteadyTracker, Tracker, make_tracker
from trainers.training import train
from trainers.verdict import REPORT, feasible_line, headline, report_verdict

Report = Callable[[str], None]
FROM_PYTHON = "run_search() from Python, with the configuration in config.yaml"
TRACKED = "the tracker's copy of the result"


def run_search(config: SearchConfig, report: Report, *, command: str = FROM_PYTHON) -> dict[str, Any]:
    """The content of result.json of a search: found finished in its run folder, or made, or made to its end.

    Raises: InvalidInputError before any work; RunInUseError if another process is at it; BudgetInfeasibleError;
    SearchStoppedError; RunFolderError if a file cannot be written; KeyboardInterrupt, with its number, on a signal.
    """
    folder = RunFolder(config.run_folder, command=command)
    finished = folder.read_result()
    if finished is None:
        _refuse_what_is_known(config, folder)
        with memory_named():
            plan = prepare(config)
        folder.take()
        finished = folder.read_result()  # another process may have ended it meanwhile
        if finished is None:
            _tell_what_is_missing(folder, report)
            return _attempt(plan, folder, report)
        folder.release()
    _tidy(config, folder, finished, report)
    others = _other_threads(config, finished)
    report(f"this search is finished already{others}: {folder.path}; delete the folder to run it again")
    report_verdict(finished, folder.path, report)
    return finished


def _other_threads(config: SearchConfig, finished: Mapping[str, Any]) -> str:
    """That a finished search was computed otherwise than asked for now, which may have found other networks."""
    asked, had = config.trainer.threads, finished["threads"]
    if asked in (None, had):
        return ""
    return f", computed with {counted(had, 'thread')} and not {asked}"


def _refuse_what_is_known(config: SearchConfig, folder: RunFolder) -> None:
    """Raises: BudgetInfeasibleError if an earlier attempt found so, all was told, and nothing was measured here."""
    try:
        state = state_of(folder.path)
    except InvalidInputError:  # there was none, or its status was torn
        return
    if state.state != "infeasible" or measured_devices(config):
        return
    if config.logger["name"] == "local" or is_published(folder.path, follower(config.logger["name"])):
        known = f"known since {state.heartbeat:%Y-%m-%d %H:%M} UTC; to check again, delete {folder.path}"
        raise BudgetInfeasibleError(f"{state.reason}\n({known})")


def _tell_what_is_missing(folder: RunFolder, report: Report) -> None:
    with suppress(InvalidInputError):  # of a run that is new, or whose files are torn
        if missing := missing_files(folder.path):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            report(f"{folder.path} was finished and has lost {missing[0]}{more}; it is searched again")


def _tidy(config: SearchConfig, folder: RunFolder, finished: Mapping[str, Any], report: Report) -> None:
    """Does what is left to do of a finished run: it was killed at its very end, or a tracker has never heard of it."""
    try:
        folder.take()
    except (InvalidInputError, RunInUseError):  # it cannot be written, or another process is about to do it
        return
    try:
        if not (folder.path / REPORT).exists():
            _told(lambda: _write_report(folder.path), REPORT, report)
        remove_checkpoints(folder.path / CHECKPOINTS)
        if config.logger["name"] != "local":
            _told(lambda: _publish_missing(config, folder, finished, report), TRACKED, report)
    finally:
        folder.release()


def _publish_missing(config: SearchConfig, folder: RunFolder, finished: Mapping[str, Any], report: Report) -> None:
    from trainers.tracking.publish import publish_if_missing  # draws too

    publish_if_missing(config.logger, _record(config, folder), report, exit_code=EXIT_CODES[finished["status"]])


def _attempt(plan: Plan, folder: RunFolder, report: Report) -> dict[str, Any]:
    tracker: Tracker = LocalTracker()
    try:
        folder.start(origin(plan))
        tracker = make_tracker(plan.config.logger, _record(plan.config, folder), report)
        with memory_named(), _threads_of(plan.config):
            result = _run(plan, folder, tracker, report)
        folder.close(result["status"])  # a run that cannot say that it is finished is not
        ending = ending_with(result["status"])
    except BaseException as error:
        ending = ending_of(error)
        _close_unfinished(folder, tracker, ending, report)
        if ending.state == "infeasible" and isinstance(tracker, SteadyTracker):
            tracker.is_complete = not plan.measured
        raise
    finally:
        _show_ending(folder, tracker, ending, report)
        folder.release()
    report_verdict(result, folder.path, report)
    return result


def _run(plan: Plan, folder: RunFolder, tracker: Tracker, report: Report) -> dict[str, Any]:
    config = plan.config
    write_text(folder.path / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    counts_anew = count_peak_anew()
    pl.seed_everything(config.seed, verbose=False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    report(headline(plan))
    starts, presolved = _feasible(plan, report)
    module = train(plan, starts, presolved, folder, report, watchers=_watchers(config, tracker))
    clock, train_seconds = time.perf_counter(), module.train_seconds
    derived = derive(plan, module, starts, report)
    seconds = {"train": train_seconds, "derive": time.perf_counter() - clock}
    peak = peak_mb() if counts_anew else None
    return write_result(plan, module, derived, folder, seconds=seconds, peak_memory_mb=peak)


def _feasible(plan: Plan, report: Report) -> tuple[list[Survivors], list[PruneRecord]]:
    """What each device starts with, and what presolve removed. Raises: BudgetInfeasibleError that names all without."""
    starts: list[Survivors] = []
    presolved: list[PruneRecord] = []
    infeasible: list[str] = []
    for problem in plan.problems:
        try:
            survivors, removals = problem.start()
        except BudgetInfeasibleError as error:
            infeasible.append(f"{error}{_measured_anew(plan.config, problem.name)}")
            continue
        starts.append(survivors)
        presolved += [PruneRecord(0, problem.name, removal) for removal in removals]
        report(feasible_line(plan, problem.device, survivors))
    if infeasible:
        raise BudgetInfeasibleError("\n".join(infeasible))
    return starts, presolved


def _measured_anew(config: SearchConfig, device: str) -> str:
    """What else may make the budgets of this very machine feasible: it may have been busy when it was measured."""
    if not is_host(config.hardware[device]):
        return ""
    return f"; if this machine was busy when it was measured, delete host-*.yaml in {config.paths.cache} and repeat"


@contextmanager
def _threads_of(config: SearchConfig) -> Iterator[None]:
    """Computes with as many threads as configured; what the search sets itself is undone too."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.trainer.threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _close_unfinished(folder: RunFolder, tracker: Tracker, ending: Ending, report: Report) -> None:
    """Leaves the last word on a search without a result. What fails here does not hide the error that ended it."""
    state = "failed" if ending.state == "refused" else ending.state  # by a tracker that cannot be reached, say
    if state == "failed":
        _told(folder.log_exception, "run.log", report)
    _told(lambda: folder.close(state, ending.reason), "status.json", report)
    if state in ("infeasible", "interrupted"):
        tracker.alert(state, str(ending.reason))


def _show_ending(folder: RunFolder, tracker: Tracker, ending: Ending, report: Report) -> None:
    """Shows how a search has ended, which its folder knows by now: in the report and to the tracker."""
    _told(lambda: _write_report(folder.path), REPORT, report)
    if ending.state in (*FINISHED, "stopped"):  # a study takes up no trial that it stopped
        remove_checkpoints(folder.path / CHECKPOINTS)
    if ending.state in FINISHED:
        _told(lambda: _publish(tracker, folder.path), TRACKED, report)
    tracker.finish(ending.exit_code)


def _told(act: Callable[[], object], what: str, report: Report) -> None:
    try:
        act()
    except Exception as error:
        report(f"{what} could not be written: {error}")


def _write_report(folder: Path) -> None:
    from trainers.reporting.report import write_report  # needs matplotlib, which takes a second to import

    write_report(folder)


def _publish(tracker: Tracker, folder: Path) -> None:
    from trainers.tracking.publish import publish_result  # draws too

    publish_result(tracker, folder)


def _record(config: SearchConfig, folder: RunFolder) -> RunRecord:
    return RunRecord(
        name=config.run_key,
        group=config.sweep,
        job_type="search",
        tags=tuple(config.tags),
        config=config.model_dump(mode="json"),
        folder=folder.path,
        resumed=folder.attempt > 1,
    )


def _watchers(config: SearchConfig, tracker: Tracker) -> list[Watcher]:
    """Who is told of each row of metrics: the tracker, what turns rows into alerts, and the study of a trial."""
    told = 0

    def tell(rows: Sequence[Mapping[str, Any]]) -> None:
        """Those of earlier attempts too, which this tracker may not have heard of: it leaves out what it has."""
        nonlocal told
        for row in rows[told:]:
            tracker.metrics(row[STEP], finite(row))
        told = len(rows)

    def alert(rows: Sequence[Mapping[str, Any]]) -> None:
        for title, text in epoch_alerts(rows[-2] if len(rows) > 1 else None, rows[-1]):
            tracker.alert(title, text)

    watchers: list[Watcher] = [tell, alert]
    if config.trial is not None:
        from trainers.tuning.trial import watcher  # needs optuna

        watch = watcher(**config.trial.model_dump())
        watchers.append(lambda rows: watch(rows[-1]))
    return watchers
