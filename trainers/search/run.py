"""One search: feasible? train and prune, choose, prove, write. However it ends, its folder says so."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
import yaml

from hardware_models.budgets.budget_problem import Survivors
from hardware_models.infeasible import BudgetInfeasibleError
from search_spaces.errors import InvalidInputError
from trainers.runs.config import SearchConfig, is_host
from trainers.runs.exit_status import ExitStatus, RunInUseError, status_of, status_with
from trainers.runs.files import write_text
from trainers.runs.folder import RunFolder
from trainers.runs.result import Result, missing_files
from trainers.runs.state import CHECKPOINTS, FINISHED, state_of
from trainers.search.callbacks import Report, SearchCallback
from trainers.search.checkpoints import remove_checkpoints
from trainers.search.console import bound_lines, data_lines, feasible_line, headline
from trainers.search.derive import Compared, compare, derive
from trainers.search.display import Bar, Display, Lines
from trainers.search.finished import report_finished
from trainers.search.heritage import inherit
from trainers.search.memory import count_peak_anew, memory_named, peak_mb
from trainers.search.module import make_module
from trainers.search.phases import Progress
from trainers.search.plan import Plan, measured_devices, prepare
from trainers.search.priors.scoring import make_prior
from trainers.search.provenance import Computed, computed_here, origin
from trainers.search.result_writer import write_result
from trainers.search.search_state import PruneRecord, SearchState, trusted
from trainers.search.strategy import needs_supernet
from trainers.search.trained import asked_of, keep_supernet, trained_by
from trainers.search.training import train
from trainers.search.verdict import report_verdict
from trainers.search.workload import phases_of

FROM_PYTHON = "run_search() from Python, with the configuration in config.yaml"


def run(
    config: SearchConfig,
    report: Report,
    *,
    command: str = FROM_PYTHON,
    callbacks: Sequence[SearchCallback] = (),
    bar: bool = False,
) -> Result:
    """The result of a search: found finished in its run folder, or made, or made to its end.

    Raises: InvalidInputError before any work; RunInUseError if another process is at it; BudgetInfeasibleError;
    SearchStoppedError; RunFolderError if a file cannot be written; KeyboardInterrupt, with its number, on a signal.
    `config` says what its figures come from, as `identified` gives it. A `bar` shows on a terminal how far it is.
    """
    folder = RunFolder(config.run_folder, command=command)
    finished = folder.read_result()
    if finished is None:
        if all(callback.knows_infeasible() for callback in callbacks):
            _refuse_what_is_known(config, folder)
        with memory_named():
            plan = prepare(config)
        folder.take()
        finished = folder.read_result()  # another process may have ended it meanwhile
        if finished is None:
            _tell_what_is_missing(folder, report)
            return _attempt(plan, folder, report, callbacks, bar=bar)
        folder.release()
    _tidy(folder, finished, report, callbacks)
    report_finished(finished, folder.path, report)
    return finished


def _refuse_what_is_known(config: SearchConfig, folder: RunFolder) -> None:
    """Raises: BudgetInfeasibleError if an earlier attempt found so and nothing was measured here."""
    try:
        state = state_of(folder.path)
    except InvalidInputError:  # there was none, or its status was torn
        return
    if state.state == "infeasible" and not measured_devices(config):
        known = f"known since {state.heartbeat:%Y-%m-%d %H:%M} UTC; to check again, delete {folder.path}"
        raise BudgetInfeasibleError(f"{state.reason}\n({known})")


def _tell_what_is_missing(folder: RunFolder, report: Report) -> None:
    with suppress(InvalidInputError):  # of a run that is new, or whose files are torn
        if missing := missing_files(folder.path):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            report(f"{folder.path} was finished and has lost {missing[0]}{more}; it is searched again")


def _tidy(folder: RunFolder, finished: Result, report: Report, callbacks: Sequence[SearchCallback]) -> None:
    """Does what is left to do of a finished run: it was killed at its very end, or is to be logged elsewhere too."""
    try:
        folder.take()
    except (InvalidInputError, RunInUseError):  # it cannot be written, or another process is about to do it
        return
    try:
        remove_checkpoints(folder.path / CHECKPOINTS)
        for callback in callbacks:
            with _reported(callback.what, report):
                callback.on_finished(finished)
    finally:
        folder.release()


def _attempt(
    plan: Plan, folder: RunFolder, to_user: Report, callbacks: Sequence[SearchCallback], *, bar: bool
) -> Result:
    def report(line: str) -> None:
        folder.log(line)
        to_user(line)

    try:
        folder.start(origin(plan))
        folder.log(f"attempt {folder.attempt}: {folder.command}")
        for callback in callbacks:
            callback.on_start()
        with memory_named(), threads_of(plan.config), Bar(report) if bar else Lines(report) as display:
            result = _run(plan, folder, display, callbacks)
        folder.close(result.status)  # a run that cannot say that it is finished is not
        status = status_with(result.status)
    except BaseException as error:
        status = status_of(error)
        _close_unfinished(folder, status, report)
        raise
    finally:
        for callback in callbacks:
            with _reported(callback.what, report):
                callback.on_end(status, measured=bool(plan.measured))
        if status.state in (*FINISHED, "stopped"):  # a study takes up no trial that it stopped
            remove_checkpoints(folder.path / CHECKPOINTS)
        folder.release()
    report_verdict(result, folder.path, report)
    return result


def _run(plan: Plan, folder: RunFolder, display: Display, callbacks: Sequence[SearchCallback]) -> Result:
    config, report, progress = plan.config, display.report, Progress(phases_of(plan), display.show)
    write_text(folder.path / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    counts_anew, on_gpu = count_peak_anew(), config.trainer.accelerator == "gpu"
    if on_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS has no deterministic products
        torch.cuda.reset_peak_memory_stats(plan.device)
    for line in (headline(plan), *data_lines(plan), *bound_lines(plan)):
        report(line)
    outcome = search(plan, folder, report, progress, callbacks=callbacks)
    clock, found = time.perf_counter(), outcome.compared.found
    derived = derive(plan, outcome.compared, report, progress)
    seconds = {**outcome.seconds, "derive": outcome.seconds["derive"] + time.perf_counter() - clock}
    return write_result(
        plan,
        found.state,
        found.trained,
        found.prior,
        derived,
        folder,
        computed=outcome.computed,
        seconds=seconds,
        cpu_seconds=outcome.cpu_seconds,
        peaks={
            "peak_memory_mb": round(peak_mb()) if counts_anew else None,
            "peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated(plan.device) / 1e6) if on_gpu else None,
        },
    )


@dataclass(frozen=True)
class Outcome:
    """A search up to its candidates, with seconds by phase and the CPU-seconds that all this took."""

    compared: Compared
    computed: Computed
    seconds: dict[str, float]
    cpu_seconds: float


def search(
    plan: Plan, folder: RunFolder, report: Report, progress: Progress, *, callbacks: Sequence[SearchCallback] = ()
) -> Outcome:
    """Scores, trains, prunes and compares; a training that was interrupted goes on. Raises: as `run`."""
    config = plan.config
    pl.seed_everything(config.seed, verbose=False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    state = _feasible(plan, report)
    starts = list(state.survivors)
    computed, trained, train_seconds = computed_here(plan), None, 0.0
    clock, cpu_clock = time.perf_counter(), time.process_time()
    prior = None if config.prior is None else make_prior(plan, config.prior, starts, report, progress)
    seconds, cpu_seconds = {"prior": time.perf_counter() - clock}, time.process_time() - cpu_clock
    if config.parent is not None:
        trained = inherit(plan, config.parent, state, report)
    elif needs_supernet(plan.strategy):
        module = make_module(plan, state, computed, prior)
        train(plan, module, folder, report, progress, callbacks=callbacks)
        if state.agreements and state.prune_log:
            report(_pruning_line(state))
        trained, train_seconds = trained_by(module), module.train_seconds
        cpu_seconds += module.cpu_seconds * config.trainer.devices  # processes that do as much each
        if config.trainer.keep == "supernet":  # before networks are compared, which changes its statistics
            asked = {name: asked_of(mapping, margin=config.margin) for name, mapping in config.hardware.items()}
            keep_supernet(folder.path, trained, state, asked=asked)
    if trained is not None:
        trained.supernet.to(plan.device)
    clock, cpu_clock = time.perf_counter(), time.process_time()
    compared = compare(plan, state, starts, trained, prior, report, progress)
    seconds |= {"train": train_seconds, "derive": time.perf_counter() - clock}
    cpu_seconds += time.process_time() - cpu_clock
    return Outcome(compared, computed, seconds, cpu_seconds)


def _pruning_line(state: SearchState) -> str:
    """What decided which choices were pruned."""
    by_logits, last = sum(map(trusted, state.agreements)), state.agreements[-1]
    others = ", costs alone at the others" if by_logits < len(state.agreements) else ""
    evidence = "there were no losses to check them by"
    if last is not None:
        evidence = f"Kendall's tau with losses of the networks drawn is {last:.2f}"
    return f"pruning: the logits decided at {by_logits} of {len(state.agreements)} events{others}; {evidence}"


def _feasible(plan: Plan, report: Report) -> SearchState:
    """The state that a search starts with. Raises: BudgetInfeasibleError that names all without a network."""
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
    state = SearchState(plan.problems, starts, steps=plan.config.trainer.steps)
    state.prune_log += presolved
    return state


def _measured_anew(config: SearchConfig, device: str) -> str:
    """What else may make the budgets of this very machine feasible: it may have been busy when it was measured."""
    if not is_host(config.hardware[device]):
        return ""
    return f"; if this machine was busy when it was measured, delete host-*.yaml in {config.paths.cache} and repeat"


@contextmanager
def threads_of(config: SearchConfig) -> Iterator[None]:
    """Computes with as many threads as configured, or a process's share; what the search sets itself is undone too."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.trainer.threads or max(1, before // config.trainer.devices))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _close_unfinished(folder: RunFolder, status: ExitStatus, report: Report) -> None:
    """Leaves the last word on a search without a result. What fails here does not hide the error that ended it."""
    if status.state == "failed":
        with _reported("run.log", report):
            folder.log_exception()
    with _reported("status.json", report):
        folder.close(status.state, status.reason)


@contextmanager
def _reported(what: str, report: Report) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        report(f"{what} could not be written: {error}")
