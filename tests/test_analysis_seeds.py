"""Agreement across seeds and progress over time: by hand on networks and rows small enough to look at."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search_spaces.architecture import Architecture, architecture_of
from search_spaces.errors import InvalidInputError
from search_spaces.mobile.space import MobileSpace
from search_spaces.nasbench201.space import NasBench201Space
from trainers.analysis import Run, Sweep, anytime, stability
from trainers.analysis.seeds import agreements, used_decisions
from trainers.runs.state import RunState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DONE = RunState(
    **{"state": "done", "reason": None, "attempt": 1, "command": "espalier-search", "pid": 1, "pid_start": None},
    **{"host": "here", "started": NOW, "heartbeat": NOW, "progress": None, "hashes": {}, "code": {}, "versions": {}},
)


def space_of_depths() -> MobileSpace:
    """One decision of three choices, the kernel of each block; and the depth of each stage, 1 or 2."""
    return MobileSpace(
        widths=[[8], [16], [16], [24], [24]],
        depths=[1, 2],
        kernels=[3, 5, 7],
        expansions=[2],
        squeeze_excite=["off"],
        resolutions=[32],
        num_classes=4,
    )


def network(space: MobileSpace, **changes: int) -> Architecture:
    """All depths 1 and all kernels 3, but for `stage0_depth=2` and the like."""
    choices = {decision.name: decision.choices[0] for decision in space.decisions}
    return architecture_of(space, choices | {name.replace("_", "."): choice for name, choice in changes.items()})


def run_of(folder: Path, networks: dict[str, Architecture], **config: Any) -> Run:
    """A finished run with these networks on disk."""
    for device, architecture in networks.items():
        path = folder / "architectures" / f"{device}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(architecture.to_json(), encoding="utf-8")
    whole = {
        "space": {"name": "mobile"},
        "strategy": {"name": "pool"},
        "seed": 0,
        "hardware": {device: {"budgets": {}} for device in networks},
        "trainer": {"steps": 10, "threads": 1},
    } | config
    empty = pd.DataFrame()
    return Run(folder, DONE, {"devices": {}}, whole, empty, empty, empty, None)


def test_a_block_beyond_the_depth_and_a_decision_of_one_choice_are_not_used() -> None:
    space = space_of_depths()
    shallow = used_decisions(space, network(space).choices)
    kernels = {f"stage{stage}.block0.kernel": 3 for stage in range(5)}
    assert shallow == {f"stage{stage}.depth": 1 for stage in range(5)} | kernels
    deep = used_decisions(space, network(space, stage0_depth=2).choices)
    assert set(deep) - set(shallow) == {"stage0.block1.kernel"}


def test_every_edge_of_a_cell_is_used() -> None:
    space = NasBench201Space()
    choices = {decision.name: "skip_connect" for decision in space.decisions}
    assert used_decisions(space, choices) == choices


def test_agreement_by_hand() -> None:
    space = space_of_depths()
    networks = [
        network(space, stage0_depth=2, stage0_block0_kernel=3, stage0_block1_kernel=7),
        network(space, stage0_depth=2, stage0_block0_kernel=5, stage0_block1_kernel=7),
        # Its second block is not there, so that its kernel does not count.
        network(space, stage0_depth=1, stage0_block0_kernel=5, stage0_block1_kernel=3),
    ]
    found = {row.pop("decision"): row for row in agreements(networks)}
    names = [decision.name for decision in space.decisions]
    assert found["stage0.depth"] == {
        "place": names.index("stage0.depth"),
        "pairs": 3,
        "agreement": 1 / 3,
        "chance": 1 / 2,
    }
    assert {k: v for k, v in found["stage0.block0.kernel"].items() if k != "place"} == {
        "pairs": 3,
        "agreement": 1 / 3,
        "chance": 1 / 3,
    }
    assert {k: v for k, v in found["stage0.block1.kernel"].items() if k != "place"} == {
        "pairs": 1,
        "agreement": 1.0,
        "chance": 1 / 3,
    }
    assert "stage1.block1.kernel" not in found and "resolution" not in found
    assert len(found) == 5 + 5 + 1


def test_networks_drawn_at_random_agree_as_chance_says() -> None:
    space = NasBench201Space()
    generator = np.random.default_rng(0)
    networks = [architecture_of(space, space.choices(generator.integers(0, 5, size=6))) for _ in range(60)]
    rows = list(agreements(networks))
    # Five standard deviations of this mean: 0.004, found by drawing it 2,000 times.
    assert np.mean([row["agreement"] for row in rows]) == pytest.approx(1 / 5, abs=0.02)
    assert {row["chance"] for row in rows} == {1 / 5}


def test_networks_of_different_spaces_are_not_compared() -> None:
    other = architecture_of(NasBench201Space(), {d.name: "none" for d in NasBench201Space().decisions})
    with pytest.raises(InvalidInputError, match="different spaces"):
        list(agreements([network(space_of_depths()), other]))


def test_stability_groups_runs_that_differ_in_the_seed_alone(tmp_path: Path) -> None:
    space = space_of_depths()
    equal, deep = {"phone": network(space)}, {"phone": network(space, stage0_depth=2)}
    runs = (
        run_of(tmp_path / "a", equal, seed=0),
        run_of(tmp_path / "b", deep, seed=1),
        run_of(tmp_path / "c", equal, seed=0, strategy={"name": "random"}),
        run_of(tmp_path / "d", equal, seed=1, strategy={"name": "random"}),
        run_of(tmp_path / "e", deep, seed=0, trainer={"steps": 20}),
    )
    found = stability(Sweep(tmp_path, runs, pd.DataFrame()))
    scores = found.scores.set_index("strategy")
    # The longer search has one seed, so there is nothing to agree with.
    assert list(scores.index) == ["pool", "random"] and list(scores["seeds"]) == [2, 2]
    # Of ten decisions that both use, five depths and five kernels, the first depth differs.
    assert scores.loc["pool", "agreement"] == pytest.approx(9 / 10)
    assert scores.loc["pool", "chance"] == pytest.approx((5 / 2 + 5 / 3) / 10)
    assert scores.loc["random", "agreement"] == 1
    assert len(found.decisions) == 20


def test_a_sweep_of_one_seed_has_no_stability(tmp_path: Path) -> None:
    found = stability(Sweep(tmp_path, (run_of(tmp_path / "a", {"phone": network(space_of_depths())}),), pd.DataFrame()))
    assert found.decisions.empty and found.scores.empty
    assert "agreement" in found.scores.columns


def test_a_changed_architecture_file_is_refused(tmp_path: Path) -> None:
    networks = {"phone": network(space_of_depths())}
    runs = tuple(run_of(tmp_path / name, networks, seed=seed) for seed, name in enumerate("ab"))
    path = tmp_path / "a" / "architectures" / "phone.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"stage0.depth": 1', '"stage0.depth": 2'), encoding="utf-8"
    )
    with pytest.raises(InvalidInputError, match="field 'id' does not match"):
        stability(Sweep(tmp_path, runs, pd.DataFrame()))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"seed": 7}, True),
        ({"paths": {"runs": "elsewhere"}}, True),
        ({"logger": {"name": "csv"}}, True),
        ({"trainer": {"steps": 10, "threads": 8, "checkpoint_seconds": 0}}, True),
        ({"trainer": {"steps": 11, "threads": 1}}, False),
        ({"strategy": {"name": "dual"}}, False),
        ({"hardware": {"phone": {"budgets": {"gflops": 1.0}}}}, False),
    ],
)
def test_settings_are_what_a_result_depends_on_but_for_the_seed(tmp_path: Path, change: dict, same: bool) -> None:
    run = run_of(tmp_path, {"phone": network(space_of_depths())})
    assert (replace(run, config=run.config | change).settings == run.settings) is same


def test_anytime_is_the_best_accuracy_so_far_and_the_seconds_of_the_steps(tmp_path: Path) -> None:
    metrics = pd.DataFrame({"epoch": [1, 2, 3], "step": [10, 20, 25], "val/acc": [0.5, 0.3, 0.75], "time/step_s": 0.25})
    run = replace(run_of(tmp_path, {}), metrics=metrics)
    expected = pd.DataFrame({"step": [10, 20, 25], "seconds": [2.5, 5.0, 6.25], "best_accuracy": [0.5, 0.5, 0.75]})
    pd.testing.assert_frame_equal(anytime(run), expected)
