"""One small search of each space by each strategy, end to end: budgets met, files whole, everything found again."""

import csv
import dataclasses
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from tiny_search import CELLS, MOBILE, tiny_config
from torch import nn

import trainers.search
from hardware_models.counting import recount
from search_spaces.architecture import build_network, build_space, read_architecture
from search_spaces.errors import InvalidInputError
from trainers.config import validate
from trainers.ledger import replay, replay_network
from trainers.prepare import Plan
from trainers.run_state import missing_files
from trainers.search import run_search
from trainers.search_module import SearchModule
from trainers.strategies import STRATEGIES

SPACES = {
    # Every network uses over 80 % of the tablet's latency, and none over 80 % of the terminal's budget.
    "mobile": (
        *MOBILE,
        "hardware.mid_tablet.budgets={latency_ms: 9, gflops: null}",
        "hardware.iot_terminal.budgets={latency_ms: null, gflops: 0.005}",
    ),
    "nasbench201": (*CELLS, "hardware.nb201_pixel3.budgets.latency_ms=5", "hardware.mid_tablet.budgets.gflops=0.0006"),
}
FILES = {
    "config.yaml",
    "status.json",
    "result.json",
    "metrics.csv",
    "prune.csv",
    "alphas.npz",
    "lineage.json",
    "report.html",
    ".lock",
    "architectures/{}.json",
    "weights/{}.safetensors",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished search: what it was asked, what it left and said, and its module as it ended."""

    plan: Plan
    result: dict[str, Any]
    folder: Path
    module: SearchModule
    lines: list[str]

    @property
    def devices(self) -> list[str]:
        return list(self.result["devices"])


@pytest.fixture(scope="module", autouse=True)
def no_network() -> Iterator[None]:
    """Connecting to anything but this machine fails."""
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a search connected to {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", only_here)
        yield


def run(runs: Path, *overrides: str) -> Run:
    config, lines, kept = tiny_config(runs, *overrides), list[str](), list[tuple[Plan, SearchModule]]()
    train = trainers.search.train

    def train_and_keep(plan: Plan, *arguments: Any, **more: Any) -> SearchModule:
        kept.append((plan, train(plan, *arguments, **more)))
        return kept[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers.search, "train", train_and_keep)
        result = run_search(config, lines.append)
    plan, module = kept[0]
    return Run(plan, result, config.run_folder, module, lines)


def overrides_of(space: str, strategy: str) -> tuple[str, ...]:
    pool = ("strategy.pool_size=32",) if strategy in ("pool", "random") else ()
    return (*SPACES[space], f"strategy={strategy}", *pool)


PAIRS = [(space, strategy) for space in SPACES for strategy in STRATEGIES]


@pytest.fixture(scope="module")
def runs_made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Run]:
    return {}


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def search(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, runs_made: Any) -> Run:
    if request.param not in runs_made:
        runs_made[request.param] = run(tmp_path_factory.mktemp("runs"), *overrides_of(*request.param))
    return runs_made[request.param]


def network_of(search: Run, device: str) -> nn.Module:
    """The network of a device as its files give it."""
    network = build_network(read_architecture(search.folder / "architectures" / f"{device}.json"))
    network.load_state_dict(safetensors.torch.load_file(search.folder / "weights" / f"{device}.safetensors"))
    return network.eval()


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_every_budget_is_met_by_a_recount_of_the_network_in_the_files(search: Run) -> None:
    assert search.result["status"] == "done"
    for device in search.devices:
        found = search.result["devices"][device]
        architecture = read_architecture(search.folder / found["architecture"])
        counted = recount(network_of(search, device), architecture.input_shape)
        assert found["met"]
        assert found["recounted"]["gflops"] == pytest.approx(counted.gflops, rel=1e-12)
        assert found["recounted"]["params_m"] == pytest.approx(counted.params_m, rel=1e-12)
        for metric, limit in found["budgets"].items():
            assert found["upper"][metric] <= limit
            assert found["recounted"].get(metric, 0) <= limit
        space = build_space(architecture)
        profile = search.plan.table.devices[search.plan.table.device(device)]
        latency_ms = profile.constant_ms + sum(
            profile.price(op)["latency_ms"] for op in space.operations(architecture.choices)
        )
        assert found["predicted"]["latency_ms"] == pytest.approx(latency_ms, rel=1e-9)


def test_some_budget_binds_so_that_meeting_it_says_something(search: Run) -> None:
    worst = [p.overshoot(np.ones(search.plan.space.num_choices, dtype=bool)).max() for p in search.plan.problems]
    assert max(worst) > 1


def test_the_run_folder_holds_all_its_files_and_no_other(search: Run) -> None:
    expected = {name.format(device) for name in FILES for device in search.devices}
    assert {str(p.relative_to(search.folder)) for p in search.folder.rglob("*") if p.is_file()} == expected
    assert json.loads((search.folder / "result.json").read_text(encoding="utf-8")) == search.result
    assert json.loads((search.folder / "status.json").read_text(encoding="utf-8"))["status"] == "done"
    for row in read_csv(search.folder / "metrics.csv"):
        assert all(np.isfinite(float(value)) for value in row.values())


def test_the_stored_configuration_is_the_same_run(search: Run) -> None:
    content = yaml.safe_load((search.folder / "config.yaml").read_text(encoding="utf-8"))
    assert validate(content).run_folder == search.folder


def test_the_ledger_replayed_gives_the_surviving_masks_and_the_network(search: Run) -> None:
    path = search.folder / "prune.csv"
    for problem, survivors in zip(search.module.problems, search.module.strategy.survivors, strict=True):
        mask_N = replay(path, search.plan.space, problem.name, reasons=("presolve", "budget"))
        assert (mask_N == survivors.mask_N).all()
        architecture = read_architecture(search.folder / "architectures" / f"{problem.name}.json")
        assert replay_network(path, search.plan.space, problem.name) == architecture.choices


def test_what_pruning_leaves_is_within_budget_whichever_way_it_is_chosen(search: Run) -> None:
    pruned = [row for row in read_csv(search.folder / "prune.csv") if row["reason"] == "budget"]
    assert bool(pruned) == search.module.strategy.prunes
    if search.module.strategy.prunes:
        shares = search.result["search"]["worst_surviving_share"]
        assert max(shares.values()) <= 1
        assert max(shares.values()) > 0


def test_larger_candidates_that_lost_are_named_where_the_budget_is_not_well_used(search: Run) -> None:
    for device in search.result["devices"].values():
        used = device["utilisation"][device["binding"]]
        larger = device["larger_candidates_that_lost"]
        assert used == max(device["utilisation"].values())
        if used >= 0.8:
            assert larger is None
            continue
        expected = [c for c in device["candidates"] if c["utilisation"] > round(used, 4)]
        assert [c for c in larger if c["utilisation"] > round(used, 4)] == expected
        assert all(c["validation_accuracy"] <= device["validation"]["accuracy"] for c in larger)
    if search.result["space"] == "mobile":
        lost = [device["larger_candidates_that_lost"] for device in search.result["devices"].values()]
        assert any(isinstance(larger, list) for larger in lost)


def test_the_best_validated_candidate_is_taken_under_the_protocol_of_the_random_ones(search: Run) -> None:
    for device in search.result["devices"].values():
        best = max(c["validation_accuracy"] for c in device["candidates"])
        assert device["validation"]["accuracy"] == best
        assert len(device["random_candidates"]) == search.plan.config.trainer.candidates
        assert 1 <= len(device["candidates"]) <= search.plan.config.trainer.candidates
    if search.result["strategy"] == "random":
        for device in search.result["devices"].values():
            assert device["candidates"] == device["random_candidates"]


def test_accuracies_are_shares_of_the_test_images(search: Run) -> None:
    for device in search.result["devices"].values():
        images = device["accuracy"]["images"]
        assert images == search.result["data"]["images"]["test"] == search.plan.data.size("test")
        for kind in ("supernet", "inherited", "finetuned", "random"):
            correct = device["accuracy"][kind] * images
            assert 0 <= correct <= images
            assert correct == pytest.approx(round(correct), abs=1e-6)


def test_random_leaves_the_architecture_parameters_as_they_were_and_others_move_them(search: Run) -> None:
    moved = [bool(p.abs().max() > 0) for p in search.module.parameters_of_architecture.parameters()]
    assert moved == [search.module.strategy.learns] * 2


def test_the_report_names_every_device_budget_and_the_result(search: Run) -> None:
    text = "\n".join(search.lines)
    for device in search.devices:
        assert f"{device}: budgets met" in text
    assert f"2/2 devices within budget   result {search.folder / 'result.json'}" in text


REBUILD = """
import json, sys
from pathlib import Path
import safetensors.torch, torch
from search_spaces.architecture import build_network, read_architecture
torch.set_num_threads(1)
found = []
for folder, device, images in json.loads(sys.stdin.read()):
    folder = Path(folder)
    network = build_network(read_architecture(folder / "architectures" / f"{device}.json"))
    network.load_state_dict(safetensors.torch.load_file(folder / "weights" / f"{device}.safetensors"))
    batch = safetensors.torch.load_file(images)
    with torch.no_grad():
        logits = network.eval()(batch["images"])
    found.append([float((logits.argmax(1) == batch["labels"]).float().mean()), logits.tolist()])
outside = {"trainers", "hardware_models", "conf", "pytorch_lightning", "hydra"} & {m.split(".")[0] for m in sys.modules}
print(json.dumps([sorted(outside), found]))
"""


def test_the_files_rebuild_the_tested_network_with_search_spaces_alone(
    runs_made: dict[tuple[str, str], Run], tmp_path: Path
) -> None:
    searches = [run for (_, strategy), run in runs_made.items() if strategy == "pool"]
    if not searches:
        searches = [run(tmp_path, *overrides_of("mobile", "pool"))]
    asked, stored = [], []
    for number, search in enumerate(searches):
        batches = list(search.plan.data.batches("test", batch_size=1024, seed=0, epoch=0, augment=False))
        [(images, labels)] = batches
        path = tmp_path / f"{number}.safetensors"
        safetensors.torch.save_file({"images": images.contiguous(), "labels": labels}, path)
        for device in search.devices:
            asked.append((str(search.folder), device, str(path)))
            with torch.no_grad():
                logits = network_of(search, device)(images)
            stored.append((search.result["devices"][device]["accuracy"]["finetuned"], logits))
    done = subprocess.run(
        [sys.executable, "-c", REBUILD], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    outside, found = json.loads(done.stdout)
    assert outside == []
    for (accuracy, logits), (accuracy_found, logits_found) in zip(stored, found, strict=True):
        # One image of 80 may tip over where the sums of a batch of another size and layout round differently.
        assert accuracy_found == pytest.approx(accuracy, abs=1.01 / 80)
        assert torch.allclose(torch.tensor(logits_found), logits, atol=1e-4)


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
    overrides = overrides_of("mobile", "pool")
    folders = [tmp_path_factory.mktemp("again") for _ in range(3)]
    first, second = (run(folder, *overrides) for folder in folders[:2])
    return first, second, run(folders[2], *overrides, "seed=1")


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


def test_a_search_does_not_depend_on_what_ran_before_it_in_the_process(
    again: tuple[Run, Run, Run], tmp_path: Path
) -> None:
    first = again[0]
    torch.manual_seed(99)
    np.random.default_rng()
    np.random.seed(99)
    assert found_by(run(tmp_path, *overrides_of("mobile", "pool"))) == found_by(first)


def test_a_finished_search_is_told_and_not_run_again(again: tuple[Run, Run, Run]) -> None:
    first, lines = again[0], list[str]()
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    assert run_search(first.plan.config, lines.append) == first.result
    assert lines[0].startswith(f"this search is finished already: {first.folder}")
    assert "2/2 devices within budget" in "\n".join(lines)
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == before


def test_a_finished_search_whose_networks_are_gone_is_told_and_searched_again(
    again: tuple[Run, Run, Run], tmp_path: Path
) -> None:
    config, lines = tiny_config(tmp_path, *overrides_of("mobile", "pool")), list[str]()
    shutil.copytree(again[0].folder, config.run_folder)
    for name in ("architectures", "weights"):
        shutil.rmtree(config.run_folder / name)
    result = run_search(config, lines.append)
    told = f"{config.run_folder} was finished and has lost architectures/mid_tablet.json and 3 more"
    assert lines[0] == f"{told}; it is searched again"
    assert result["devices"] == again[0].result["devices"]
    assert missing_files(config.run_folder) == []


SPOILED = {
    "devices": lambda result: result.pop("devices"),
    "devices.mid_tablet.utilisation": lambda result: result["devices"]["mid_tablet"].pop("utilisation"),
    "devices.iot_terminal.met": lambda result: result["devices"]["iot_terminal"].update(met="yes"),
    "status": lambda result: result.update(status="sleeping"),
}


@pytest.mark.parametrize("field", SPOILED)
def test_a_malformed_result_is_refused_by_its_field_before_anything_is_done(
    again: tuple[Run, Run, Run], tmp_path: Path, field: str
) -> None:
    config, lines = tiny_config(tmp_path, *overrides_of("mobile", "pool")), list[str]()
    path = Path(shutil.copytree(again[0].folder, config.run_folder)) / "result.json"
    spoiled = json.loads(path.read_text(encoding="utf-8"))
    SPOILED[field](spoiled)
    path.write_text(json.dumps(spoiled), encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in config.run_folder.rglob("*")}
    with pytest.raises(InvalidInputError, match=rf"{path} is malformed:\n  {re.escape(field)}: got"):
        run_search(config, lines.append)
    assert lines == []
    assert {path: path.stat().st_mtime_ns for path in config.run_folder.rglob("*")} == before
