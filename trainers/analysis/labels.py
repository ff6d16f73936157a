"""What tells runs apart: the keys of their configurations whose values differ, and words made of these."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from trainers.runs.config import dotted_values, fingerprint_fields

SETTINGS_DIGITS = 8  # of the hash, as in the names of run folders
LONGEST = 24  # characters of a value in a label
CHOICES = (".name", "._target_")  # ends of the keys that say which component a section holds
NUMBERED = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)?(\D*)")  # a number, and what follows it
Config = Mapping[str, Any]
Flat = dict[str, Any]  # value by dotted key


def settings_hash(config: Config) -> str:
    """A hash of what a result depends on, the seed aside: runs that share it are one search."""
    return hashlib.sha256(yaml.safe_dump(_settings(config)).encode()).hexdigest()[:SETTINGS_DIGITS]


def differing(configs: Sequence[Config]) -> dict[str, list[Any]]:
    """The dotted keys that results depend on and whose values differ: for each key a value per configuration.

    None where a configuration lacks the key; a key that only some have does not count if these agree. Lists are text,
    written as on a command line, and `hardware` is the devices.
    """
    flats = [_flat(config) for config in configs]
    return {key: [flat.get(key) for flat in flats] for key in _differing(flats)}


def run_labels(configs: Sequence[Config]) -> list[str]:
    """Words for each run, such as `lr=0.03 seed=1`: what differs from the others; none where nothing does.

    Of a key they have as many last parts as tell it from the other keys. What follows from the choice of a component is
    left out, as a learning rate that comes with the optimizer.
    """
    flats = [_flat(config) for config in configs]
    keys = _differing(flats)
    keys = [key for key in keys if not _follows(key, keys, flats)]
    names = _names(keys)
    return [" ".join(_word(key, names[key], flat[key]) for key in keys if key in flat) for flat in flats]


def search_labels(configs: Sequence[Config]) -> dict[str, str]:
    """Words for each search by the hash of its settings: those of a run, the seed aside, and no two alike.

    They are the strategy where nothing differs, and end with the hash where words are not enough.
    """
    searches = {settings_hash(config): _settings(config) for config in configs if config}
    labels = run_labels(list(searches.values()))
    words = [label or config["strategy"]["name"] for config, label in zip(searches.values(), labels, strict=True)]
    taken = Counter(words)
    return {s: word if taken[word] == 1 else f"{word} {s}" for s, word in zip(searches, words, strict=True)}


def natural(words: str) -> list[tuple[float, str]]:
    """A key that sorts words by the numbers in them: `latency_ms=40` before `latency_ms=120`."""
    return [(float(number or -1), text) for number, text in NUMBERED.findall(words)]


def _settings(config: Config) -> dict[str, Any]:
    return {key: value for key, value in fingerprint_fields(config).items() if key != "seed"}


def _flat(config: Config) -> Flat:
    content = fingerprint_fields(config)
    devices = content.get("hardware")
    named = {"hardware": ",".join(map(str, devices))} if isinstance(devices, Mapping) else {}
    flat = named | {key: _plain(value) for key, value in dotted_values(content).items()}
    root = (config.get("data") or {}).get("root")
    if root and flat.get("data.content"):  # people know their data by the folder
        flat["data.content"] = f"{Path(root).name}-{flat['data.content'][:SETTINGS_DIGITS]}"
    return flat


def _plain(value: Any) -> Any:
    """A value, or its text as on a command line if it has several."""
    if not isinstance(value, Mapping | list | set):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).strip().replace(", ", ",")


def _differing(flats: Sequence[Flat]) -> list[str]:
    keys = dict.fromkeys(key for flat in flats for key in flat)
    return [key for key in keys if len({repr(flat[key]) for flat in flats if key in flat}) > 1]


def _follows(key: str, keys: Sequence[str], flats: Sequence[Flat]) -> bool:
    """Whether the choice of its section's component, which differs, says what the value of a key is."""
    choices = [key.partition(".")[0] + end for end in CHOICES]
    for choice in choices:
        if choice in keys and key != choice:
            pairs = {(repr(flat.get(choice)), repr(flat.get(key))) for flat in flats}
            return len(pairs) == len({chosen for chosen, _ in pairs})
    return False


def _names(keys: Sequence[str]) -> dict[str, str]:
    """Each key by as few of its last parts as no other key ends with; a choice by its section."""
    parts = {key: _section(key).split(".") for key in keys}
    names = {}
    for key, own in parts.items():
        others = [other for name, other in parts.items() if name != key]
        lengths = (n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others))
        names[key] = ".".join(own[-next(lengths, len(own)) :])
    return names


def _section(key: str) -> str:
    return next((key.removesuffix(end) for end in CHOICES if key.endswith(end)), key)


def _word(key: str, name: str, value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, float):
        text = f"{value:g}"
    if key.endswith("._target_"):
        text = text.rpartition(".")[2]
    if len(text) > LONGEST:  # lists that are swept often differ at an end
        text = f"{text[: LONGEST // 2 - 1]}\N{HORIZONTAL ELLIPSIS}{text[-LONGEST // 2 :]}"
    return text if key == "strategy.name" else f"{name}={text}"
