"""`espalier-compare`: named arms of searches at equal measured cost, several seeds of each."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainers.cli.command import CONTINUES, App, run
from trainers.cli.search_command import asked, check_search, identify, run_folder, search_command, work

if TYPE_CHECKING:
    from trainers.runs.config import SearchConfig

OF_COMPARISONS = ("arms", "seeds", "cpu_seconds", "tolerance", "regret")


def check_compare(content: dict[str, Any]) -> "SearchConfig":
    """The configuration of a search of an arm; what is the comparison's own is checked before. Raises: as it does."""
    return check_search({key: value for key, value in content.items() if key not in OF_COMPARISONS})


def _work(config: "SearchConfig", command: str) -> Mapping[str, Any]:
    return work(config, search_command(command, config.sweep, without=OF_COMPARISONS))


COMPARE = App(
    "espalier-compare", "compare", check_compare, _work, CONTINUES, run_folder, identify, sweeps=True, asked=asked
)


def main() -> None:
    """Runs `espalier-compare` and exits as `espalier-search` does after a sweep."""
    run(COMPARE)
