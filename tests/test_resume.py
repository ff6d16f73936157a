"""A search that was interrupted goes on from its last checkpoint, to the same bits; torn or full, it says so."""

import errno
import json
import os
import random
import re
import resource
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
import trainers.search.run
from trainers.loggers.base import RunLogger, SteadyRunLogger
from trainers.runs.config import SearchConfig
from trainers.runs.folder import RunFolder
from trainers.runs.state import state_of
from trainers.search.checkpoints import HashedCheckpointIO, latest_checkpoint
from trainers.search.strategy import PRESETS


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Outcome of the search that nothing interrupts."""
    config = search_config(tmp_path_factory.mktemp("whole"))
    assert wait(start(config)) == 0
    return outcome(config.run_folder)


def checkpoints(config: SearchConfig) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (config.run_folder / "checkpoints").glob("*.ckpt")}


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


# Of 27 epochs for one strategy, of 7 for the others.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "steps", "num_kills"), [(name, *((240, 20) if name == "pool" else (60, 3))) for name in PRESETS]
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


def test_a_signal_that_comes_as_soon_as_a_search_begins_is_told(
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
    (config.run_folder / "status.json").unlink()  # so that the checkpoint alone tells how far it was
    assert wait(start(config)) == 0
    assert state_of(config.run_folder).epoch == state.epochs
    assert len(before) == 2
    assert outcome(config.run_folder) == whole


def test_under_slurm_nothing_is_read_or_left_outside_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any]
) -> None:
    for name, value in (("SLURM_NTASKS", "2"), ("SLURM_JOB_ID", "7"), ("SLURM_JOB_NAME", "sweep")):
        monkeypatch.setenv(name, value)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "hpc_ckpt_1.ckpt").write_bytes(b"of another run")
    config = search_config(tmp_path / "runs")
    assert wait(start(config)) == 0
    assert outcome(config.run_folder) == whole
    assert [path.name for path in here.iterdir()] == ["hpc_ckpt_1.ckpt"]


@pytest.mark.slow
@pytest.mark.parametrize("num_torn", [1, 2])
def test_checkpoints_torn_at_random_are_passed_over(tmp_path: Path, num_torn: int, whole: dict[str, Any]) -> None:
    config, places = search_config(tmp_path), random.Random(num_torn)
    interrupted(config, after_epoch=3)
    for path in sorted((config.run_folder / "checkpoints").glob("*.ckpt"))[-num_torn:]:
        os.truncate(path, places.randrange(path.stat().st_size))
    assert wait(start(config)) == 0
    assert outcome(config.run_folder) == whole


@pytest.mark.parametrize("file", ["status.json", "metrics.csv", "config.yaml"])
def test_other_files_torn_at_random_do_not_change_a_resumed_search(
    tmp_path: Path, file: str, whole: dict[str, Any]
) -> None:
    config = search_config(tmp_path)
    interrupted(config, after_epoch=2)
    path = config.run_folder / file
    os.truncate(path, random.Random(file).randrange(path.stat().st_size))
    assert wait(start(config)) == 0
    assert outcome(config.run_folder) == whole


def test_a_write_that_fails_part_way_is_a_clear_error_and_leaves_the_last_checkpoint(
    tmp_path: Path, whole: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    config = search_config(tmp_path)
    interrupted(config, after_epoch=2)
    before = checkpoints(config)
    smallest = min(map(len, before.values()))

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (smallest // 2, resource.RLIM_INFINITY))

    assert wait(start(config, before=limit_files)) == 1
    assert "; free space or allow writing there and repeat the command" in capfd.readouterr().err
    state = state_of(config.run_folder)
    assert state.state == "failed"
    assert os.strerror(errno.EFBIG) in (state.reason or "")
    assert checkpoints(config) == before
    assert wait(start(config)) == 0
    assert outcome(config.run_folder) == whole


def test_a_search_that_is_resumed_with_other_threads_computes_as_it_began(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    config, said = search_config(tmp_path), tmp_path / "said"
    interrupted(config, after_epoch=2)
    more = search_config(tmp_path, *POOL, "trainer.threads=2")
    assert wait(start(more, report=lambda line: append(said, f"{torch.get_num_threads()} {line}"))) == 0
    threads = [line.split()[0] for line in said.read_text().splitlines() if line[2:7] in ("space", "epoch")]
    assert threads == ["2"] + ["1"] * 5  # until it knows, and from then on
    result = json.loads((config.run_folder / "result.json").read_bytes())
    assert (result["threads"], len(result["processors"]), result["earlier_code"]) == (1, 1, [])
    assert outcome(config.run_folder) == whole


class PrintingLogger(RunLogger):
    """Prints what it gets of the end of a run."""

    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        print("published", name, flush=True)

    def finish(self, exit_code: int) -> None:
        print("finished with", exit_code, flush=True)


def test_a_search_that_cannot_say_that_it_is_done_has_failed_and_loses_no_training(
    tmp_path: Path, whole: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    config = search_config(tmp_path)
    status = config.run_folder / "status.json"

    def let_no_status_follow_the_result() -> None:
        write_result = trainers.search.run.write_result

        def write_the_last(*arguments: Any, **more: Any) -> Any:
            result = write_result(*arguments, **more)
            status.unlink()
            status.mkdir()
            return result

        trainers.search.run.write_result = write_the_last
        trainers.cli.search.make_logger = lambda config, record, report: SteadyRunLogger(
            PrintingLogger(config, record, report), report
        )

    assert wait(start(config, before=let_no_status_follow_the_result)) == 1
    output, errors = capfd.readouterr()
    assert output.splitlines() == ["finished with 1"]
    assert f"RunFolderError: cannot write {status}: Is a directory; free space" in errors
    status.rmdir()
    assert sorted(name[:12] for name in checkpoints(config)) == ["epoch-000006", "epoch-000007"]
    assert wait(start(config)) == 0
    assert outcome(config.run_folder) == whole


def test_a_full_disk_is_a_clear_error_and_leaves_the_last_checkpoint_whole(
    small_disk: Path, whole: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    config = search_config(small_disk)
    filling = small_disk / "filling"

    def fill_after_one_epoch() -> None:
        write = HashedCheckpointIO.save_checkpoint

        def write_and_fill(self: HashedCheckpointIO, *arguments: Any, **more: Any) -> None:
            write(self, *arguments, **more)
            filling.write_bytes(bytes(_free(small_disk) - 2_000_000))

        HashedCheckpointIO.save_checkpoint = write_and_fill  # type: ignore[method-assign]

    assert wait(start(config, before=fill_after_one_epoch)) == 1
    assert "No space left on device; free space" in capfd.readouterr().err
    filling.unlink()
    assert latest_checkpoint(config.run_folder / "checkpoints", pytest.fail) is not None
    assert wait(start(config)) == 0
    assert outcome(config.run_folder) == whole


def _free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


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


def test_a_finished_run_that_lost_its_report_gets_it_again(tmp_path: Path) -> None:
    config = search_config(tmp_path)
    assert wait(start(config)) == 0
    (config.run_folder / "report.html").unlink()
    written = (config.run_folder / "result.json").stat().st_mtime_ns
    assert wait(start(config)) == 0
    assert (config.run_folder / "report.html").exists()
    assert (config.run_folder / "result.json").stat().st_mtime_ns == written
    weights = np.load(config.run_folder / "alphas.npz", allow_pickle=False)["weights"]
    assert json.loads((config.run_folder / "status.json").read_text(encoding="utf-8"))["attempt"] == 1
    assert np.isfinite(weights).all()
