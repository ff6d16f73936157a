"""`espalier-report`: the report of a run or a sweep as one HTML file, and the check of a run against its files."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.runs.plain_text import printable_lines
from trainers.runs.plugins import import_plugins, named_plugins

if TYPE_CHECKING:
    from trainers.reports.check import Check

DONE, FAILED, REFUSED = 0, 1, 2
SET_IN = 13  # where what was checked begins in its line
EPILOG = """
Examples
  espalier-report runs/search/mobile-pool-seed0-7fe47eb4     writes report.html into a run's folder
  espalier-report runs/strategies                            and into that of a sweep
  espalier-report verify runs/search/mobile-pool-seed0-7fe47eb4
  espalier-report verify runs/strategies                     each run of a sweep, in a line
  espalier-report verify runs/search/tiny-pool-seed0-5d2a90c1 plugins=my_space   with the plug-in that it was made with
Exit codes: 0 done, and all checks passed; 1 an error, or a check that failed; 2 no run or sweep there.

`verify` hashes every file, rebuilds configuration, cost table, data split and networks, recounts and prices them again,
and tests them again. It prints a line per check: ok, FAILED, or not checked, with the reason and the
fields that no file has again.
"""


def main() -> None:
    """Runs `espalier-report` and exits: 0 done, 1 an error or a failed check, 2 for a folder that is neither."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="espalier-report",
        usage="espalier-report [-h] [verify] FOLDER [plugins=MODULE]",
        description="The report of a run or a sweep as one HTML file; `verify` checks a run against its own files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="FOLDER", help="folder of a run, or of a sweep")
    words: list[str] = parser.parse_args(arguments).words
    plugins = named_plugins(words)
    words = [word for word in words if not word.startswith("plugins=")]
    verify = words[:1] == ["verify"] and len(words) > 1
    if len(words) != 1 + verify:
        return _refuse(REFUSED, f"got {len(words) - verify} folders: {' '.join(words)}; give one")
    folder = Path(os.path.expanduser(words[-1]))
    from search_spaces.errors import EspalierError, InvalidInputError

    try:
        import_plugins(plugins, folders=[Path.cwd()])
        return _verify(folder) if verify else _report(folder)
    except InvalidInputError as error:
        return _refuse(REFUSED, str(error))
    except EspalierError as error:
        return _refuse(FAILED, str(error))


def _report(folder: Path) -> int:
    from trainers.reports.report import write_report

    print(printable_lines(str(write_report(folder))))
    return DONE


def _verify(folder: Path) -> int:
    """Checks a run, or each run of a sweep that has a result, the runs of a sweep in a line each if all is well."""
    from search_spaces.errors import InvalidInputError
    from trainers.reports.verify import verify_run

    if os.path.isfile(folder / "status.json"):
        return _show(verify_run(folder))
    runs = sorted(path.parent for path in folder.glob("*/status.json"))
    if not runs:
        return _refuse(REFUSED, f"{folder}: no run there; give that of a run, <runs>/<sweep>/<run>, or of a sweep")
    codes: list[int] = []
    for run in runs:
        try:
            codes.append(_show(verify_run(run), name=run.name))
        except InvalidInputError as error:
            print(printable_lines(f"{run.name}  not verified: {error}"))
    print(f"{codes.count(DONE)} of {len(runs)} runs passed")
    return FAILED if FAILED in codes else DONE


def _show(checks: "Sequence[Check]", *, name: str | None = None) -> int:
    """Prints the checks of a run, of one that has a `name` in a sweep those that failed."""
    counts = Counter(check.outcome for check in checks)
    counted = f"{counts['ok']} ok, {counts['FAILED']} failed, {counts['not checked']} not checked"
    if name is not None:
        print(printable_lines(f"{name}  {counted}"), flush=True)
    for check in checks:
        if name is None or check.outcome == "FAILED":  # further lines are set in: else a value could pass for a check
            print(printable_lines(check.line).replace("\n", "\n" + " " * SET_IN))
    if name is None:
        print(counted)
    return FAILED if counts["FAILED"] else DONE


def _refuse(code: int, message: str) -> int:
    print(printable_lines(f"espalier-report: {message}"), file=sys.stderr)
    return code
