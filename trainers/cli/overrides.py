"""The arguments of a console script: read, put in an order that Hydra takes, and refused with their keys."""

import argparse
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainers.cli.command import choices

# What of Hydra a user may set: how the jobs of a sweep are chosen and run. The rest moves files out of run folders.
LAUNCHING = re.compile(r"[+~]*hydra(\.(launcher|sweeper)\b|/(launcher|sweeper(/sampler)?)(@|=|$))")
OF_HYDRA = re.compile(r"[+~]*hydra(?=[./@=:]|$)")
NESTED = re.compile(r"\[[^\]]*[\[{]")  # not of a sweep over lists, as [a],[b]
PLAIN = re.compile(r"(?!(?:null|true|false|inf|nan|yes|no|on|off)$)[A-Za-z_]\w*", re.IGNORECASE)  # words without quotes
COMPLETION = ("-sc", "--shell-completion")  # what TAB asks
ANSWERS = (*COMPLETION, "-c", "--cfg", "-i", "--info", "--hydra-help", "--version")  # without a run


@dataclass(frozen=True)
class CommandLine:
    """The arguments of a command: `flags` that Hydra takes, overrides, and the folder of --config-dir."""

    flags: list[str]
    overrides: list[str]
    config_dir: str | None
    problems: list[str]

    def has(self, *flags: str) -> bool:
        return any(flag.partition("=")[0] in flags for flag in self.flags)

    @property
    def is_sweep(self) -> bool:
        return self.has("-m", "--multirun")


def read_arguments(arguments: Sequence[str]) -> CommandLine:
    """The arguments of a script. Raises: SystemExit, after a message, if --config-dir lacks its value."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    # Hydra would unpickle a file, or take another configuration than the one that is checked.
    parser.add_argument("--experimental-rerun", "--config-path", "-cp", "--config-name", "-cn", dest="replaced")
    known, others = parser.parse_known_args(arguments)
    overrides = [as_meant(a) for a in others if not a.startswith("-") and ("=" in a or a[0] == "~")]
    flags = [a for a in others if a.startswith("-") or not ("=" in a or a[:1] == "~")]
    problems = [*not_to_be_set(overrides), *nested_choices(overrides)]
    if known.replaced is not None:
        problems.append(f"--config-name: got {known.replaced}, not to be used; --config-dir adds a folder")
    if known.config_dir is not None and not os.path.isdir(known.config_dir):
        problems.append(f"--config-dir: no such folder: {known.config_dir}")
    return CommandLine(flags, overrides, known.config_dir, problems)


def as_meant(argument: str) -> str:
    """The argument as Hydra can read it: `~/` at the start of a value is the home folder, one plug-in a list.

    What a class of the user's own takes stands in no file: `space.arguments` has any key.
    """
    key, equals, value = argument.partition("=")
    if re.match(r"space\.arguments[.=]", argument):
        key = f"++{key}"
    if key.lstrip("+") == "plugins" and "[" not in value:
        value = f"[{value}]"
    return f"{key}{equals}{os.path.expanduser(value) if value.startswith('~/') else value}"


def not_to_be_set(overrides: Iterable[str]) -> list[str]:
    """What is wrong with overrides of Hydra's own settings."""
    return [
        f"{key_of(override)}: not to be set here; allowed of hydra's keys: hydra/launcher, hydra/sweeper, "
        "hydra.launcher.* and hydra.sweeper.* but for _target_; paths.runs says where run folders go"
        for override in overrides
        if OF_HYDRA.match(override) and ("_target_" in override or not LAUNCHING.match(override))
    ]


def nested_choices(overrides: Iterable[str]) -> list[str]:
    """What is wrong with overrides that choose from a group: Hydra takes names only."""
    pairs = [(key_of(override), override.partition("=")[2]) for override in overrides]
    groups = choices() if any(NESTED.match(value) for _, value in pairs) else {}
    return [
        f"{key}: got {value}; allowed: a name or a list of names, of {', '.join(groups[key])}"
        for key, value in pairs
        if key in groups and NESTED.match(value)
    ]


def key_of(override: str) -> str:
    """What an override sets: `trainer.steps` of `++trainer.steps=3`."""
    return override.partition("=")[0].lstrip("+~")


def quoted(text: str) -> str:
    """The text as a value of an override that means these very characters: in quotes, interpolating nothing."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # for OmegaConf, which reads it after Hydra
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), literal) + "'"


def as_value(value: Any) -> str:
    """A plain value as an override has it: `null`, `0.1`, `darts`, `'a text'`, `[1,2]`, `{name:dual}`."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{as_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(as_value, value)) + "]"
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) else quoted(value)
    return "null" if value is None else str(value).lower()
