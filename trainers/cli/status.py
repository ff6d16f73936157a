"""`espalier-status`: a table of runs, or JSON, and the commands that finish what is open."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from search_spaces.errors import InvalidInputError
from trainers.cli.command import discard_output
from trainers.runs.plain_text import printable
from trainers.sweeps.records import cut
from trainers.sweeps.survey import Row, exit_code, survey

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
        discard_output()
    sys.exit(exit_code(rows))


def _show(rows: Sequence[Row], commands: Sequence[str]) -> None:
    cells = [_cells(row) for row in rows]
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
        cut(row.overrides or ""),
        row.state,
        "" if row.epoch is None else f"{row.epoch}/{row.epochs}",
        "" if row.attempt is None else str(row.attempt),
        "" if row.seconds is None else f"{row.seconds:.0f} s",
        "" if row.accuracy is None else f"{row.accuracy:.3f}",
        "" if row.met is None else f"{row.met}/{row.devices}",
        " ".join((row.reason or "").split()),
    )
    return tuple(map(printable, shown))


if __name__ == "__main__":
    main()
