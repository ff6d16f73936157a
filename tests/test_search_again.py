"""A search again: the same seed gives the same, and a finished one is shown, made whole or refused, not run again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_search import tiny_config
from whole_searches import Run, network_of, no_network, overrides_of, read_csv, run

from search_spaces.errors import InvalidInputError
from trainers.cli.search import run_search
from trainers.runs.result import missing_files

SEARCH = (*overrides_of("mobile", "pool"), "trainer.candidates=2")


@pytest.fixture(scope="module", autouse=True)
def offline() -> Iterator[None]:
    with no_network():
        yield


def without_times(path: Path) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in read_csv(path)]


def found_by(search: Run) -> dict[str, Any]:
    """All of a result but how long it took, on which machine, and where the files lie."""
    found = {key: value for key, value in search.result.items() if key not in ("search", "versions", "code")}
    objective = {key: value for key, value in found["objective"].items() if key != "seconds"}
    # The others hold the times, or the place of the run folder.
    files = {key: value for key, value in found["files"].items() if key not in ("metrics.csv", "config.yaml")}
    return {**found, "objective": objective, "files": files}


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run, Run]:
    """The same search in two folders, and another seed's."""
    folders = [tmp_path_factory.mktemp("again") for _ in range(3)]
    first = run(folders[0], *SEARCH, has_report=True)
    other = run(folders[1], *SEARCH, "seed=1")  # nothing that ran before in the process matters
    np.random.seed(99)
    return first, run(folders[2], *SEARCH, has_report=True), other


def test_the_same_seed_gives_the_same_networks_figures_and_ledger(again: tuple[Run, Run, Run]) -> None:
    first, second, _ = again
    assert first.folder != second.folder
    assert first.folder.name == second.folder.name
    assert found_by(first) == found_by(second)
    assert without_times(first.folder / "metrics.csv") == without_times(second.folder / "metrics.csv")
    for name in ("prune.csv", *(f"architectures/{d}.json" for d in first.devices)):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    for device in first.devices:
        ours, theirs = (network_of(search, device).state_dict() for search in (first, second))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_another_seed_trains_another_supernet_in_another_folder(again: tuple[Run, Run, Run]) -> None:
    first, _, other = again
    assert other.folder.name != first.folder.name
    assert without_times(other.folder / "metrics.csv") != without_times(first.folder / "metrics.csv")
    assert other.result["data"]["split_hash"] == first.result["data"]["split_hash"]


def times_of(folder: Path) -> dict[Path, int]:
    """When each file was written last, but for the lock, which is taken again."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}


def test_a_finished_search_is_reported_and_not_run_again(again: tuple[Run, Run, Run]) -> None:
    first, lines = again[0], list[str]()
    before = times_of(first.folder)
    assert run_search(first.plan.config, lines.append).model_dump() == first.result
    assert "finished already" in lines[0] and str(first.folder) in lines[0]
    assert times_of(first.folder) == before


def test_a_finished_search_whose_networks_are_gone_is_reported_and_searched_again(
    again: tuple[Run, Run, Run], tmp_path: Path
) -> None:
    config, lines = tiny_config(tmp_path, *SEARCH), list[str]()
    shutil.copytree(again[0].folder, config.run_folder)
    for name in ("architectures", "weights"):
        shutil.rmtree(config.run_folder / name)
    result = run_search(config, lines.append).model_dump()
    lost = [name for name in again[0].result["files"] if name.startswith(("architectures/", "weights/"))]
    assert f"has lost architectures/mid_tablet.json and {len(lost) - 1} more" in lines[0]
    assert result["devices"] == again[0].result["devices"]
    assert missing_files(config.run_folder) == []


def test_a_malformed_result_is_refused_by_its_field_before_anything_is_done(
    again: tuple[Run, Run, Run], tmp_path: Path
) -> None:
    config, lines = tiny_config(tmp_path, *SEARCH), list[str]()
    path = Path(shutil.copytree(again[0].folder, config.run_folder)) / "result.json"
    spoiled = json.loads(path.read_text(encoding="utf-8"))
    spoiled["devices"]["iot_terminal"]["met"] = "yes"
    path.write_text(json.dumps(spoiled), encoding="utf-8")
    before = times_of(config.run_folder)
    with pytest.raises(InvalidInputError) as refused:
        run_search(config, lines.append)
    assert (refused.value.fields, lines) == (("devices.iot_terminal.met",), [])
    assert times_of(config.run_folder) == before
