"""`espalier-status`: what became of the runs of a folder, why, and the commands that finish what is open."""

import argparse
import json
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from search_spaces.errors import InvalidInputError
from trainers.runs.plain_text import printable
from trainers.runs.state import FINISHED, RunState, missing_files, result_of, state_of
from trainers.sweeps.records import FILE, UNFINISHED, Job, Sweep, is_running, own_overrides, read_sweeps, sweep_folders

NEVER_BEGAN = "never began"  # a job still `queued` when its sweep ended: nobody will run it
WIDEST = 40  # characters of the overrides in the table
# The exit code is that of the first of these that a run of the folder is in.
CODES = {
    **dict.fromkeys(("unreadable", "failed", "interrupted", "refused", NEVER_BEGAN), 1),
    **{"infeasible": 2, "unmet": 3, "running": 4, "queued": 4, "busy": 4, "stopped": 0, "done": 0},
}
AGAIN = (*UNFINISHED, "unreadable", NEVER_BEGAN)  # what the same command runs again, if nothing else does
COLUMNS = ("run", "overrides", "state", "epoch", "attempt", "time", "val acc", "met", "reason")
EPILOG = """
Examples
  espalier-status                      every run in runs/
  espalier-status runs/strategies      the runs of a sweep
  espalier-status --json runs/strategies | jq '.runs[] | select(.state == "failed") | .reason'
  while espalier-status runs/strategies > table.txt; [ $? = 4 ]; do sleep 60; done     # until none runs
Columns: overrides are what tells the jobs of a sweep apart; time is how long the last attempt took, of a running one
how long ago it last gave a sign; val acc is the validation accuracy, mean over devices; met counts devices in budget.
Exit codes: 0 all done, 1 any failed, interrupted, refused or that never began, 2 any infeasible or no runs there, 3 any
with a budget not met, 4 any queued or running; the first of these that holds.
"""


