"""Where networks are timed: this machine, or a board that a configuration names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hardware_models.measuring.board import BoardAddress, connected
from hardware_models.measuring.measure import Machine, ThisMachine
from trainers.runs.config import BoardConfig


@contextmanager
def machine_of(board: BoardConfig | None) -> Iterator[Machine]:
    """The board, connected, or this machine. Raises: BoardError if the board cannot be used."""
    if board is None or board.host is None:
        yield ThisMachine()
        return
    with connected(board_address(board)) as reached:
        yield reached


def board_address(board: BoardConfig) -> BoardAddress:
    assert board.host is not None
    identity, ssh_config = (
        None if text is None else Path(os.path.expanduser(text)) for text in (board.identity, board.ssh_config)
    )
    return BoardAddress(board.host, board.port, identity, ssh_config, board.python, board.timeout_s)
