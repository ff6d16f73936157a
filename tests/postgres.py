"""A PostgreSQL server of one test session: Debian's package, a temporary folder, a free port of the loopback."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

USER = "postgres"  # of the system: a server refuses to run as root; and of the database
START_SECONDS = 60.0


def server_binaries() -> Path | None:
    """The folder of the newest `postgres` of Debian's packages."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the empty database `postgres` of a server that ends with the session."""
    binaries = server_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    root = os.geteuid() == 0
    if root and USER not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip(f"a server does not run as root, and there is no user {USER}: apt-get install postgresql")
    # Not pytest's folder: no other user may enter that one, and a socket's path is at most 107 bytes long.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    server = None
    try:
        if root:
            shutil.chown(folder, USER, USER)
        as_user = ["runuser", "-u", USER, "--"] if root else []
        initialise = [str(binaries / "initdb"), "-D", f"{folder}/data", "-U", USER, "-A", "trust", "--no-sync"]
        subprocess.run([*as_user, *initialise], check=True, capture_output=True, cwd=folder)
        port = _free_port()
        options = ["-c", "fsync=off", "-c", f"unix_socket_directories={folder}", "-c", "listen_addresses=127.0.0.1"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*as_user, str(binaries / "postgres"), "-D", f"{folder}/data", "-p", str(port), *options],
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        _await(port, server, folder / "log")
        yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
    finally:
        if server is not None:
            _stop(server, folder / "data" / "postmaster.pid")
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    end = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(f"postgresql://{USER}@127.0.0.1:{port}/postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')}") from None
            time.sleep(0.1)


def _stop(server: subprocess.Popen[bytes], pid_file: Path) -> None:
    """Ends the server by its own process id: `runuser` would not pass every signal on."""
    if pid_file.exists():
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGINT)  # fast shutdown
    server.wait(timeout=START_SECONDS)
