"""Plug-ins of one file each in the working folder, and what importing them leaves behind taken away again."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search_spaces import registry
from trainers.runs import plugins

EXAMPLES = Path(__file__).parent / "example_plugin" / "espalier_example"  # as docs/extend.md shows them


def copy_examples(folder: Path) -> None:
    """Puts each example beside the commands of a user who works in `folder`."""
    for path in EXAMPLES.glob("[!_]*.py"):
        (folder / path.name).write_bytes(path.read_bytes())


@contextmanager
def forget_plugins(folder: Path) -> Iterator[None]:
    """Afterwards this process knows nothing of modules in `folder`."""
    imported = set(plugins._IMPORTED)
    known = {kind: dict(each._registered) for kind, each in registry._REGISTRIES.items()}
    try:
        yield
    finally:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(str(folder)):
                del sys.modules[name]
        plugins._IMPORTED.intersection_update(imported)
        plugins._content.cache_clear()
        for kind, each in registry._REGISTRIES.items():
            each._registered = known.get(kind, {})
