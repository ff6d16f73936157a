"""What became of the runs of a folder, why, and the commands that finish what is open."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from search_spaces.errors import InvalidInputError
from trainers.runs.exit_status import EXIT_CODES
from trainers.runs.files import read_as
from trainers.runs.state import FINISHED, RunState, state_of, this_process, why_lost
from trainers.sweeps.records import FILE, Sweep, begun, jobs_of, known_state, overrides_in, own_overrides, read_sweep
from trainers.sweeps.sweep import in_sweep

NEVER_BEGAN = "never began"  # a job without a run folder whose sweep has ended: nobody will run it
NAMED = 8  # jobs that ended alike and are named at the end of a sweep; `espalier-status` names each
# The exit code is that of the first of these that a run of the folder is in.
CODES = {
    **dict.fromkeys(("unreadable", "failed", "interrupted", "refused", NEVER_BEGAN), 1),
    **{"infeasible": 2, "unmet": 3, "running": 4, "queued": 4, "stopped": 0, "done": 0},
}
AGAIN = ("queued", "interrupted", "failed", "unreadable", NEVER_BEGAN)  # what the same command runs again
FINAL = (*FINISHED, "stopped", "infeasible")  # what it does not


@dataclass(frozen=True)
class Row:
    """A run, or a job of a sweep that has no run folder; `command` is what finishes it, if it is to be repeated.

    `seconds` are those since its last heartbeat if it runs, else those that it took. `overrides` are those that not all
    jobs of its sweep have; none outside a sweep of several. `accuracy` is the mean over devices of the validation
    accuracy, a share; `met` counts the devices within budget.
    """

    run: str
    state: str
    reason: str | None = None
    overrides: str | None = None
    command: str | None = None
    attempt: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    seconds: float | None = None
    accuracy: float | None = None
    met: int | None = None
    devices: int | None = None


def exit_code(rows: Iterable[Row]) -> int:
    """0 if every run is done, else the code of the worst."""
    states = {row.state for row in rows}
    return next(code for state, code in CODES.items() if state in states)


def survey(folder: Path, *, now: datetime | None = None) -> tuple[list[Row], list[str]]:
    """Every run of a run folder, of a sweep's folder or of a folder of sweeps, and the commands that finish the open.

    Raises: InvalidInputError if there is none.
    """
    if not os.path.isdir(folder):  # for a name too long, too
        raise InvalidInputError(f"no such folder: {folder}; give the folder of a run, of a sweep, or paths.runs")
    moment = now or datetime.now(UTC)
    runs = sorted({path.parent for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}status.json")})
    rows = {run: _row(run, os.path.relpath(run, folder), now=moment) for run in runs}
    for place in {run.parent for run in runs}:
        _name_by_commands({run: row for run, row in rows.items() if run.parent == place}, rows)
    for path in sorted(path for depth in ("", "*/") for path in folder.glob(depth + FILE)):
        try:
            sweep = read_sweep(path.parent)
        except InvalidInputError as error:
            rows[path] = Row(os.path.relpath(path, folder), "unreadable", str(error))
            continue
        if sweep is not None:
            _add_jobs(rows, sweep, path.parent, prefix=os.path.relpath(path.parent, folder), now=moment)
    if not rows:
        raise InvalidInputError(f"no runs in {folder}; give the folder of a run, of a sweep, or paths.runs")
    commands = [row.command for row in rows.values() if row.command is not None and row.state in AGAIN]
    return list(rows.values()), list(dict.fromkeys(commands))


def _name_by_commands(runs: Mapping[Path, Row], rows: dict[Path, Row]) -> None:
    """Tells runs of one folder apart by overrides that not all of their commands have."""
    given = {run: overrides_in(row.command) for run, row in runs.items() if row.command is not None}
    for run, name in zip(given, own_overrides(list(given.values())), strict=True):
        rows[run] = replace(rows[run], overrides=name)


def _add_jobs(rows: dict[Path, Row], sweep: Sweep, place: Path, *, prefix: str, now: datetime) -> None:
    """Adds what a sweep knows of its jobs: their overrides, those without a folder, and the command of those open."""
    running = is_running(sweep, place, now=now)
    for job, row in zip(jobs_of(sweep, place), job_rows(sweep, place, running=running, now=now), strict=True):
        run = place / (job.folder or row.run)
        known = rows.get(run, replace(row, run=os.path.normpath(f"{prefix}/{row.run}")))
        if row.state == "queued":
            known = replace(known, state="queued", reason=None)
        command = known.command
        if known.state in AGAIN:
            command = None if running else sweep.command
        rows[run] = replace(known, overrides=row.overrides, command=command)


def is_running(sweep: Sweep, folder: Path, *, now: datetime) -> bool:
    """Whether the process of a sweep runs; on another host it does as long as one of its runs gives a sign."""
    if sweep.model_dump(include={"pid", "pid_start", "host"}) == this_process():
        return in_sweep()
    signs = [sweep.started, *(state.heartbeat for state in begun(sweep, folder, now=now).values())]
    silent_s = (now - max(signs)).total_seconds()
    return why_lost(sweep.pid, sweep.pid_start, host=sweep.host, silent_s=silent_s) is None


def job_rows(sweep: Sweep, folder: Path, *, running: bool, now: datetime | None = None) -> list[Row]:
    """A row per job of a sweep: its state, as its status.json says, and its reason."""
    rows = []
    jobs = jobs_of(sweep, folder, now=now)
    for number, (job, name) in enumerate(zip(jobs, own_overrides([job.overrides for job in jobs]), strict=True)):
        state = None if job.folder is None else known_state(folder / job.folder, now=now)
        run = f"job {number}" if state is None or job.folder is None else job.folder
        if job.refused is not None:
            row = Row(run, "refused", job.refused)
        elif state is None:
            why = "its sweep ended first, or it could not write its run folder"
            row = Row(run, "queued") if running else Row(run, NEVER_BEGAN, why)
        elif running and state.started < sweep.started and state.state not in FINAL:
            row = Row(run, "queued")
        else:
            row = Row(run, state.state, state.reason)
        rows.append(replace(row, overrides=job.label or name))
    return rows


def summary(rows: Sequence[Row]) -> list[str]:
    """How many jobs ended in each state, and why those that did not end well did not, each reason once."""
    counts = Counter(row.state for row in rows)
    alike: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.reason is not None:
            alike.setdefault((row.state, " ".join(row.reason.split())), []).append(row.overrides or row.run)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    lines = [f"{len(rows)} job{'s' * (len(rows) != 1)}: {states}"]
    for (state, reason), names in alike.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"  {state:11} {', '.join(names[:NAMED])}{more}: {reason}")
    return lines


def sweep_exit_codes(rows: Iterable[Row]) -> list[int]:
    """The exit code of each job of a sweep that has ended; other processes of a study may be at theirs."""
    return [EXIT_CODES.get(row.state, 1) for row in rows if row.state != "running"]


def worst_code(codes: Iterable[int]) -> int:
    """The exit code of several jobs: 1 if any failed, else the first that is not 0."""
    others = [code for code in codes if code != 0]
    return 1 if 1 in others else next(iter(others), 0)


def _row(run: Path, name: str, *, now: datetime) -> Row:
    try:
        state = state_of(run, now=now)
    except InvalidInputError as error:
        return Row(name, "unreadable", str(error))
    found: str = state.state
    reason, accuracy = state.reason, None
    met: list[bool] = []
    if found in FINISHED:
        try:
            accuracy, met, missing = _figures(run)
            if missing:
                found, reason = "unreadable", f"missing: {', '.join(missing)}"
        except InvalidInputError as error:
            found, reason = "unreadable", str(error)
    return Row(
        run=name,
        state=found,
        reason=reason,
        command=state.command,
        attempt=state.attempt,
        epoch=state.epoch,
        epochs=state.epochs,
        seconds=_seconds(state, now=now),
        accuracy=accuracy,
        met=sum(met) if met else None,
        devices=len(met) or None,
    )


def _figures(run: Path) -> tuple[float, list[bool], list[str]]:
    """Of a finished run: validation accuracy, which devices are within budget, and the files that it has lost."""
    from trainers.deploy.retrain_result import RetrainResult, is_retrained, lost_files
    from trainers.runs.result import missing_files, read_result  # large schemas

    path = run / "result.json"
    if is_retrained(run):
        trained = read_as(path, RetrainResult)
        return trained.validation_accuracy.mean, [], lost_files(run, trained)
    result = read_result(path)
    met = [device.met for device in result.devices.values()]
    return result.objective["validation_accuracy"], met, missing_files(run)


def _seconds(state: RunState, *, now: datetime) -> float:
    since, until = (state.heartbeat, now) if state.state == "running" else (state.started, state.heartbeat)
    return max(0.0, (until - since).total_seconds())
