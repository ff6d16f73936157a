"""`espalier-dashboard`: the W&B dashboard, built into a file or sent to a project."""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NoReturn

import yaml

from hardware_models.metrics import METRICS
from search_spaces.errors import InvalidInputError

DONE, ERROR, REFUSED = 0, 1, 2
EPILOG = """\
examples
  espalier-dashboard build > dashboard.json
  espalier-dashboard build --devices pixel6,raspberry_pi_4 --metrics latency_ms --output dashboard.json
  espalier-dashboard push my-team/espalier
  espalier-dashboard push my-team/espalier --devices pixel6,raspberry_pi_4
exit codes: 0 done, 1 W&B failed, 2 wrong input or no key"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and exits: 0 done, 1 W&B failed, 2 refused."""
    given = _parser().parse_args(arguments)
    try:
        given.work(given)
    except InvalidInputError as error:
        print(f"espalier-dashboard: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    sys.exit(DONE)


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
        command.add_argument("--devices", type=_names, metavar="A,B", help="default: of a plain search")
        command.add_argument(
            "--metrics", type=_metrics, metavar="A,B", default="latency_ms,gflops", help="default: latency_ms,gflops"
        )
    return parser


def _project(text: str) -> tuple[str, str]:
    entity, _, project = text.partition("/")
    if not entity or not project or "/" in project:
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed: ENTITY/PROJECT, as my-team/espalier")
    return entity, project


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name for name in text.split(",") if name))


def _metrics(text: str) -> list[str]:
    if set(_names(text)) - set(METRICS):
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed: {', '.join(METRICS)}")
    return _names(text)


def _build(given: argparse.Namespace) -> None:
    from trainers.loggers.dashboard import build_dashboard, charts, specification

    workspace = build_dashboard(*given.project, devices=_devices(given), metrics=given.metrics)
    text = json.dumps({"workspace": specification(workspace), "charts": charts()}, indent=2) + "\n"
    try:
        sys.stdout.write(text) if given.output is None else given.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"--output: got {given.output}: {error.strerror}; name a file you can write") from error


def _push(given: argparse.Namespace) -> None:
    from trainers.loggers.wandb import WandbError, has_key, register_chart

    if not has_key():
        raise InvalidInputError("there is no key of W&B; run `wandb login` or set WANDB_API_KEY; `build` needs none")
    from trainers.loggers.dashboard import build_dashboard, charts, push_dashboard

    workspace = build_dashboard(*given.project, devices=_devices(given), metrics=given.metrics)
    for name, chart in charts().items():
        try:
            register_chart(given.project[0], name, chart)
        except WandbError as error:  # W&B does not tell a chart that it has from one that it refuses
            print(f"espalier-dashboard: chart {name} was refused, or exists already: {error}", file=sys.stderr)
    try:
        print(push_dashboard(workspace))
    except WandbError as error:
        print(f"espalier-dashboard: W&B refused the dashboard: {error}", file=sys.stderr)
        sys.exit(ERROR)


def _devices(given: argparse.Namespace) -> list[str]:
    """Those asked for, else those of a search that names none."""
    defaults = yaml.safe_load(resources.files("conf").joinpath("search.yaml").read_text(encoding="utf-8"))["defaults"]
    return given.devices or next(list(entry["hardware"]) for entry in defaults if "hardware" in entry)
