"""What a training goes on from: all that it depends on at the end of an epoch, in one file that is replaced whole."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from search_spaces.regular_files import check_regular
from trainers.runs.exit_status import RunFolderError
from trainers.runs.files import write_bytes
from trainers.runs.versions import COMPUTING, versions

STATE = "state.ckpt"


@dataclass
class State:
    """`finished` are the results of the seeds that are done; the rest is of the seed in training.

    `epoch` epochs of it are done, in `seconds`, with the score `validation`; `parts` are the states of its network,
    optimizer and so on. `rows` are those of metrics.csv, of all seeds. Sums are split among `threads`.
    """

    threads: int
    processors: list[str]
    finished: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    epoch: int = 0
    seconds: float = 0.0
    validation: dict[str, Any] | None = None
    parts: dict[str, Any] = field(default_factory=dict)

    def end_seed(self, result: Mapping[str, Any]) -> None:
        self.finished.append(dict(result))
        self.epoch, self.seconds, self.validation, self.parts = 0, 0.0, None, {}


def write_state(folder: Path, state: State) -> None:
    """Raises: RunFolderError if it cannot be written; the one before is then untouched."""
    buffer = io.BytesIO()
    content = {key: getattr(state, key) for key in asdict(State(1, []))}
    torch.save({**content, "origin": _origin()}, buffer)
    write_bytes(folder / STATE, buffer.getvalue())


def read_state(folder: Path) -> State | None:
    """What an attempt before left; none if there was none. Nothing in it is executed.

    Raises: RunFolderError if it is not whole, or was computed with other versions.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        check_regular(path)
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        origin = content.pop("origin")
        state = State(**content)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, pickle.UnpicklingError, EOFError) as error:
        raise RunFolderError(
            f"{path} is not whole ({type(error).__name__}); delete it and repeat the command"
        ) from error
    changed = [f"{key} was {origin.get(key)}, is {here}" for key, here in _origin().items() if origin.get(key) != here]
    if changed:
        raise RunFolderError(
            f"{path} cannot be resumed: {'; '.join(changed)}; put back what it was, or delete the run folder to start "
            "again"
        )
    return state


def _origin() -> dict[str, str]:
    return {name: version for name, version in versions().items() if name in COMPUTING}
