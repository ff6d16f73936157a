"""A PostgreSQL server of one test session: Debian's package, a temporary folder, a free port of the loopback."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

USER = "postgres"  # of the system: a server refuses to run as root; and of the database


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the empty database `postgres` of a server that ends with the session."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    root = os.geteuid() == 0
    if not found or (root and USER not in {entry.pw_name for entry in pwd.getpwall()}):
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    # Not pytest's folder: no other user may enter that one, and a socket's path is at most 107 bytes long.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        command = [*(["runuser", "-u", USER, "--"] if root else []), str(found[-1] / program), "-D", f"{folder}/data"]
        # Not piped: the server would hold the other end.
        subprocess.run([*command, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL)

    try:
        if root:
            shutil.chown(folder, USER, USER)
        run("initdb", "-U", USER, "-A", "trust", "--no-sync")
        options = f"-p {port} -c fsync=off -c unix_socket_directories={folder} -c listen_addresses=127.0.0.1"
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", options, "start")
        yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            run("pg_ctl", "-w", "-m", "fast", "stop")
        shutil.rmtree(folder, ignore_errors=True)
