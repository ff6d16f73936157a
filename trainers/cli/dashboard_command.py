"""`espalier-dashboard`: the W&B dashboard, built into a file or sent to a project."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import NoReturn

import yaml

from search_spaces.errors import EspalierError, InvalidInputError

DONE, ERROR, REFUSED = 0, 1, 2
PROJECT = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9_.-]*)/([^/\\#?%:\x00-\x1f\x7f]{1,128})")
DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
EPILOG = """\
examples
  espalier-dashboard build > dashboard.json
  espalier-dashboard build --devices pixel6,raspberry_pi_4 --metrics latency_ms --output dashboard.json
  espalier-dashboard push my-team/espalier
  espalier-dashboard push my-team/espalier --devices pixel6,raspberry_pi_4
exit codes: 0 done, 1 W&B failed, 2 wrong input or no key"""


class PushError(EspalierError):
    """W&B refused a dashboard, or did not answer."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and exits: 0 done, 1 W&B failed, 2 refused."""
    given = _parser().parse_args(arguments)
    try:
        given.work(given)
    except InvalidInputError as error:
        sys.exit(_say(REFUSED, error))
    except EspalierError as error:
        sys.exit(_say(ERROR, error))
    sys.exit(DONE)


def _say(code: int, error: EspalierError) -> int:
    print(f"espalier-dashboard: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="espalier-dashboard",
        description="One dashboard over all runs of a W&B project: verdict, costs against budgets, the search inside.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="build|push")
    build = commands.add_parser("build", help="write it as JSON; needs no account and no network")
    build.add_argument("project", nargs="?", type=_project, default=("entity", "espalier"), metavar="ENTITY/PROJECT")
    build.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    build.set_defaults(work=_build)
    push = commands.add_parser("push", help="save it in a project of W&B; needs a key")
    push.add_argument("project", type=_project, metavar="ENTITY/PROJECT")
    push.set_defaults(work=_push)
    for command in (build, push):
        command.add_argument(
            "--devices", type=_names(DEVICE, "devices"), metavar="A,B", help="default: of a plain search"
        )
        metrics = _names(DEVICE, "metrics")
        command.add_argument("--metrics", type=metrics, metavar="A,B", help="default: latency_ms,gflops")
    return parser


def _project(text: str) -> tuple[str, str]:
    found = PROJECT.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed: ENTITY/PROJECT, as my-team/espalier")
    return found[1], found[2]


def _names(pattern: re.Pattern[str], what: str) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        found = text.split(",")
        wrong = [name for name in found if not pattern.fullmatch(name)]
        if wrong:
            raise argparse.ArgumentTypeError(f"got {wrong[0]!r}, allowed: names of {what}, joined by commas")
        return list(dict.fromkeys(found))

    return names


def _build(given: argparse.Namespace) -> None:
    from trainers.loggers.dashboard import build_dashboard, charts, specification

    entity, project = given.project
    workspace = build_dashboard(entity, project, devices=_devices(given), metrics=_metrics(given))
    text = json.dumps({"workspace": specification(workspace), "charts": charts()}, indent=2) + "\n"
    if given.output is None:
        print(text, end="")
        return
    try:
        given.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"--output {given.output}: {error.strerror}; name a file you can write") from error


def _push(given: argparse.Namespace) -> None:
    from trainers.loggers.wandb import WandbError, has_key, register_chart

    devices, metrics = _devices(given), _metrics(given)
    if not has_key():
        raise InvalidInputError("there is no key of W&B; run `wandb login` or set WANDB_API_KEY; `build` needs none")
    from trainers.loggers.dashboard import build_dashboard, charts, push_dashboard

    entity, project = given.project
    workspace = build_dashboard(entity, project, devices=devices, metrics=metrics)
    for name, chart in charts().items():
        try:
            register_chart(entity, name, chart)
        except WandbError as error:  # W&B does not tell a chart that it has from one that it refuses
            print(f"espalier-dashboard: chart {name} was not taken, or is there already: {error}", file=sys.stderr)
    try:
        print(push_dashboard(workspace))
    except WandbError as error:
        raise PushError(f"W&B did not take the dashboard: {error}") from error


def _devices(given: argparse.Namespace) -> list[str]:
    """Those asked for, else those of a search that says nothing of devices."""
    if given.devices is not None:
        return list(given.devices)
    defaults = yaml.safe_load(resources.files("conf").joinpath("search.yaml").read_text(encoding="utf-8"))["defaults"]
    return next(list(entry["hardware"]) for entry in defaults if "hardware" in entry)


def _metrics(given: argparse.Namespace) -> list[str]:
    if given.metrics is None:
        return ["latency_ms", "gflops"]
    from hardware_models.profile import METRICS

    wrong = [metric for metric in given.metrics if metric not in METRICS]
    if wrong:
        raise InvalidInputError(f"--metrics: got {wrong[0]!r}, allowed: {', '.join(METRICS)}")
    return list(given.metrics)
