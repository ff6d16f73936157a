"""The networks that were validated for a device: each within its budgets, in order, and the one that was taken."""

from collections.abc import Iterator, Mapping
from typing import Any

from search_spaces.errors import InvalidInputError
from trainers.reports.check import Check, differences, gathered, judged
from trainers.reports.figures import HOST, not_a_share
from trainers.reports.recount import Told
from trainers.search.result_writer import WELL_USED
from trainers.search.strategies import STRATEGIES

ROW = ("notation", "utilisation", "validation_accuracy", "validation_loss")
SEARCHED, RANDOM = "candidates", "random_candidates"
Row = Mapping[str, Any]


def ranking_checks(told: Told) -> list[Check]:
    """Checks of the networks that were validated for a device, those that were cut, and the one that was taken."""
    parts = {"candidates": _lists, "candidates within budget": _priced, "taken": _taken, "larger that lost": _larger}

    def checks() -> Iterator[Check]:
        for what, problems in parts.items():
            yield judged(f"{told.name}: {what}", problems(told))
        yield from _left_out(told)

    return gathered(f"{told.name}: candidates", checks)


def validated_images(told: Told) -> int:
    """Images of the validation split that a candidate is scored on: whole batches, until there are enough."""
    settings, split = told.config.trainer, int(told.result["data"]["images"]["validation"])
    asked = split if settings.validation_images is None else settings.validation_images
    return min(split, -(-asked // settings.batch_size) * settings.batch_size)


def _rows(told: Told, *lists: str) -> Iterator[tuple[str, Row]]:
    """Rows of those lists, each with its path in result.json."""
    for key in lists:
        for place, row in enumerate(told.device[key] or ()):
            yield f"{told.field}.{key}.{place}", row


def _lists(told: Told) -> Iterator[str]:
    """Whether rows are whole, distinct and best first, no more than asked for, and scored on the images that were."""
    device, most, images = told.device, told.config.trainer.candidates, validated_images(told)
    validation = {"accuracy": device["validation"]["accuracy"], "loss": device["validation"]["loss"], "images": images}
    yield from differences(device["validation"], validation, field=f"{told.field}.validation")
    yield from not_a_share(validation["accuracy"], images, field=f"{told.field}.validation.accuracy")
    for path, row in _rows(told, SEARCHED, RANDOM):
        yield from differences(dict.fromkeys(row), dict.fromkeys(ROW), field=path)
    for path, row in _rows(told, SEARCHED, RANDOM, "cut"):
        yield from not_a_share(row["validation_accuracy"], images, field=f"{path}.validation_accuracy")
    for key in (SEARCHED, RANDOM):
        rows, field = device[key], f"{told.field}.{key}"
        if not 1 <= len(rows) <= most:
            yield f"{field} has {len(rows)} networks, of at most {most}"
        if len({row["notation"] for row in rows}) < len(rows):
            yield f"{field} has a network twice"
        if rows != sorted(rows, key=lambda row: (-row["validation_accuracy"], row["validation_loss"])):
            yield f"{field} is not in the order of validation"
    if not STRATEGIES[told.config.strategy["name"]].learns:
        same = [{key: row[key] for key in ROW if key != "utilisation"} for row in device[RANDOM]]
        found = [{key: row[key] for key in ROW if key != "utilisation"} for row in device[SEARCHED]]
        yield from differences(found, same, field=f"{told.field}.{SEARCHED}")


def _least_use(told: Told, row: Row) -> float:
    """Share of the tightest budget that a network uses at least: where it runs best, and without unknown prices."""
    indices = told.rebuilt.indices(told.rebuilt.space.parse(row["notation"]), told.name)
    return max(told.problem.utilisation(indices).values())


def _priced(told: Told) -> Iterator[str]:
    """Whether each network uses as much of the budgets as was told, which is no more than all."""
    is_host, is_placed = told.name in told.rebuilt.hosts, bool(told.problem.table.placements[told.problem.device])
    for path, row in _rows(told, SEARCHED, RANDOM, "cut"):
        try:
            least = round(_least_use(told, row), 4)
        except InvalidInputError as error:
            yield f"{path}.notation: {error}"
            continue
        is_known = not is_host and not (is_placed and f".{RANDOM}." in path)  # a random one runs anywhere it fits
        if not least <= row["utilisation"] <= (least if is_known else 1) <= 1:
            yield f"{path}.utilisation is {row['utilisation']}, found {least}{'' if is_known else ' to 1'}"
    used = max(told.problem.utilisation_of(told.totals).values())
    yield from differences(told.device["taken"]["utilisation"], round(used, 4), field=f"{told.field}.taken.utilisation")


def _taken(told: Told) -> Iterator[str]:
    """Whether it is the first candidate that nothing refuted; after a cut it may be a network beside the candidates."""
    device, most = told.device, told.config.trainer.max_cuts
    taken, validation = device["taken"], device["validation"]
    own = {
        "notation": device["notation"],
        "utilisation": taken["utilisation"],
        "validation_accuracy": validation["accuracy"],
        "validation_loss": validation["loss"],
    }
    yield from differences(taken, own, field=f"{told.field}.taken")
    known = {row["notation"]: row for row in device[SEARCHED]}
    tried = [*_rows(told, "cut"), (f"{told.field}.taken", taken)]
    for place, (path, row) in enumerate(tried):
        figures = {key: row[key] for key in ROW}
        found = known.get(row["notation"], figures) if place else device[SEARCHED][0]
        yield from differences(figures, found, field=path)
    for path, row in tried[:-1]:
        yield from differences(dict.fromkeys(row), dict.fromkeys((*ROW, "refuted_by")), field=path)
        if row["refuted_by"] not in told.problem.limits:
            yield f"{path}.refuted_by is {row['refuted_by']!r}, which has no budget"
    if not len({row["notation"] for _, row in tried}) == len(tried) <= most:
        yield f"{told.field}.cut holds a network that was tried again, or more than trainer.max_cuts allows"


def _larger(told: Told) -> Iterator[str]:
    """Where the budget is hardly used, the candidates that use more of it; ties of rounded figures may be either."""
    device, field = told.device, f"{told.field}.larger_candidates_that_lost"
    recorded = device["larger_candidates_that_lost"]
    if device["utilisation"][device["binding"]] >= WELL_USED:
        yield from differences(recorded, None, field=field)
        return
    if told.name in told.rebuilt.hosts:
        limit = device["taken"]["utilisation"]
        ties = [row for row in recorded if row["utilisation"] == limit]
        found = [row for row in device[SEARCHED] if row["utilisation"] > limit or row in ties]
    else:
        limit = _least_use(told, device["taken"])
        found = [row for row in device[SEARCHED] if _least_use(told, row) > limit]
    yield from differences(recorded, found, field=field)


def _left_out(told: Told) -> Iterator[Check]:
    device, field = told.device, told.field
    few = tuple(f"{field}.{key}" for key in (SEARCHED, RANDOM) if len(device[key]) < told.config.trainer.candidates)
    if few:
        why = "fewer than trainer.candidates: how many there were to draw, no file tells"
        yield Check(f"{told.name}: number of candidates", "not checked", why, few)
    if device["cut"]:
        why = "measurements of networks that were cut are in no file"
        yield Check(f"{told.name}: networks that were cut", "not checked", why, (f"{field}.cut",))
    if told.name in told.rebuilt.hosts:
        fields = tuple(f"{field}.{key}.*.utilisation" for key in (SEARCHED, RANDOM, "cut"))
        yield Check(f"{told.name}: candidates' use of latency", "not checked", HOST, fields)
