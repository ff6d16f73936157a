"""Checkpoints: read as written, refused where they are of another search, and never executed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.runs.exit_status import RunFolderError
from trainers.search.checkpoints import HashedCheckpointIO, latest_checkpoint
from trainers.search.memory import is_out_of_memory

ORIGIN = {"cost_table": "a", "data": "b"}


def saved(folder: Path, content: dict[str, Any], origin: dict[str, str]) -> Path:
    HashedCheckpointIO(origin).save_checkpoint(content, folder / "epoch-000001.ckpt")
    (path,) = folder.glob("*.ckpt")
    return path


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = saved(tmp_path, {"search": {"step": 3}}, ORIGIN)
    assert HashedCheckpointIO(ORIGIN).load_checkpoint(path) == {"search": {"step": 3}, "origin": ORIGIN}


@pytest.mark.parametrize(
    ("origin", "changed"),
    [
        ({"cost_table": "a"}, ["data was None, is b"]),
        ({**ORIGIN, "data": "c", "more": "d"}, ["data was c, is b", "more was d, is None"]),
    ],
)
def test_a_checkpoint_of_another_origin_is_refused_by_what_differs(
    tmp_path: Path, origin: dict[str, str], changed: list[str]
) -> None:
    with pytest.raises(RunFolderError) as refused:
        HashedCheckpointIO(ORIGIN).load_checkpoint(saved(tmp_path, {}, origin))
    assert [each for each in changed if each in str(refused.value)] == changed


def test_memory_that_runs_out_is_not_taken_for_a_fault_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, {}, ORIGIN)
    monkeypatch.setattr(torch, "load", lambda *given, **more: torch.empty(2**60))
    with pytest.raises(RuntimeError) as ended:
        HashedCheckpointIO(ORIGIN).load_checkpoint(path)
    assert is_out_of_memory(ended.value)


class Hostile:
    """What a pickle may hold: a command to be run when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_checkpoint_from_elsewhere_executes_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    with pytest.raises(RunFolderError):
        HashedCheckpointIO({}).load_checkpoint(saved(tmp_path, {"search": Hostile(trace)}, {}))
    assert not trace.exists()


def test_a_checkpoint_under_a_name_that_is_not_its_own_is_not_taken(tmp_path: Path) -> None:
    reported: list[str] = []
    path = saved(tmp_path, {"x": torch.zeros(3)}, {})
    assert latest_checkpoint(tmp_path, reported.append) == path
    path.rename(tmp_path / "epoch-000002-0123456789abcdef.ckpt")
    assert latest_checkpoint(tmp_path, reported.append) is None
    assert len(reported) == 1 and "epoch-000002-0123456789abcdef.ckpt" in reported[0]
