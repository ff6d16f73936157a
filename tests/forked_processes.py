"""The other processes of a training as forks of this one, which have all its imports and so start at once."""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from typing import IO, Any

import torch

from trainers.search.processes import Worker
from trainers.search.worker import work


class Fork:
    """A forked process with the methods of `subprocess.Popen` that a `Worker` needs."""

    def __init__(self, job: Mapping[str, Any], said: IO[bytes]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            sys.stderr = os.fdopen(2, "w")
            try:
                torch.set_num_threads(1)
                work(job)
                code = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, seconds: float | None = None) -> int:
        until = time.monotonic() + (3600 if seconds is None else seconds)
        while (code := self.poll()) is None and time.monotonic() < until:
            time.sleep(0.005)
        if code is None:
            self.kill()
            return self.wait()
        return code

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class ForkedWorker(Worker):
    def __init__(self, rank: int, job: Mapping[str, Any]) -> None:
        self.rank = rank
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self.process = Fork({**job, "rank": rank, "parent": os.getpid()}, self._said)  # type: ignore[assignment]
