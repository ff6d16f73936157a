"""A search that was interrupted goes on from its last checkpoint, to the same bits; changed or full, it says so."""

import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from interrupted_search import (
    POOL,
    append,
    ended,
    interrupted,
    one_thread,  # noqa: F401  # a fixture
    outcome,
    search_config,
    start,
    wait,
)

import trainers.cli.search
import trainers.search.provenance
import trainers.search.run
import trainers.search.training
from hardware_models.budgets.cost_table import CostTable
from trainers.runs.code import Code, running_code
from trainers.runs.config import SearchConfig
from trainers.runs.folder import RunFolder
from trainers.runs.state import state_of
from trainers.runs.versions import versions
from trainers.search.strategy import PRESETS


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SearchConfig:
    """A search that nothing interrupts."""
    config = search_config(tmp_path_factory.mktemp("whole"))
    assert wait(start(config)) == 0
    return config


@pytest.fixture(scope="module")
def whole(finished: SearchConfig) -> dict[str, Any]:
    return outcome(finished.run_folder)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> SearchConfig:
    """The same search, killed after two of five epochs."""
    config = search_config(tmp_path_factory.mktemp("killed"))
    interrupted(config, after_epoch=2)
    return config


SEARCH_AND_COUNT_THREADS = """
import sys, torch
from trainers.runs.config import SearchConfig
from trainers.search.run import run

config = SearchConfig.model_validate_json(sys.stdin.read())
with open(sys.argv[1], "w", encoding="utf-8") as file:
    run(config, lambda line: print(torch.get_num_threads(), line, file=file, flush=True))
"""


def copied(search: SearchConfig, runs: Path, *more: str) -> SearchConfig:
    """The same search in another folder, as far as it was."""
    config = search_config(runs, *POOL, *more)
    shutil.copytree(search.run_folder, config.run_folder)
    return config


def checkpoints(config: SearchConfig) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (config.run_folder / "checkpoints").glob("*.ckpt")}


def test_a_killed_search_ends_with_the_same_bits_whatever_is_around_it(
    killed: SearchConfig, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, said, here = copied(killed, tmp_path / "runs", "trainer.threads=2"), tmp_path / "said", tmp_path / "here"
    elsewhere = tmp_path / "larger disk"
    config.run_folder.rename(elsewhere)
    config.run_folder.symlink_to(elsewhere)
    (elsewhere / "status.json").unlink()  # the checkpoint alone tells how far it was
    for name, value in (("SLURM_NTASKS", "2"), ("SLURM_JOB_ID", "7"), ("SLURM_JOB_NAME", "sweep")):
        monkeypatch.setenv(name, value)
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "hpc_ckpt_1.ckpt").write_bytes(b"of another run")
    # In a fresh process: one that is forked hangs at its second thread, where its parent has had two.
    finished = subprocess.run(
        [sys.executable, "-c", SEARCH_AND_COUNT_THREADS, said], input=config.model_dump_json(), text=True
    )
    assert finished.returncode == 0
    threads = [line.split()[0] for line in said.read_text().splitlines() if line[2:7] in ("space", "epoch")]
    assert threads[0] == "2" and set(threads[1:]) == {"1"}  # until it knows, and from then on
    assert outcome(elsewhere) == whole
    result = json.loads((elsewhere / "result.json").read_bytes())
    assert (result["threads"], len(result["processors"]), result["earlier_code"]) == (1, 1, [])
    assert [path.name for path in here.iterdir()] == ["hpc_ckpt_1.ckpt"]
    assert not (elsewhere / "checkpoints").exists()


