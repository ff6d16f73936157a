"""What a console script is: its configuration, its check and its work. Nothing heavy is imported before it works."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
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
    sweep if it `sweeps`; none is if there is something to do `instead_of_sweeps`. `asked` says in a line what a plain
    configuration asks for, before anything of it is checked; without it the command has no banner. `finished` is
    what shows a finished run of a checked configuration, if there is one to which nothing is left to be done: it is
    given where lines go, and returns as `work` does.
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
    asked: Callable[[Mapping[str, Any]], str] | None = None
    finished: Callable[[Any], Callable[[Callable[[str], None]], Mapping[str, Any]] | None] = lambda config: None


CONTINUES = "the same command continues:\n  {command}"


def run(app: App) -> NoReturn:
    """Runs the command in `sys.argv` and exits: 0 done, 1 error, 2 refused, 130 and 143 on signals."""
    if {"-h", "--help"} & set(sys.argv[1:]):  # answered without Hydra, which takes a second
        tell(help_text(app))
        sys.exit(0)
    if app.asked is not None:
        tell_banner(app.name, sys.argv[1:])
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


def tell_banner(name: str, arguments: Sequence[str]) -> None:
    """The first line of a command that will work, before anything is imported that takes longer than a moment."""
    from trainers.cli.overrides import ANSWERS

    if not any(argument.partition("=")[0] in ANSWERS for argument in arguments):
        tell("  ".join([f"{name} {version('espalier')}", *filter(None, [shlex.join(arguments)])]))


@dataclass
class Lines:
    """How this process prints: each line after the `owner`, the job whose it is, if several print beside one another.

    A `shared` terminal has lines of other processes too, and so no bar.
    """

    owner: str | None = None
    shared: bool = False

    def of(self, text: str) -> str:
        lines = printable_lines(text)
        if self.owner is None:
            return lines
        return "\n".join(f"[{self.owner}] {line}".rstrip() for line in lines.split("\n"))


LINES = Lines()


@contextmanager
def lines_of(owner: str | None, *, shared: bool) -> Iterator[None]:
    """Lines that are printed meanwhile say whose they are."""
    before = LINES.owner, LINES.shared
    LINES.owner, LINES.shared = owner, shared
    try:
        yield
    finally:
        LINES.owner, LINES.shared = before


def has_bar() -> bool:
    """Whether this process has a terminal to itself."""
    return sys.stdout.isatty() and not LINES.shared


def tell(line: str) -> None:
    """Prints a line at once, for other jobs print there too; the work goes on where none can be written."""
    try:
        print(f"{LINES.of(line)}\n", end="", flush=True)
    except OSError:  # whoever read the lines has gone, as `head` does, or the disk is full
        discard_output()


def discard_output() -> None:
    """From now on what is printed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(name: str, message: str) -> None:
    """Tells the user of a command what is wrong."""
    print(LINES.of(f"{name}: {message}"), file=sys.stderr, flush=True)
