"""What a search costs in CPU-seconds, found out by short ones, and how long it may be for what it may cost."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil, floor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from search_spaces.errors import InvalidInputError
from trainers.runs.config import SearchConfig
from trainers.runs.folder import RunFolder
from trainers.search.phases import Progress
from trainers.search.plan import Plan, prepare
from trainers.search.run import search, threads_of
from trainers.search.searchers import SEARCHERS
from trainers.search.strategy import needs_supernet, sections
from trainers.search.workload import phases_of

Knob = Literal["trainer.steps", "trainer.candidates"]
Cost = tuple[int, float]  # of a short search: its steps or candidates, and its CPU-seconds
LEAST: dict[Knob, int] = {"trainer.steps": 16, "trainer.candidates": 2}
MOST: dict[Knob, int] = {"trainer.steps": 10_000_000, "trainer.candidates": 4096}  # as the configuration allows
SHARE = 0.2  # of the CPU-seconds that the shortest search leaves: what a longer one takes of them tells a step's cost
GROWTH = 16  # the most by which a short search is longer than the one before
PROBES = 6


def knob_of(config: SearchConfig) -> Knob:
    """What CPU-seconds set the length of: the training of a supernet, else the number of networks compared."""
    return "trainer.steps" if needs_supernet(sections(config)) else "trainer.candidates"


def random_candidates(config: SearchConfig) -> int | None:
    """`trainer.random_candidates` of an arm: none beside what it searches for, unless its searcher proposes them."""
    return None if SEARCHERS[sections(config)["searcher"]["name"]].needs_random else 0


def probe(config: SearchConfig, cpu_seconds: float, report: Callable[[str], None]) -> list[Cost]:
    """Costs of ever longer searches, until their length takes a share of `cpu_seconds`, of the search's own work alone.

    Raises: InvalidInputError if the shortest costs more than that already; as `run`.
    """
    plan, knob = prepare(config), knob_of(config)
    length = LEAST[knob]
    _cost(plan, knob, length)  # the first of its kind makes what later ones find made
    costs: list[Cost] = []
    while len(costs) < PROBES:
        costs.append((length, _cost(plan, knob, length)))
        first, seconds = costs[0][1], costs[-1][1]
        report(f"  {knob}={length}: {seconds:.2f} CPU-seconds")
        spent, enough = seconds - first, SHARE * (cpu_seconds - first)
        if len(costs) > 1 and (spent >= enough or seconds >= cpu_seconds or length == MOST[knob]):
            break
        if seconds > cpu_seconds:
            raise InvalidInputError(
                f"cpu_seconds: got {cpu_seconds:g}, and {knob}={length} costs {seconds:.3g} already; give more, or "
                "make candidates cheaper"
            )
        growth = min(GROWTH, max(2.0, 1.25 * enough / max(spent if len(costs) > 1 else seconds, 1e-6)))
        length = min(MOST[knob], ceil(length * growth))
    return costs


def planned(costs: Sequence[Cost], knob: Knob, cpu_seconds: float) -> int:
    """How many steps or candidates cost `cpu_seconds`, on the line through the two longest of short searches.

    Raises: InvalidInputError if not even the fewest do, or the most cost far less.
    """
    (short, low), (long, high) = sorted(costs)[-2:]
    slope = (high - low) / (long - short)
    if slope <= 0 or high - slope * long < 0:  # noise, or a price that falls: all of it is by the step
        slope = high / long
    length = floor(long + (cpu_seconds - high) / slope + 1e-6)
    if length < LEAST[knob]:
        raise InvalidInputError(
            f"cpu_seconds: got {cpu_seconds:g}, enough for {knob}={max(0, length)}; allowed: enough for {LEAST[knob]}"
        )
    if length > MOST[knob]:
        raise InvalidInputError(
            f"cpu_seconds: got {cpu_seconds:g}, and {knob}={MOST[knob]}, the most allowed, costs "
            f"{high + slope * (MOST[knob] - long):.3g}; give less, or compare networks by dearer evidence"
        )
    return length


def _cost(plan: Plan, knob: Knob, length: int) -> float:
    """CPU-seconds of a search of this length, which leaves nothing."""
    trainer = plan.config.trainer.model_copy(update={knob.partition(".")[2]: length})
    short = replace(plan, config=plan.config.model_copy(update={"trainer": trainer}))
    with TemporaryDirectory(prefix="espalier-probe-") as place:
        folder = RunFolder(Path(place), command="a short search, to see what it costs")
        with threads_of(plan.config):
            return search(short, folder, lambda line: None, Progress(phases_of(short))).cpu_seconds
