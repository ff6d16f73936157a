"""The arguments of a console script: put in an order that Hydra takes, and what is wrong with them in one line each."""

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

# What of Hydra a user may set: how the jobs of a sweep are thought of and run. The rest moves files out of run folders.
LAUNCHING = re.compile(r"[+~]*hydra(\.(launcher|sweeper)\b|/(launcher|sweeper(/sampler)?)(@|=|$)|\.searchpath=)")
SHORT_NAMES = {"sampler": "hydra/sweeper/sampler"}  # of groups of Hydra's own, which has none
LISTED = re.compile(r"(?P<unknown>.*: no such .*?);? (?P<allowed>allowed.*)")  # as `unknown_key` has it
OF_HYDRA = re.compile(r"[+~]*hydra(?=[./@=:]|$)")


def overrides_last(arguments: Iterable[str]) -> list[str]:
    """The same arguments with flags first: Hydra's parser refuses overrides on both sides of a flag such as `-m`."""
    given = list(arguments)
    overrides = [a for a in given if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    return [a for a in given if a not in overrides] + overrides


def expand_home(argument: str) -> str:
    """The argument with `~/` at the start of its value replaced by the home folder: Hydra cannot read a `~` there."""
    key, equals, value = argument.partition("=")
    return f"{key}={os.path.expanduser(value)}" if equals and value.startswith("~/") else argument


def as_written(argument: str) -> str:
    """The argument as Hydra reads what is meant: 2024_11 of a sweep as a name, one plug-in as a list."""
    argument = re.sub(r"^(\+{0,2}plugins)=([\w.]+)$", r"\1=[\2]", argument)
    return re.sub(r"^(\+{0,2}sweep)=([+\d_]*[+_][+\d_]*)$", r"\1='\2'", argument)


def not_to_be_set(overrides: Iterable[str]) -> list[str]:
    """What is wrong with overrides of Hydra's own settings."""
    return [
        f"{key_of(override)}: not to be set here; of hydra's keys take hydra/launcher, "
        "hydra/sweeper, hydra.launcher.* and hydra.sweeper.* but for _target_, and hydra.searchpath; "
        "paths.runs says where run folders go"
        for override in overrides
        if OF_HYDRA.match(override) and ("_target_" in override or not LAUNCHING.match(override))
    ]


def not_text(arguments: Iterable[str]) -> list[str]:
    """What is wrong with arguments that no file could hold: bytes that are no UTF-8."""
    return [
        f"{argument!r}: not in UTF-8" for argument in arguments if argument != argument.encode(errors="ignore").decode()
    ]


def without_key(overrides: Iterable[str]) -> list[str]:
    """What is wrong with overrides that set nothing: Hydra fails on some of them."""
    return [f"{override!r}: names no key; write key=value" for override in overrides if not key_of(override)]


def key_of(override: str) -> str:
    """What an override sets: `trainer.steps` of `++trainer.steps=3`."""
    return override.partition("=")[0].lstrip("+~")


def named(message: str, overrides: Iterable[str]) -> str:
    """The message, with the overrides that it may speak of where it names the key of none."""
    given = list(dict.fromkeys(overrides))
    if any(f"{key_of(override)}:" in message or f"'{key_of(override)}'" in message for override in given):
        return message
    values = {override: override.partition("=")[2] for override in given}
    spoken_of = [override for override in given if len(values[override]) > 1 and values[override] in message] or given
    return f"{message}; given: {' '.join(map(shlex.quote, spoken_of))}" if given else message


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
    above, dot, last = key.rpartition(".")
    names = sorted(allowed)
    close = [f"{above}{dot}{name}" for name in get_close_matches(last, names, n=2)]
    meant = f"; did you mean {' or '.join(close)}?" if close else ";"
    return f"{key}: no such key{meant} allowed{f' in {above}' if above else ''}: {', '.join(names) or 'none'}"


def unknown_choice(choice: str, allowed: Iterable[str]) -> str:
    """That a group has no such file, as space/resnet, with those that there are."""
    group, _, name = choice.rpartition("/")
    names = sorted(allowed)
    close = get_close_matches(name, names, n=2)
    meant = f"; did you mean {' or '.join(close)}?" if close else ";"
    return f"{group}: no such choice: {choice}{meant} allowed: {', '.join(names)}"


def listed_once(problems: Iterable[str]) -> Iterator[str]:
    """The problems, what is allowed in place of an unknown name only where it has not been told of another."""
    told = set[str]()
    for problem in problems:
        found = LISTED.fullmatch(problem)
        yield found["unknown"] if found is not None and found["allowed"] in told else problem
        if found is not None:
            told.add(found["allowed"])
