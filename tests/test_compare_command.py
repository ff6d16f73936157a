"""`espalier-compare`: arms refused before any run, lengths planned by measured cost, seeds in turn, and going on."""

import json
from pathlib import Path
from typing import Any

import pytest
from console import COMPARE, Cli, Found, console, ends_with_examples_and_exit_codes, examples, refused
from hydra.core.override_parser.overrides_parser import OverridesParser
from surroundings import clear_environment
from tiny_search import CELL_SPACE, TINY, tiny_config

import trainers.cli.search
import trainers.reports.report
import trainers.search.probe
from search_spaces.errors import InvalidInputError
from trainers.cli.overrides import as_value, read_arguments
from trainers.runs.compare_result import ARMS, Arms
from trainers.runs.exit_status import RunFolderError
from trainers.runs.files import read_as
from trainers.runs.folder import RunFolder
from trainers.search.probe import LEAST, MOST, knob_of, planned, probe
from trainers.sweeps.records import read_sweep

STEPS, CANDIDATES = "trainer.steps", "trainer.candidates"
TWO = "arms={pool:{},random:{searcher:random}}"
ASKED = (*TINY, "seeds=2", "cpu_seconds=10")
SHORT = "searcher:random,evaluator:short_training"


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    clear_environment(monkeypatch)
    return console(COMPARE, monkeypatch, capsys, tmp_path)


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The short searches that are asked for, which cost 1 CPU-second and 0.1 more a step, or 0.5 more a candidate."""
    asked: list[tuple[str, int]] = []

    def cost(plan: Any, knob: str, length: int) -> float:
        asked.append((knob, length))
        return 1.0 + (0.1 if knob == STEPS else 0.5) * length

    monkeypatch.setattr(trainers.search.probe, "_cost", cost)
    return asked


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configurations of searches, which are done at once and leave only their state."""
    configs: list[Any] = []

    def search(config: Any, report: Any, *, command: str) -> Found:
        configs.append(config)
        if config.searcher is not None and config.seed == 1:
            raise RunFolderError("the disk is full")
        folder = RunFolder(config.run_folder, command=command)
        folder.take()
        folder.close("stopped", command)
        folder.release()
        return Found()

    monkeypatch.setattr(trainers.cli.search, "run_identified", search)
    monkeypatch.setattr(trainers.reports.report, "write_report", lambda folder: folder / "report.html")  # takes seconds
    return configs


def plan() -> Arms:
    return read_as(Path("runs/compare") / ARMS, Arms)


# Refused before any run


@pytest.mark.parametrize(
    ("arms", "key"),
    [
        ("null", "arms"),
        ("{pool:{}}", "arms"),
        ("{pool:{},../up:{}}", "arms.../up"),
        ("{pool:{},fast:3}", "arms.fast"),
        ("{pool:{},fast:{trainer.stepz:3}}", "arms.fast.trainer.stepz"),
        ("{pool:{},fast:{trainer:{stepz:3}}}", "arms.fast.trainer.stepz"),
        ("{pool:{},fast:{strategy:dart}}", "arms.fast.strategy"),
        ("{pool:{},fast:{trainer.batch_size:0}}", "arms.fast.trainer.batch_size"),
        ("{pool:{},fast:{optimizer:{lr:high}}}", "arms.fast.optimizer.lr"),
        ("{pool:{},fast:{seed:3}}", "arms.fast.seed"),
        ("{pool:{},fast:{cpu_seconds:3}}", "arms.fast.cpu_seconds"),
        ("{pool:{},fast:{paths:{runs:elsewhere}}}", "arms.fast.paths"),
        ("{pool:{},fast:{hydra.sweeper._target_:os.system}}", "arms.fast.hydra.sweeper._target_"),
        ("{pool:{},fast:{trainer.steps:30}}", "arms.fast.trainer.steps"),
        (f"{{pool:{{}},fast:{{{SHORT},trainer:{{candidates:3}}}}}}", "arms.fast.trainer.candidates"),
        ("{pool:{},again:{}}", "arms.again"),
        ("{pool:{},again:{strategy:pool}}", "arms.again"),
    ],
)
def test_an_arm_that_cannot_be_compared_is_refused_by_its_name(
    compare: Cli, probed: list[tuple[str, int]], searched: list[Any], arms: str, key: str
) -> None:
    assert key in refused(compare(*ASKED, f"arms={arms}"), "espalier-compare")
    assert (probed, searched) == ([], [])
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "key"),
    [
        ("seeds=0", "seeds"),
        ("cpu_seconds=0", "cpu_seconds"),
        ("tolerance=0", "tolerance"),
        ("regret={file:x.csv}", "regret.column"),
        ("seed=1,2", "seed"),
        ("hydra/sweeper=basic", "hydra/sweeper"),
        ("trainer.batch_size=0", "trainer.batch_size"),  # of all arms, so of none by name
        ("cpu_seconds=2", "arms.pool"),  # 16 steps cost 2.6
    ],
)
def test_what_holds_for_all_arms_is_refused_by_its_own_key(
    compare: Cli, probed: list[tuple[str, int]], searched: list[Any], argument: str, key: str
) -> None:
    assert key in refused(compare(*ASKED, TWO, argument), "espalier-compare")
    assert searched == []
    assert list(Path.cwd().iterdir()) == []


