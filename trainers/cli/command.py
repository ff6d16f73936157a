"""What a console script is: its configuration, its check and its work. Nothing heavy is imported before it works."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

from trainers.runs.plain_text import printable_lines


@dataclass(frozen=True)
class App:
    """A console script.

    `config` names its YAML file in conf. `check` takes plain values and returns the typed configuration; it raises
    InvalidInputError that lists the wrong keys. `work` takes that and the command that runs this job alone, and returns
    the content of a result with its `status`. Both import what they need themselves, so that --help and --cfg answer at
    once. `interrupted` is what a user reads after a signal, `folder` is the run folder of a configuration. `identify`
    gives a configuration what its figures come from, and keeps that in the mapping for other jobs. Each command is a
    sweep if it `sweeps`; none is if there is something to do `instead_of_sweeps`.
    """

    name: str
    config: str
    check: Callable[[dict[str, Any]], Any]
    work: Callable[[Any, str], Mapping[str, Any]]
    interrupted: str
    folder: Callable[[Any], Path | None] = lambda config: None
    identify: Callable[[Any, dict[Any, str]], Any] = lambda config, known: config
    sweeps: bool = False
    instead_of_sweeps: str | None = None


CONTINUES = "the same command continues:\n  {command}"


def run(app: App) -> NoReturn:
    """Runs the command in `sys.argv` and exits: 0 done, 1 error, 2 refused, 130 and 143 on signals."""
    if {"-h", "--help"} & set(sys.argv[1:]):  # answered without Hydra, which takes a second
        tell(help_text(app))
        sys.exit(0)
    from trainers.cli.main import run_on_terminal

    sys.exit(run_on_terminal(app))


def choices() -> dict[str, list[str]]:
    """The groups of conf and their choices."""
    folders = [path for path in resources.files("conf").iterdir() if path.is_dir() and path.name != "hydra"]
    files = {folder.name: [file.name for file in folder.iterdir()] for folder in folders}
    found = {
        group: sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml")) for group, names in files.items()
    }
    return {group: names for group, names in sorted(found.items()) if names}


def help_text(app: App) -> str:
    """The help of a script, which stands in its YAML file, with the groups of conf and their choices."""
    import yaml

    content = yaml.safe_load(resources.files("conf").joinpath(f"{app.config}.yaml").read_text(encoding="utf-8"))
    lines = [f"{group}: {', '.join(names)}" for group, names in choices().items()]
    return str(content["hydra"]["help"]["template"]).replace("$APP_CONFIG_GROUPS", "\n".join(lines))


def tell(line: str) -> None:
    """Prints a line at once, for other jobs print there too; the work goes on where none can be written."""
    try:
        print(f"{printable_lines(line)}\n", end="", flush=True)
    except OSError:  # whoever read the lines has gone, as `head` does, or the disk is full
        discard_output()


def discard_output() -> None:
    """From now on what is printed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(name: str, message: str) -> None:
    """Tells the user of a command what is wrong."""
    print(printable_lines(f"{name}: {message}"), file=sys.stderr, flush=True)