@dataclass(frozen=True)
class Row:
    """A run, a job of a sweep that has no run folder yet, or a study that was cut short, which has a `command` alone.

    `seconds` are those since its last sign if it runs, else those that it took. `overrides` are those that not all jobs
    of its sweep have; none outside a recorded sweep of several. `accuracy` is the mean over devices of the validation
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


def main() -> None:
    """Runs `espalier-status` and exits: 0 all done; else 1, 2, 3 or 4, as its help says."""
    parser = argparse.ArgumentParser(
        prog="espalier-status",
        description="What became of runs, why, and the commands that finish what is open.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", nargs="?", default="runs", help="of a run, a sweep, or several sweeps (default: runs)"
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON, with nothing shortened")
    arguments = parser.parse_args()
    try:
        rows, commands = survey(Path(os.path.expanduser(arguments.folder)))
    except InvalidInputError as error:
        print(f"espalier-status: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        if arguments.json:
            print(json.dumps({"runs": [asdict(row) for row in rows], "commands": commands}, indent=2, allow_nan=False))
        else:
            _show(rows, commands)
    except BrokenPipeError:  # whoever read the table has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(exit_code(rows))


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
            sweeps = read_sweeps(place, now=moment)
        except InvalidInputError as error:
            others.append(Row(os.path.normpath(f"{prefix}/{FILE}"), "unreadable", str(error)))
            continue
        for sweep in sweeps:
            waiting = _without_a_folder(place, sweep, prefix=prefix)
            others += waiting
            own = {place / job.folder: name for job, name in _told_apart(sweep) if job.folder is not None}
            rows |= {run: replace(rows[run], overrides=name) for run, name in own.items() if run in rows}
            told = [*waiting, *(row for run, row in rows.items() if run in own)]
            cut_short = _cut_short(sweep, told, prefix=prefix)
            others += cut_short
            commands = _with_sweep(commands, sweep, [*told, *cut_short])
    for run, name in _by_their_commands(runs, rows).items():
        rows[run] = replace(rows[run], overrides=name)
    if not (rows or others):
        raise InvalidInputError(f"no runs in {folder}; give the folder of a run, of a sweep, or paths.runs")
    return [*rows.values(), *others], list(dict.fromkeys(commands))


def _by_their_commands(runs: Sequence[Path], rows: Mapping[Path, Row]) -> dict[Path, str]:
    """What tells runs apart that no sweep in their folder tells of any more: overrides that not all of them have."""
    found: dict[Path, str] = {}
    for place in {run.parent for run in runs}:
        commands = {run: rows[run].command for run in runs if run.parent == place}
        given = {run: [o for o in shlex.split(text)[1:] if "=" in o] for run, text in commands.items() if text}
        shared = set.intersection(*map(set, given.values())) if given else set()
        own = {run: " ".join(o for o in overrides if o not in shared) for run, overrides in given.items()}
        found |= {run: name for run, name in own.items() if name and rows[run].overrides is None}
    return found


def _with_sweep(commands: list[str], sweep: Sweep, own: Sequence[Row]) -> list[str]:
    """The commands with that of a sweep in place of those of its jobs; none while it runs, for it may yet do them."""
    theirs = {row.command for row in own}
    others = [command for command in commands if command not in theirs]
    again = any(row.state in AGAIN for row in own)
    return [*others, sweep.command] if again and not is_running(sweep) else others


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
        try:
            accuracy, met = _result(run)
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


def _result(run: Path) -> tuple[float, list[bool]]:
    """Validation accuracy of a finished run, and whether each device is within budget.

    Raises: InvalidInputError if its file cannot be read, or does not tell.
    """
    result = result_of(run)
    try:
        accuracy = result["objective"]["validation_accuracy"]
        met = [device["met"] is True for device in result["devices"].values()]
        if not 0 <= accuracy <= 1:
            raise ValueError(f"validation_accuracy is {accuracy!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        told = f"fields 'objective' and 'devices' are not those of a search ({type(error).__name__}: {error})"
        raise InvalidInputError(f"{run / 'result.json'}: {told}; delete its folder and run the search again") from error
    return accuracy, met


def _without_a_folder(folder: Path, sweep: Sweep, *, prefix: str) -> list[Row]:
    """The jobs of a sweep that have no run folder: not begun, just begun, or refused."""
    rows = []
    for job, name in _told_apart(sweep):
        has_folder = job.folder is not None and (folder / job.folder / "status.json").exists()
        if not has_folder and job.state not in FINISHED:  # or its folder has been deleted since
            run = os.path.normpath(f"{prefix}/job {job.number}")
            rows.append(Row(run, *_state_of_job(job, sweep), overrides=name))
    return rows


def _cut_short(sweep: Sweep, own: Sequence[Row], *, prefix: str) -> list[Row]:
    """A row for a study that would go on if it were repeated, unless a run or job of it already says so."""
    if not sweep.was_cut_short or any(row.state in AGAIN for row in own):
        return []
    return [Row(os.path.normpath(f"{prefix}/command"), "interrupted", sweep.reason, command=sweep.command)]


def _told_apart(sweep: Sweep) -> list[tuple[Job, str | None]]:
    """Each job of a sweep with what tells it from the others; nothing does if it is the only one."""
    if len(sweep.jobs) == 1:
        return [(sweep.jobs[0], None)]
    return list(zip(sweep.jobs, own_overrides(sweep.jobs), strict=True))


def _state_of_job(job: Job, sweep: Sweep) -> tuple[str, str | None]:
    if job.state == "queued" and not is_running(sweep):
        return NEVER_BEGAN, "its sweep ended before its turn"
    if job.state in CODES:
        return job.state, job.reason
    return "unreadable", f"sweep.json: field 'state' is {job.state!r}"


def _show(rows: Sequence[Row], commands: Sequence[str]) -> None:
    cells = [_cells(row) for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*COLUMNS)
        for line in cells:
            table.add_row(*(Text(cell) for cell in line))  # a reason may hold what rich takes for markup
        Console().print(table)
    else:
        widths = [max(map(len, column)) for column in zip(COLUMNS, *cells, strict=True)]
        for line in (COLUMNS, *cells):
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    counts = Counter(row.state for row in rows)
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    for command in commands:
        print(f"repeat  {printable(command)}")


def _cells(row: Row) -> tuple[str, ...]:
    shown = (
        row.run,
        _cut(row.overrides or ""),
        row.state,
        "" if row.epoch is None else f"{row.epoch}/{row.epochs}",
        "" if row.attempt is None else str(row.attempt),
        "" if row.seconds is None else f"{row.seconds:.0f} s",
        "" if row.accuracy is None else f"{row.accuracy:.3f}",
        "" if row.met is None else f"{row.met}/{row.devices}",
        " ".join((row.reason or "").split()),
    )
    return tuple(map(printable, shown))


def _cut(text: str) -> str:
    """Overrides in the width of a table: keys by their last names, for what they are set to tells the jobs apart."""
    if len(text) > WIDEST:
        text = re.sub(r"[\w@/+~]+\.(?:[\w@/]+\.)*(?=\w+=)", "\N{HORIZONTAL ELLIPSIS}", text)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}\N{HORIZONTAL ELLIPSIS}"


if __name__ == "__main__":
    main()
