"""An SSH server on this machine that stands for a board: its own keys, its own port, ended when the test is over."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from shutil import which

from hardware_models.measuring.board_address import BoardAddress

SSHD = which("sshd") or next((path for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if Path(path).exists()), None)
REASON = "needs OpenSSH's server and client: apt-get install openssh-server openssh-client"
INSTALLED = SSHD is not None and which("ssh") is not None and which("ssh-keygen") is not None


@dataclass(frozen=True)
class LoopbackServer:
    """A running server: where it listens, and the address that enters it with the accepted key."""

    folder: Path
    port: int
    address: BoardAddress


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def client_config(folder: Path, known_hosts: str) -> Path:
    """A client's configuration that looks nowhere but into `folder`."""
    (folder / f"{known_hosts}.config").write_text(
        f"UserKnownHostsFile {folder / known_hosts}\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n"
    )
    return folder / f"{known_hosts}.config"


@contextmanager
def loopback_server(folder: Path) -> Iterator[LoopbackServer]:
    """A server that accepts one key, for the user of the tests."""
    assert SSHD is not None
    host_key, key, port = make_key(folder / "host_key"), make_key(folder / "key"), free_port()
    (folder / "authorized_keys").write_text((folder / "key.pub").read_text())
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {host_key}\nPidFile {folder / 'pid'}\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    kind, public, *_ = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {public}\n")
    if not Path("/run/sshd").is_dir() and Path("/run").stat().st_uid == 0 and getuser() == "root":
        Path("/run/sshd").mkdir(mode=0o755)  # where the server of Debian drops its privileges
    with (folder / "sshd.log").open("w") as log:
        server = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stdin=subprocess.DEVNULL, stderr=log
        )
    try:
        wait_for(port, server, folder / "sshd.log")
        address = BoardAddress(
            host=f"{getuser()}@127.0.0.1",
            port=port,
            identity=str(key),
            ssh_config=str(client_config(folder, "known_hosts")),
            python=sys.executable,
        )
        yield LoopbackServer(folder, port, address)
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(200):
        assert server.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"the server does not listen: {log.read_text()}")