# Planned and run


def test_lengths_are_what_the_cpu_seconds_buy_and_seeds_run_in_turn(
    compare: Cli, probed: list[tuple[str, int]], searched: list[Any]
) -> None:
    arms = f"arms={{pool:{{}},random:{{searcher:random}},short:{{{SHORT}}}}}"
    code, output, _ = compare(*ASKED, arms, "seed=5")
    assert code == 0, output
    lengths = {name: (arm.knob, arm.length) for name, arm in plan().arms.items()}
    # 1 + 0.1 n = 10 is 90 steps, 1 + 0.5 n = 10 is 18 candidates.
    assert lengths == {"pool": (STEPS, 90), "random": (STEPS, 90), "short": (CANDIDATES, 18)}
    ran = [(config.seed, config.trainer.steps, config.trainer.candidates) for config in searched]
    assert ran == [(seed, *lengths) for seed in (5, 6) for lengths in ((90, 4), (90, 4), (6, 18))]
    assert [config.trainer.random_candidates for config in searched[:3]] == [0, None, None]
    sweep = read_sweep(Path("runs/compare"))
    assert sweep is not None
    assert [job.label for job in sweep.jobs] == [f"{name} seed={seed}" for seed in (5, 6) for name in lengths]
    assert [job.folder for job in sweep.jobs] == [config.run_folder.name for config in searched]


def test_the_command_of_a_run_is_that_of_a_search_alone(
    compare: Cli, probed: list[tuple[str, int]], searched: list[Any]
) -> None:
    compare(*ASKED, TWO)
    status = json.loads((searched[0].run_folder / "status.json").read_text(encoding="utf-8"))
    assert status["command"].startswith("espalier-search ")
    assert {"arms", "seeds", "cpu_seconds"}.isdisjoint(key.partition("=")[0] for key in status["command"].split())
    assert "sweep=compare" in status["command"]


def test_an_arm_that_fails_stops_no_other_and_is_named_at_the_end(
    compare: Cli, probed: list[tuple[str, int]], searched: list[Any]
) -> None:
    code, output, _ = compare(*ASKED, "arms={random:{searcher:random},pool:{}}")
    assert (code, len(searched)) == (1, 4)
    [line] = [line for line in output.splitlines() if "the disk is full" in line]
    assert "random seed=1" in line


def test_the_same_command_keeps_its_plan_and_a_new_arm_is_planned_alone(
    compare: Cli, probed: list[tuple[str, int]], searched: list[Any]
) -> None:
    compare(*ASKED, "arms={pool:{},dual:{constraint:dual}}")
    before, known = plan(), len(probed)
    compare(*ASKED, "arms={pool:{},dual:{constraint:dual}}", "seeds=3")
    assert (len(probed), plan().seeds) == (known, [0, 1, 2])
    assert [arm.runs[:2] for arm in plan().arms.values()] == [arm.runs for arm in before.arms.values()]
    compare(*ASKED, "arms={pool:{},dual:{constraint:dual},short:{" + SHORT + "}}")
    assert {knob for knob, _ in probed[known:]} == {CANDIDATES}
    known = len(probed)
    compare(*ASKED, "arms={pool:{},dual:{constraint:dual}}", "cpu_seconds=20")
    assert len(probed) > known and plan().arms["pool"].length == 190


