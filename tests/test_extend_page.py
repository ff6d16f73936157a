"""docs/extend.md shows the files that tests run."""

import re
from pathlib import Path

from hardware_models.profile import load_profile

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "tests" / "example_plugin"
SHOWN = dict(re.findall(r"^`([\w.]+)`\n\n```\w+\n(.*?)\n```$", (ROOT / "docs" / "extend.md").read_text(), re.S | re.M))


def test_the_page_shows_each_example_as_it_is() -> None:
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml", ".yaml") and path.name[0] != "_"]
    assert {path.name: path.read_text().rstrip() for path in files} == SHOWN


def test_examples_are_short() -> None:
    assert max(len(text.splitlines()) for text in SHOWN.values()) <= 70


def test_the_device_of_the_page_is_a_profile() -> None:
    profile = load_profile(EXAMPLE / "conf" / "hardware" / "pocket_board.yaml")
    assert dict(profile.budgets.items()).keys() == {"latency_ms", "gflops"}
