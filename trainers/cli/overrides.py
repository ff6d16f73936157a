"""The arguments of a console script: read, put in an order that Hydra takes, and refused with their keys."""

import argparse
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from search_spaces.errors import did_you_mean

# What of Hydra a user may set: how the jobs of a sweep are chosen and run. The rest moves files out of run folders.
LAUNCHING = re.compile(r"[+~]*hydra(\.(launcher|sweeper)\b|/(launcher|sweeper(/sampler)?)(@|=|$))")
OF_HYDRA = re.compile(r"[+~]*hydra(?=[./@=:]|$)")
SHORT_NAMES = {"sampler": "hydra/sweeper/sampler"}  # of groups of Hydra's own, which has none
ANSWERS = ("-c", "--cfg", "-i", "--info", "--hydra-help", "-sc", "--shell-completion", "--version")  # without a run


@dataclass(frozen=True)
class CommandLine:
    """The arguments of a command: `flags` that Hydra takes, overrides, and the folder of --config-dir."""

    flags: list[str]
    overrides: list[str]
    config_dir: str | None
    problems: list[str]

    @property
    def runs(self) -> bool:
        """Whether it runs jobs, and does not only answer."""
        return not any(flag.partition("=")[0] in ANSWERS for flag in self.flags)

    @property
    def needs_plugins(self) -> bool:
        """Whether it composes a configuration, which parts of plug-ins may stand in; TAB and --hydra-help do not."""
        return not any(flag.partition("=")[0] in ("--hydra-help", "-sc", "--shell-completion") for flag in self.flags)

    @property
    def is_sweep(self) -> bool:
        return any(flag in ("-m", "--multirun") for flag in self.flags)


def read_arguments(name: str, arguments: Sequence[str]) -> CommandLine:
    """The arguments of the script `name`. Raises: SystemExit, after a message, if a flag lacks its value."""
    parser = argparse.ArgumentParser(prog=name, add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--cfg", "-c")
    # Hydra would unpickle a file, or take another configuration than the one that is checked.
    parser.add_argument("--experimental-rerun", "--config-path", "-cp", "--config-name", "-cn", dest="replaced")
    known, others = parser.parse_known_args(arguments)
    overrides = [as_written(expand_home(a)) for a in others if not a.startswith("-") and ("=" in a or a[0] == "~")]
    flags = [a for a in others if a.startswith("-") or not ("=" in a or a[:1] == "~")]
    flags += [f"--cfg={known.cfg}"] if known.cfg else []
    problems = not_to_be_set(overrides)
    if known.replaced is not None:
        problems.append(
            "--config-path, --config-name, --experimental-rerun: not to be used; --config-dir adds a folder"
        )
    if known.config_dir is not None and not os.path.isdir(known.config_dir):
        problems.append(f"--config-dir: no such folder: {known.config_dir}")
    return CommandLine(flags, overrides, known.config_dir, problems)


def expand_home(argument: str) -> str:
    """The argument with `~/` at the start of its value replaced by the home folder: Hydra cannot read a `~` there."""
    key, equals, value = argument.partition("=")
    return f"{key}={os.path.expanduser(value)}" if equals and value.startswith("~/") else argument


def as_written(argument: str) -> str:
    """The argument as Hydra reads what is meant: 2024_11 of a sweep as a name, one plug-in as a list."""
    key, equals, value = argument.partition("=")
    argument = f"{SHORT_NAMES.get(key, key)}{equals}{value}"
    argument = re.sub(r"^(\+{0,2}plugins)=([\w.]+)$", r"\1=[\2]", argument)
    return re.sub(r"^(\+{0,2}sweep)=([+\d_]*[+_][+\d_]*)$", r"\1='\2'", argument)


def not_to_be_set(overrides: Iterable[str]) -> list[str]:
    """What is wrong with overrides of Hydra's own settings."""
    return [
        f"{key_of(override)}: not to be set here; allowed of hydra's keys: hydra/launcher, hydra/sweeper, "
        "hydra.launcher.* and hydra.sweeper.* but for _target_; paths.runs says where run folders go"
        for override in overrides
        if OF_HYDRA.match(override) and ("_target_" in override or not LAUNCHING.match(override))
    ]


def key_of(override: str) -> str:
    """What an override sets: `trainer.steps` of `++trainer.steps=3`."""
    return override.partition("=")[0].lstrip("+~")


def quoted(text: str) -> str:
    """The text as a value of an override that means these very characters: in quotes, interpolating nothing."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # for OmegaConf, which reads it after Hydra
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), literal) + "'"


def unreadable(override: str, message: str) -> str:
    """That Hydra cannot read an override, with what its parser says."""
    key, value = key_of(override), override.partition("=")[2]
    why = "" if message.startswith("Lexer") else message.partition("\n")[0]
    return f"{key}: got {value!r}, which cannot be read{f' ({why})' if why else ''}; quote it, as '{key}=\"...\"'"


def unknown_key(key: str, allowed: Iterable[str]) -> str:
    """That no configuration has `key`, with the keys beside it: the last part of it is one of `allowed` or wrong."""
    return f"{key}: no such key; {did_you_mean(key.rpartition('.')[2], allowed)}"


def unknown_choice(choice: str, allowed: Iterable[str]) -> str:
    """That a group has no such file, as space/resnet, with those that there are."""
    group, _, name = choice.rpartition("/")
    return f"{group}: no such choice: {choice}; {did_you_mean(name, allowed)}"
