"""Sections of the configuration for parts of plug-ins, so that `space=mine` needs no YAML file."""

import re
from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

from hydra.core.config_store import ConfigStore

from search_spaces.registry import registry

GROUPS = {  # kind of part: group that chooses one
    **{"spaces": "space", "datasets": "data", "loggers": "logger"},
    **{kind: kind.removesuffix("s") for kind in ("relaxations", "constraints", "samplers", "searchers", "evaluators")},
    "remedies": "remedy",
}
# Arguments that come from elsewhere.
GIVEN = ("num_classes", "channels", "root", "image_size", "subset", "storage", "warmup_steps")


def offer_sections(arguments: Iterable[str]) -> None:
    """Gives each part from outside Espalier a section, of its name and of the defaults of its arguments.

    A part of an installed package is imported for its defaults where a command names it. YAML files come first.
    """
    words = set(re.findall(r"[\w.-]+", " ".join(arguments)))
    for kind, group in GROUPS.items():
        parts = registry(kind)
        for name in parts:
            if not parts.is_built_in(name):
                section = _defaults(parts[name]) if name in words else {}
                package = f"remedy.{name}" if kind == "remedies" else group
                if kind != "remedies":  # of which there may be several, each in a section of its name
                    section = {"name": name, **section}
                if kind == "datasets":  # the rest is that of a shipped set; images keep their size
                    taken = signature(parts[name]).parameters
                    root = "${paths.data}" if "root" in taken else None
                    section |= {"defaults": ["digits", "_self_"], "image_size": None, "shift": 0, "root": root}
                    section |= {"memory_mb": 4096, "cache": "${paths.cache}"} if "storage" in taken else {}
                ConfigStore.instance().store(name, section, group=group, package=package, provider="espalier")


def _defaults(part: Callable[..., Any]) -> dict[str, Any]:
    """The keyword arguments of a part that a configuration may set; null where there is no default."""
    if hasattr(part, "Config"):  # of a logger
        fields = {name: field for name, field in part.Config.model_fields.items() if name != "name"}
        return {name: None if field.is_required() else field.default for name, field in fields.items()}
    return {
        p.name: None if p.default is p.empty else p.default
        for p in signature(part).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in GIVEN
    }
