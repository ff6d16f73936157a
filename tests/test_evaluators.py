"""Evaluators beside the supernet's: a benchmark's table, as a file of the run, and training in full."""

import csv
import gzip
from itertools import product
from pathlib import Path

import pytest
from tiny_search import CELL_SPACE, composed, tiny_config

from search_spaces.errors import InvalidInputError, keys_of
from search_spaces.nasbench201.space import NasBench201Space
from trainers.deploy.standalone import score
from trainers.reports.verify import verify_run
from trainers.runs.config import validate
from trainers.search.deployment import finish
from trainers.search.full_training import FullTraining
from trainers.search.phases import Progress
from trainers.search.plan import prepare
from trainers.search.run import run
from trainers.search.strategy import make_part

OPERATIONS = ("skip_connect", "nor_conv_1x1", "nor_conv_3x3")  # 729 cells
SPACE = NasBench201Space.small(operations=OPERATIONS)
ONE_DEVICE = (
    *CELL_SPACE,
    f"+space.operations=[{','.join(OPERATIONS)}]",
    "hardware=[mid_tablet]",
    "hardware.mid_tablet.budgets.gflops=0.0006",
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every cell with an accuracy of its own, in %: from 10 to 90, in no order of its costs."""
    path = tmp_path_factory.mktemp("benchmark") / "cells.csv"
    choices = [decision.choices for decision in SPACE.decisions]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["cell", "accuracy"])
        for k, cell in enumerate(product(*choices)):
            names = [decision.name for decision in SPACE.decisions]
            rows.writerow([SPACE.notation(dict(zip(names, cell, strict=True))), 10 + k * 7919 % 729 * 80 / 729])
    return path


def by(table: Path, *more: str) -> tuple[str, ...]:
    return (
        *ONE_DEVICE,
        "evaluator=table",
        f"evaluator.file={table}",
        "evaluator.column=accuracy",
        "evaluator.notation=cell",
        *more,
    )


@pytest.mark.parametrize("name", ["evolution", "halving", "local_search", "nsga2", "predictor"])
def test_a_whole_search_by_a_table_takes_the_best_that_it_looked_up(name: str, table: Path, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, *by(table, f"searcher={name}", "trainer.candidates=12"))
    result = run(config, lambda line: None)
    device = result.devices["mid_tablet"]
    with table.open(encoding="utf-8") as file:
        known = {row["cell"]: float(row["accuracy"]) / 100 for row in csv.DictReader(file)}
    assert result.search.steps == 0
    assert device.met
    assert len(device.candidates) == 12
    assert all(row.validation_accuracy == known[row.notation] for row in device.candidates)
    assert device.validation.accuracy == max(row.validation_accuracy for row in device.candidates)
    assert [check.line for check in verify_run(config.run_folder) if check.outcome == "FAILED"] == []


def test_what_the_table_holds_belongs_to_the_run_and_where_it_lies_does_not(table: Path, tmp_path: Path) -> None:
    def key(path: Path) -> str:
        return validate(composed(*by(path))).run_key

    copy, changed = tmp_path / "copy.csv", tmp_path / "changed.csv"
    copy.write_bytes(table.read_bytes())
    changed.write_bytes(table.read_bytes() + b"\n")
    assert key(copy) == key(table)
    assert key(changed) != key(table)


def test_a_gzipped_table_is_the_same_table(table: Path, tmp_path: Path) -> None:
    packed = tmp_path / "cells.csv.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    plans = [prepare(tiny_config(tmp_path, *by(path))) for path in (table, packed)]
    cell = plans[0].problems[0].start()[0].incumbent
    one, other = (make_part(plan.strategy, "evaluator", plan, None).validate(cell) for plan in plans)
    assert one == other
    assert one.images == 0


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (None, "evaluator.file"),
        ("cell\n", "evaluator.column"),
        ("name,accuracy\nx,1\n", "evaluator.notation"),
        ("cell,accuracy\nx,1\n", "evaluator.notation"),
        (f"cell,accuracy\n{SPACE.notation({d.name: d.choices[0] for d in SPACE.decisions})},101\n", "evaluator.column"),
        (f"cell,accuracy\n{SPACE.notation({d.name: d.choices[0] for d in SPACE.decisions})}\n", "evaluator.column"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_before_the_search(
    content: str | None, key: str, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInputError) as refused:
        prepare(tiny_config(tmp_path, *by(path)))
    assert set(keys_of(str(refused.value))) == {key}


def test_a_network_that_the_table_lacks_is_refused(table: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("".join(table.read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    plan = prepare(tiny_config(tmp_path, *by(path)))
    evaluator = make_part(plan.strategy, "evaluator", plan, None)
    with pytest.raises(InvalidInputError):
        evaluator.validate(tuple(len(d.choices) - 1 for d in plan.space.decisions))


def test_full_training_scores_the_network_that_would_be_derived(tmp_path: Path) -> None:
    plan = prepare(tiny_config(tmp_path, *ONE_DEVICE, "evaluator=full_training", "searcher=evolution"))
    evaluator = make_part(plan.strategy, "evaluator", plan, None)
    assert isinstance(evaluator, FullTraining)
    cell = plan.problems[0].start()[0].incumbent
    scored = evaluator.validate(cell)
    network, progress = evaluator.network(cell), Progress([])
    derived = finish(plan, network, cell, progress, id="a" * 8, from_scratch=True, int8=False).network
    images, batch_size = plan.config.trainer.validation_images, plan.config.trainer.batch_size
    assert score(derived, plan.data, "validation", images=images, batch_size=batch_size) == scored
    fresh = score(evaluator.network(cell), plan.data, "validation", images=images, batch_size=batch_size)
    assert fresh.loss != scored.loss