def test_a_signal_leaves_the_last_epoch_and_a_report_though_no_checkpoint_was_due(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    config = search_config(tmp_path, *POOL, "trainer.checkpoint_seconds=1000")

    def signal_after_three_epochs() -> None:
        on_epoch = trainers.cli.search.LogRun.on_epoch

        def and_signal(self: trainers.cli.search.LogRun, rows: Sequence[Mapping[str, Any]]) -> None:
            on_epoch(self, rows)
            if len(rows) == 4:
                raise KeyboardInterrupt(signal.SIGTERM)

        trainers.cli.search.LogRun.on_epoch = and_signal  # type: ignore[method-assign]

    assert wait(start(config, before=signal_after_three_epochs)) == 1
    assert state_of(config.run_folder).reason == "ended by SIGTERM"
    assert [name[:12] for name in checkpoints(config)] == ["epoch-000003"]
    files = {path.name for path in config.run_folder.iterdir()}
    assert {"report.html", "alphas.npz", "prune.csv", "metrics.csv"} <= files
    assert wait(start(config)) == 0
    assert outcome(config.run_folder) == whole


def test_a_signal_that_comes_as_soon_as_a_search_begins_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, begin = search_config(tmp_path), RunFolder.start

    def begin_and_be_signalled(folder: RunFolder, origin: Mapping[str, Any]) -> None:
        begin(folder, origin)
        raise KeyboardInterrupt(signal.SIGTERM)

    monkeypatch.setattr(RunFolder, "start", begin_and_be_signalled)
    with pytest.raises(KeyboardInterrupt):
        trainers.cli.search.run_search(config, lambda line: None)
    state = state_of(config.run_folder)
    assert (state.state, state.reason) == ("interrupted", "ended by SIGTERM")


@pytest.mark.slow
def test_a_signal_while_networks_are_chosen_loses_no_training(tmp_path: Path, whole: dict[str, Any]) -> None:
    config = search_config(tmp_path)

    def signal_when_trained() -> None:
        def interrupt(*arguments: Any) -> Any:
            raise KeyboardInterrupt(signal.SIGTERM)

        trainers.search.run.derive = interrupt

    assert wait(start(config, before=signal_when_trained)) == 1
    state = state_of(config.run_folder)
    assert (state.state, state.epoch) == ("interrupted", state.epochs)
    before = checkpoints(config)
    assert wait(start(config)) == 0
    assert len(before) == 2
    assert outcome(config.run_folder) == whole


@pytest.mark.slow
def test_a_write_that_fails_part_way_is_an_error_and_leaves_the_last_checkpoint(
    killed: SearchConfig, whole: dict[str, Any], tmp_path: Path
) -> None:
    config = copied(killed, tmp_path)
    before = checkpoints(config)
    smallest = min(map(len, before.values()))

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (smallest // 2, resource.RLIM_INFINITY))

    assert wait(start(config, before=limit_files)) == 1
    state = state_of(config.run_folder)
    assert state.state == "failed" and os.strerror(errno.EFBIG) in (state.reason or "")
    assert checkpoints(config) == before
    assert wait(start(config)) == 0
    assert outcome(config.run_folder) == whole


@pytest.mark.slow
def test_a_search_that_cannot_say_that_it_is_done_has_failed_and_loses_no_training(
    killed: SearchConfig, whole: dict[str, Any], tmp_path: Path
) -> None:
    config = copied(killed, tmp_path)
    status = config.run_folder / "status.json"

    def let_no_status_follow_the_result() -> None:
        write_result = trainers.search.run.write_result

        def write_the_last(*arguments: Any, **more: Any) -> Any:
            result = write_result(*arguments, **more)
            status.unlink()
            status.mkdir()
            return result

        trainers.search.run.write_result = write_the_last

    assert wait(start(config, before=let_no_status_follow_the_result)) == 1
    status.rmdir()
    assert max(checkpoints(config))[:12] == "epoch-000005"
    assert wait(start(config)) == 0
    assert outcome(config.run_folder) == whole


@pytest.mark.slow
def test_a_search_that_runs_out_of_memory_says_so(tmp_path: Path) -> None:
    config = search_config(tmp_path, *POOL, "trainer.batch_size=64", "data.image_size=[96,96]")

    def limit_memory_of_training() -> None:
        train = trainers.search.run.train

        def train_in_little(*arguments: Any, **more: Any) -> Any:
            bytes_used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (bytes_used + 60_000_000, resource.RLIM_INFINITY))
            return train(*arguments, **more)

        trainers.search.run.train = train_in_little

    assert wait(start(config, before=limit_memory_of_training)) == 1
    state = state_of(config.run_folder)
    assert state.state == "failed"
    assert "out of memory" in (state.reason or "")


def test_a_finished_run_that_lost_its_report_gets_it_again_and_nothing_else(
    finished: SearchConfig, tmp_path: Path
) -> None:
    config = copied(finished, tmp_path, "trainer.threads=2")
    (config.run_folder / "report.html").unlink()
    before = {path: path.stat().st_mtime_ns for path in config.run_folder.rglob("*.json")}
    assert wait(start(config)) == 0
    assert (config.run_folder / "report.html").exists()
    assert {path: path.stat().st_mtime_ns for path in config.run_folder.rglob("*.json")} == before


# Something else than it began with


def _raise_prices() -> None:
    CostTable.digest = property(lambda table: "other")  # type: ignore[assignment, method-assign]


def _change_torch() -> None:
    other = versions() | {"torch": "0.0.1"}
    trainers.search.training.versions = lambda: other


@pytest.mark.parametrize(("change", "what"), [(_raise_prices, "cost_table"), (_change_torch, "torch")])
def test_a_search_is_not_resumed_where_it_would_compute_otherwise(
    killed: SearchConfig, tmp_path: Path, change: Callable[[], None], what: str
) -> None:
    config = copied(killed, tmp_path)
    assert wait(start(config, before=change)) == 1
    state = state_of(config.run_folder)
    assert state.state == "failed" and f"cannot be resumed: {what} was " in (state.reason or "")


def test_a_search_that_is_resumed_under_other_code_lists_both(killed: SearchConfig, tmp_path: Path) -> None:
    config, said = copied(killed, tmp_path), tmp_path / "said"
    other = Code(version="0.2.0", commit=None, changed=None, sha256="other")

    def change_code() -> None:
        trainers.search.provenance.code_of = lambda content: other

    assert wait(start(config, before=change_code, report=lambda line: append(said, line))) == 0
    assert "other files of Espalier" in said.read_text(encoding="utf-8")
    result = json.loads((config.run_folder / "result.json").read_bytes())
    assert (result["code"], result["earlier_code"]) == (vars(other), [vars(running_code())])


def test_a_run_is_not_resumed_through_a_link_to_a_part_of_it(killed: SearchConfig, tmp_path: Path) -> None:
    config, elsewhere = copied(killed, tmp_path), tmp_path / "elsewhere"
    place = config.run_folder / "checkpoints"
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    before = sorted(elsewhere.iterdir())
    assert wait(start(config)) == 1
    state = state_of(config.run_folder)
    assert state.state == "failed" and str(place) in (state.reason or "")
    assert sorted(elsewhere.iterdir()) == before


# At random


def kill(process: int, config: SearchConfig, *, epoch: int, after_s: float) -> bool:
    """Whether a search was killed so long after the checkpoint of that epoch; it may have ended before."""
    while epoch and not list((config.run_folder / "checkpoints").glob(f"epoch-{epoch:06d}-*.ckpt")):
        if ended(process):
            return False
        time.sleep(0.002)
    time.sleep(after_s)
    if ended(process):
        return False
    os.kill(process, signal.SIGKILL)
    return wait(process) == -signal.SIGKILL


# Of 18 epochs for one strategy, of 7 for the others.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "steps", "num_kills"), [(name, *((160, 20) if name == "pool" else (60, 3))) for name in PRESETS]
)
def test_a_search_killed_at_random_moments_ends_as_one_that_was_not(
    tmp_path: Path, strategy: str, steps: int, num_kills: int
) -> None:
    overrides = (*(POOL if strategy == "pool" else (f"strategy={strategy}",)), f"trainer.steps={steps}")
    whole, killed = (search_config(tmp_path / name, *overrides) for name in ("whole", "killed"))
    assert wait(start(whole)) == 0
    expected = outcome(whole.run_folder)
    epochs, took = len(expected["metrics"]), json.loads((whole.run_folder / "result.json").read_bytes())["search"]
    epoch_s, moments = took["train_seconds"] / epochs, random.Random(strategy)
    # One in each part of the training, and the last while networks are chosen.
    whens = [divmod(epochs * (part + moments.random()) / (num_kills - 1), 1) for part in range(num_kills - 1)]
    whens.append((epochs, moments.uniform(0, took["derive_seconds"] / 2 / epoch_s)))
    said, kills = tmp_path / "said", 0
    for epoch, share in whens:
        process = start(killed, report=lambda line: append(said, line))
        kills += kill(process, killed, epoch=int(epoch), after_s=share * epoch_s)
        if (killed.run_folder / "status.json").exists():
            assert state_of(killed.run_folder).state in ("interrupted", "done")  # done: it was at its report
    assert wait(start(killed, report=lambda line: append(said, line))) == 0
    assert outcome(killed.run_folder) == expected
    assert not (killed.run_folder / "checkpoints").exists()
    assert kills >= num_kills - 1, "all but the last, which comes too late where networks are chosen faster this time"
    resumed = re.findall(r"^resumed after epoch \d+ of", said.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(resumed) > num_kills / 2


@pytest.mark.slow
@pytest.mark.parametrize("num_torn", [1, 2])
def test_checkpoints_torn_at_random_are_passed_over(
    tmp_path: Path, num_torn: int, killed: SearchConfig, whole: dict[str, Any]
) -> None:
    config, places = copied(killed, tmp_path), random.Random(num_torn)
    for path in sorted((config.run_folder / "checkpoints").glob("*.ckpt"))[-num_torn:]:
        os.truncate(path, places.randrange(path.stat().st_size))
    assert wait(start(config)) == 0
    assert outcome(config.run_folder) == whole
