"""A Linux machine that times models over SSH; it needs Python, numpy and onnxruntime, nothing else.

OpenSSH's client does the reaching, so keys, jump hosts and known hosts are those of the user's own configuration.
"""

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from threading import Timer
from typing import IO, Any

import numpy as np
import torch

from hardware_models.measuring.board_address import BoardAddress
from hardware_models.measuring.measure import Machine
from hardware_models.measuring.runner import MARK
from search_spaces.errors import EspalierError

CONNECT_TIMEOUT_S = 15
RUNNER = Path(__file__).with_name("runner.py")
# Python on the board reads the runner from the stream and leaves what follows, the requests, to it.
_START = "import sys; exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
# What OpenSSH writes when it gives up, and what to do then.
_ADVICE = (
    ("connection refused", "no SSH server listens there; check board.host and board.port"),
    ("host key verification failed", "its host key is unknown or has changed; connect once by hand and check the key"),
    ("no matching host key", "its host key cannot be used; connect once by hand"),
    ("permission denied", "none of your keys is accepted; set board.identity to the private key that the board knows"),
    ("could not resolve", "there is no such machine; check board.host"),
    ("timed out", "it does not answer; check board.host, its network and its power"),
    ("no route to host", "it cannot be reached; check board.host and the network"),
    ("no such file or directory", "check board.python: the path of Python on the board"),
    ("not found", "check board.python: the name of Python on the board"),
)


class BoardError(EspalierError):
    """A board cannot be reached, cannot run models, or was lost on the way."""


def ssh_command(address: BoardAddress) -> list[str]:
    """The OpenSSH command that starts the runner there. It asks nothing: without a usable key it fails."""
    assert address.host is not None
    options = ["BatchMode=yes", f"ConnectTimeout={CONNECT_TIMEOUT_S}", "ServerAliveInterval=15"]
    command = ["ssh", "-T", *(part for option in options for part in ("-o", option))]
    command += [] if address.ssh_config is None else ["-F", os.path.expanduser(address.ssh_config)]
    command += [] if address.port is None else ["-p", str(address.port)]
    if address.identity is not None:
        command += ["-i", os.path.expanduser(address.identity), "-o", "IdentitiesOnly=yes"]
    return [*command, "--", address.host, shlex.join([address.python, "-u", "-c", _START])]


class Board(Machine):
    """An open connection to a board with the runner at its other end. Use `connected`, which closes it."""

    def __init__(self, address: BoardAddress, process: "subprocess.Popen[bytes]", messages: IO[bytes]) -> None:
        self.address, self._process, self._messages = address, process, messages
        script = RUNNER.read_bytes()
        hello = self._exchange([b"%d\n" % len(script), script], timeout_s=CONNECT_TIMEOUT_S + 60)
        if "missing" in hello:
            raise BoardError(
                f"board {address.host} cannot run models: {hello['missing']} (Python {hello['version']} at "
                f"{hello['python']}); run on it: {hello['python']} -m pip install onnxruntime; or set board.python"
            )
        self.description, self.governor = str(hello["machine"]), str(hello["governor"])
        self.load = float(hello["load"])
        self.identity = str(hello["identity"])
        self.versions = {**hello["versions"], "torch": torch.__version__}

    def run(
        self, model: bytes, *, threads: int, warmup: int, repeats: int, feed: Mapping[str, np.ndarray]
    ) -> tuple[list[float], list[np.ndarray]]:
        answer = self._request(model, feed, threads=threads, warmup=warmup, repeats=repeats, kernels=False)
        return answer["times_ms"], [np.array(output, dtype=np.float32) for output in answer["outputs"]]

    def run_kernels(self, model: bytes, *, threads: int, warmup: int, repeats: int) -> list[float]:
        answer = self._request(model, {}, threads=threads, warmup=warmup, repeats=repeats, kernels=True)
        return list(answer["times_ms"])

    def _request(self, model: bytes, feed: Mapping[str, np.ndarray], **settings: Any) -> dict[str, Any]:
        arrays = {name: np.ascontiguousarray(values) for name, values in feed.items()}
        inputs = {name: [str(values.dtype), list(values.shape)] for name, values in arrays.items()}
        # There it ends itself a little later than it is given up here, so that nothing goes on running unseen.
        request = {"model_bytes": len(model), "inputs": inputs, "limit_s": ceil(self.address.timeout_s) + 1, **settings}
        header = json.dumps(request).encode() + b"\n"
        parts = [header, model, *(values.tobytes() for values in arrays.values())]
        answer = self._exchange(parts, timeout_s=self.address.timeout_s)
        if "error" in answer:
            raise BoardError(f"board {self.address.host} could not run the model: {answer['error']}")
        return answer

    def _exchange(self, parts: Sequence[bytes], *, timeout_s: float) -> dict[str, Any]:
        """The answer to what is sent. A board that does not answer in time is let go."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watch = Timer(timeout_s, self._process.kill)
        watch.start()
        try:
            for part in parts:
                self._process.stdin.write(part)
            self._process.stdin.flush()
            for line in iter(self._process.stdout.readline, b""):
                mark, _, content = line.decode(errors="replace").partition(" ")
                if mark == MARK:
                    return dict(json.loads(content))
        except BrokenPipeError:
            pass  # it ended; what it wrote says why
        finally:
            late = not watch.is_alive()
            watch.cancel()
        if late:
            raise BoardError(
                f"board {self.address.host} gave no answer within {timeout_s:g} s; raise board.timeout_s, or look "
                "whether it is still at work"
            )
        raise self._lost()

    def _lost(self) -> BoardError:
        code = self._process.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
        advice = next((advice for words, advice in _ADVICE if words in said.lower()), "look at it and run this again")
        return BoardError(f"board {self.address.host}: {said}; {advice}")


@contextmanager
def connected(address: BoardAddress) -> Iterator[Board]:
    """The board, its runner started. Raises: BoardError, also later from its methods, that says what to do."""
    with tempfile.TemporaryFile() as messages:
        try:
            process = subprocess.Popen(
                ssh_command(address),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                start_new_session=True,  # Ctrl-C ends it through this program, which says what was kept
            )
        except FileNotFoundError as error:
            raise BoardError("there is no ssh on this machine; install OpenSSH's client (openssh-client)") from error
        try:
            yield Board(address, process, messages)
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):  # what was left to send is of no use
                stream.close()
