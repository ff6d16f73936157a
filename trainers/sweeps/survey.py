"""What became of the runs of a folder, why, and the commands that finish what is open."""

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from search_spaces.errors import InvalidInputError
from trainers.runs.exit_status import EXIT_CODES
from trainers.runs.state import FINISHED, RunState, state_of, why_lost
from trainers.sweeps.records import FILE, Job, Sweep, own_overrides, read_sweep, sweep_folders

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
    """A run, a job of a sweep that has no run folder, or a study that was cut short, which has a `command` alone.

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
    others: list[Row] = []
    commands = [row.command for row in rows.values() if row.command is not None and row.state in AGAIN]
    for place in sweep_folders(folder):
        prefix = os.path.relpath(place, folder)
        try:
            sweep = read_sweep(place)
        except InvalidInputError as error:
            others.append(Row(os.path.normpath(f"{prefix}/{FILE}"), "unreadable", str(error)))
            continue
        if sweep is None:
            continue
        running = is_running(sweep, place, now=moment)
        own = job_rows(sweep, place, prefix=prefix, running=running, now=moment)
        for number, (job, row) in enumerate(zip(sweep.jobs, own, strict=True)):
            run = place / (job.folder or "")
            if run in rows:
                whole = replace(rows[run], overrides=row.overrides)
                own[number] = rows[run] = (
                    replace(whole, state="queued", reason=None) if row.state == "queued" else whole
                )
            else:
                others.append(row)
        cut_short = [] if running else _cut_short(sweep, own, prefix=prefix)
        others += cut_short
        theirs = {row.command for row in own}
        commands = [command for command in commands if command not in theirs]
        if not running and any(row.state in AGAIN for row in (*own, *cut_short)):
            commands.append(sweep.command)
    for run, name in _by_their_commands(rows).items():
        rows[run] = replace(rows[run], overrides=name)
    if not (rows or others):
        raise InvalidInputError(f"no runs in {folder}; give the folder of a run, of a sweep, or paths.runs")
    return [*rows.values(), *others], list(dict.fromkeys(commands))


def is_running(sweep: Sweep, folder: Path, *, now: datetime) -> bool:
    """Whether the process of a sweep runs; on another host it does as long as one of its runs gives a sign."""
    if sweep.ended is not None:
        return False
    signs = [
        sweep.started,
        *(state.heartbeat for job in sweep.jobs if (state := _state(job, folder, now=now)) is not None),
    ]
    silent_s = (now - max(signs)).total_seconds()
    return why_lost(sweep.pid, sweep.pid_start, host=sweep.host, silent_s=silent_s) is None


def job_rows(sweep: Sweep, folder: Path, *, prefix: str = ".", running: bool, now: datetime | None = None) -> list[Row]:
    """A row per job of a sweep: its state, as its status.json says, and its reason."""
    rows = []
    for number, (job, name) in enumerate(zip(sweep.jobs, own_overrides(sweep.jobs), strict=True)):
        state = _state(job, folder, now=now)
        run = os.path.normpath(f"{prefix}/{f'job {number}' if state is None else job.folder}")
        if job.refused is not None:
            row = Row(run, "refused", job.refused)
        elif state is None:
            why = "its sweep ended first, or it could not write its run folder"
            row = Row(run, "queued") if running else Row(run, NEVER_BEGAN, why)
        elif running and state.started < sweep.started and state.state not in FINAL:
            row = Row(run, "queued")
        else:
            row = Row(run, state.state, state.reason)
        rows.append(replace(row, overrides=name))
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
        lines.append(f"  {state:11} {names[0] if len(names) == 1 else f'{len(names)} jobs'}: {reason}")
        if len(names) > 1:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            lines.append(f"{'':14}{', '.join(names[:NAMED])}{more}")
    return lines


def sweep_exit_codes(rows: Iterable[Row]) -> list[int]:
    """The exit code of each job of a sweep that has ended."""
    return [EXIT_CODES.get(row.state, 1) for row in rows]


def has_begun(folder: Path) -> bool:
    """Whether a job of the last sweep of a folder has begun. Raises: InvalidInputError if its list is torn."""
    sweep = read_sweep(folder)
    states = [_state(job, folder, now=None) for job in sweep.jobs] if sweep is not None else []
    return sweep is not None and any(state is not None and state.started >= sweep.started for state in states)


def _state(job: Job, folder: Path, *, now: datetime | None) -> RunState | None:
    try:
        return None if job.folder is None else state_of(folder / job.folder, now=now)
    except InvalidInputError:
        return None


def _by_their_commands(rows: Mapping[Path, Row]) -> dict[Path, str]:
    """What tells runs apart that no sweep in their folder lists: overrides that not all of them have."""
    found: dict[Path, str] = {}
    for place in {run.parent for run in rows}:
        commands = {run: row.command for run, row in rows.items() if run.parent == place}
        given = {run: [o for o in shlex.split(text)[1:] if "=" in o] for run, text in commands.items() if text}
        shared = set.intersection(*map(set, given.values())) if given else set()
        own = {run: " ".join(o for o in overrides if o not in shared) for run, overrides in given.items()}
        found |= {run: name for run, name in own.items() if name and rows[run].overrides is None}
    return found


def _row(run: Path, name: str, *, now: datetime) -> Row:
    try:
        state = state_of(run, now=now)
    except InvalidInputError as error:
        return Row(name, "unreadable", str(error))
    found: str = state.state
    reason = state.reason
    accuracy: float | None = None
    met: list[bool] | None = None
    if found in FINISHED:
        from trainers.runs.result import missing_files, read_result  # a large schema

        try:
            result = read_result(run / "result.json")
            accuracy = result.objective["validation_accuracy"]
            met = [device.met for device in result.devices.values()]
            if missing := missing_files(run):
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
        met=None if met is None else sum(met),
        devices=None if met is None else len(met),
    )


def _seconds(state: RunState, *, now: datetime) -> float:
    since, until = (state.heartbeat, now) if state.state == "running" else (state.started, state.heartbeat)
    return max(0.0, (until - since).total_seconds())


def _cut_short(sweep: Sweep, own: Sequence[Row], *, prefix: str) -> list[Row]:
    """A row for a study that would go on if it were repeated, unless a run or job of it already says so."""
    killed = sweep.ended is None or sweep.interrupted is not None
    if not (sweep.open_ended and killed) or any(row.state in AGAIN for row in own):
        return []
    reason = sweep.interrupted or f"process {sweep.pid} is gone: killed, or out of memory"
    return [Row(os.path.normpath(f"{prefix}/command"), "interrupted", reason, command=sweep.command)]
