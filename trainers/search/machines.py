"""Where networks are timed: this machine, or a board that a configuration names."""

from collections.abc import Iterator
from contextlib import contextmanager

from hardware_models.measuring.board import connected
from hardware_models.measuring.board_address import BoardAddress
from hardware_models.measuring.measure import Machine, ThisMachine


@contextmanager
def machine_of(board: BoardAddress | None) -> Iterator[Machine]:
    """The board, connected, or this machine. Raises: BoardError if the board cannot be used."""
    if board is None or board.host is None:
        yield ThisMachine()
        return
    with connected(board) as reached:
        yield reached
