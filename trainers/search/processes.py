"""Starts the other processes of a training on this machine, and ends them with it, however it ends."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import _abort_process_group

from search_spaces.errors import EspalierError
from trainers.runs.plugins import plugin_folders
from trainers.search.ranks import Ranks

STORE = "store"  # the file that processes find each other by
BACKENDS = {"cpu": "gloo", "gpu": "cpu:gloo,cuda:nccl"}
LONGEST_WAIT = timedelta(hours=2)  # of one process for another: an epoch is evaluated and reported by the first alone
END_SECONDS = 30.0  # for a process whose training is over to end by itself
LOST_SECONDS = 3.0  # after an error, for the process that may have been its cause to be seen to have ended
POLL_SECONDS = 0.05


class ProcessLostError(EspalierError):
    """Another process of the training has ended before its time."""


class Worker:
    """Process `rank` of a training, doing a `job`; what it prints is kept until it is gone."""

    def __init__(self, rank: int, job: Mapping[str, Any]) -> None:
        self.rank = rank
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        with tempfile.TemporaryFile() as given:
            given.write(json.dumps({**job, "rank": rank, "parent": os.getpid()}).encode())
            given.seek(0)
            # A session of its own: Ctrl-C on the terminal is for the first process, which ends the others.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "trainers.search.worker"],
                stdin=given,
                stdout=self._said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                start_new_session=True,
            )

    @property
    def is_lost(self) -> bool:
        return self.process.poll() not in (None, 0)

    @property
    def end(self) -> str:
        """How it ended, and the last line that it said."""
        code = self.process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        lines = self.said.strip().splitlines()
        return f"process {self.rank} of the training ({self.process.pid}) {how}" + (f": {lines[-1]}" if lines else "")

    @property
    def said(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace")

    def close(self, *, seconds: float) -> None:
        """Ends the process, which has so long to do it by itself; nothing on disk depends on it."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._said.close()


@contextmanager
def processes(
    ranks: Ranks,
    job: Mapping[str, Any],
    *,
    accelerator: str,
    plugins: Sequence[str],
    log: Callable[[str], None],
) -> Iterator[None]:
    """Within it the processes of `ranks` are connected, and all but this one do the `job`; with one nothing is done.

    Raises: ProcessLostError if one of them ends before its time.
    """
    if ranks.size == 1:
        yield
        return
    workers: list[Worker] = []
    over, seconds = threading.Event(), 0.0
    with tempfile.TemporaryDirectory(prefix="espalier-") as folder:
        job = {**job, "meeting": folder, "plugin_folders": plugin_folders(plugins)}
        try:
            for rank in range(1, ranks.size):
                workers.append(Worker(rank, job))
            store = dist.FileStore(os.path.join(folder, STORE), ranks.size)
            _await_all(store, workers, log)
            connect(store, ranks, accelerator)
            if accelerator == "gpu":
                threading.Thread(target=_abort_when_lost, args=(workers, over), daemon=True).start()
            yield
            seconds = END_SECONDS
        except EspalierError:
            raise
        except Exception as error:
            until = time.monotonic() + LOST_SECONDS
            while not any(worker.is_lost for worker in workers) and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
            _check_none_lost(workers, log, error)
            raise
        finally:
            over.set()
            for worker in workers:
                worker.close(seconds=seconds)
            if dist.is_initialized():
                dist.destroy_process_group()


def connect(store: dist.Store, ranks: Ranks, accelerator: str) -> None:
    """Makes this process one of `ranks`."""
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host name may lead to an interface that is down
    dist.init_process_group(
        BACKENDS[accelerator], store=store, rank=ranks.number, world_size=ranks.size, timeout=LONGEST_WAIT
    )


def ready(rank: int) -> str:
    """The key of the store by which a process says that it is ready to be connected."""
    return f"ready/{rank}"


def end_with_parent(parent: int, meeting: Path) -> None:
    """From now on this process ends at once when its parent is gone, whatever it is at."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(10 * POLL_SECONDS)
        (meeting / STORE).unlink(missing_ok=True)
        if meeting.is_dir() and not any(meeting.iterdir()):
            meeting.rmdir()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _await_all(store: dist.Store, workers: Sequence[Worker], log: Callable[[str], None]) -> None:
    """Raises: ProcessLostError if one ends before it is ready."""
    while not store.check([ready(worker.rank) for worker in workers]):
        _check_none_lost(workers, log)
        time.sleep(POLL_SECONDS)


def _check_none_lost(workers: Sequence[Worker], log: Callable[[str], None], error: Exception | None = None) -> None:
    lost = sorted((worker for worker in workers if worker.is_lost), key=lambda worker: worker.process.returncode)
    if lost:  # one that a signal ended first: the others follow it
        log(lost[0].said.rstrip())
        raise ProcessLostError(
            f"{lost[0].end}; run.log has what it said; the same command continues from the last checkpoint"
        ) from error


def _abort_when_lost(workers: Sequence[Worker], over: threading.Event) -> None:
    """Frees this process from waiting on its GPU for one that is gone, which NCCL would only notice much later."""
    while not over.wait(10 * POLL_SECONDS):
        if any(worker.is_lost for worker in workers):
            _abort_process_group()
            return