# Lengths


@pytest.mark.parametrize(
    ("costs", "length"),
    [
        ([(16, 2.6), (32, 4.2)], 90),  # 1 + 0.1 n
        ([(2, 9.0), (16, 2.6), (32, 4.2)], 90),  # the two longest count
        ([(16, 4.3), (32, 4.2)], 76),  # no dearer for being longer: 4.2 / 32 a step
        ([(16, 1.0), (32, 4.0)], 80),  # a fixed part below zero: 4 / 32 a step
    ],
)
def test_a_length_is_on_the_line_through_the_longest_of_short_searches(
    costs: list[tuple[int, float]], length: int
) -> None:
    assert planned(costs, STEPS, 10.0) == length


@pytest.mark.parametrize(
    ("knob", "costs"),
    [(STEPS, [(16, 9.0), (32, 17.0)]), (CANDIDATES, [(2, 0.001), (4096, 0.1)])],
    ids=["too dear", "too cheap"],
)
def test_an_arm_that_cannot_cost_what_is_asked_is_refused(knob: Any, costs: list[tuple[int, float]]) -> None:
    assert LEAST[knob] < MOST[knob]
    with pytest.raises(InvalidInputError) as refusal:
        planned(costs, knob, 8.0)
    assert refusal.value.fields == ("cpu_seconds",)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        1e-05,
        "darts",
        "true",
        "null",
        "two words",
        "it's",
        "",
        [1, "a"],
        {"name": "dual", "b": {"c": []}},
    ],
)
def test_a_plain_value_as_an_override_means_itself(value: object) -> None:
    override = OverridesParser.create().parse_override(f"key={as_value(value)}")
    found = override.value()
    assert (str(found) if isinstance(value, str) else found) == value


@pytest.mark.parametrize("arm", [("strategy.pool_size=32",), ("searcher=random", "evaluator=short_training")])
def test_an_arm_whose_shortest_search_costs_too_much_is_refused_and_leaves_nothing(
    tmp_path: Path, arm: tuple[str, ...]
) -> None:
    config = tiny_config(tmp_path / "runs", *CELL_SPACE, "hardware=[mid_tablet]", "data.limit=200", *arm)
    lines: list[str] = []
    with pytest.raises(InvalidInputError) as refusal:
        probe(config, 1e-6, lines.append)
    assert refusal.value.fields == ("cpu_seconds",)
    assert [line.split(":")[0].strip() for line in lines] == [f"{knob_of(config)}={LEAST[knob_of(config)]}"]
    assert not (tmp_path / "runs").exists()


def test_help_ends_with_examples_that_can_be_read() -> None:
    assert ends_with_examples_and_exit_codes(COMPARE)
    for example in examples(COMPARE):
        line = read_arguments(example)
        assert (line.problems, line.flags) == ([], [])
        assert len(OverridesParser.create().parse_overrides(line.overrides)) == len(example)


def test_a_real_comparison_ends_in_its_table_and_its_report(compare: Cli) -> None:
    cheap = ("hardware=[mid_tablet]", "data.limit=200", "trainer.steps=2", "trainer.deploy=false", "trainer.threads=1")
    arms = f"arms={{two:{{{SHORT},evaluator.steps:[2]}},four:{{{SHORT},evaluator.steps:[4]}}}}"
    code, _, errors = compare(*CELL_SPACE, *cheap, arms, "seeds=1", "cpu_seconds=1", "trainer.batch_size=8")
    assert code == 0, errors
    table = json.loads(Path("runs/compare/compare.json").read_text(encoding="utf-8"))
    assert [(row["arm"], row["finished"]) for row in table["rows"]] == [("two", 1), ("four", 1)]
    assert all(row["cpu_seconds"]["mean"] > 0 for row in table["rows"])
    assert 'id="comparison"' in Path("runs/compare/report.html").read_text(encoding="utf-8")
    _, again, _ = compare(*CELL_SPACE, *cheap, arms, "seeds=1", "cpu_seconds=1", "trainer.batch_size=8")
    assert again.count("finished already") == 2
