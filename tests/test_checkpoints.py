"""Checkpoints from elsewhere: whole by their names, and yet nothing that a search could go on from."""

import hashlib
import io
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainers.runs.exit_status import RunFolderError
from trainers.search.checkpoints import PARTS, HashedCheckpointIO, latest_checkpoint

ORIGIN = {"cost_table": "a", "data": "b"}
WHOLE: dict[str, Any] = {**{part: {} for part in PARTS}, "origin": ORIGIN}


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


BYTES = saved(WHOLE)


def checkpoint(folder: Path, content: bytes) -> Path:
    """A file under the name that promises this content."""
    path = folder / f"epoch-000001-{hashlib.sha256(content).hexdigest()[:16]}.ckpt"
    path.write_bytes(content)
    return path


def refusal(folder: Path, content: bytes) -> str:
    """What is wrong with a checkpoint, besides the sentence that all are refused with."""
    path = checkpoint(folder, content)
    with pytest.raises(RunFolderError) as refused:
        HashedCheckpointIO(ORIGIN).load_checkpoint(path)
    told = re.fullmatch(
        rf"{re.escape(str(path))} is no checkpoint of a search: (.*); delete it, and repeat the command",
        str(refused.value),
        re.DOTALL,
    )
    assert told, str(refused.value)
    return told[1]


def test_a_checkpoint_with_every_part_is_taken(tmp_path: Path) -> None:
    assert HashedCheckpointIO(ORIGIN).load_checkpoint(checkpoint(tmp_path, saved(WHOLE))) == WHOLE


@pytest.mark.parametrize(
    ("content", "kind"), [([WHOLE], "list"), (torch.zeros(3), "Tensor"), (None, "NoneType"), ("epoch", "str")]
)
def test_a_checkpoint_that_is_no_mapping_is_refused_by_what_it_is(tmp_path: Path, content: object, kind: str) -> None:
    assert refusal(tmp_path, saved(content)) == f"it holds no mapping but a {kind}"


@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_without_a_part_is_refused_by_its_name(tmp_path: Path, part: str) -> None:
    assert refusal(tmp_path, saved({key: WHOLE[key] for key in WHOLE if key != part})) == f"it has no {part}"


def test_all_that_a_checkpoint_lacks_is_told_at_once(tmp_path: Path) -> None:
    assert refusal(tmp_path, saved({"origin": ORIGIN})) == f"it has no {', '.join(PARTS)}"


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        (None, "its origin is None"),
        (3, "its origin is 3"),
        ({"cost_table": "a"}, "data was None, is b"),
        ({**ORIGIN, "data": "c", "more": "d"}, "data was c, is b; more was d, is None"),
    ],
)
def test_a_checkpoint_of_another_origin_is_refused_by_what_differs(tmp_path: Path, origin: object, told: str) -> None:
    path = checkpoint(tmp_path, saved({**WHOLE, "origin": origin}))
    with pytest.raises(
        RunFolderError, match=f"^{re.escape(f'{path} cannot be resumed: {told}; put back what it was')}"
    ):
        HashedCheckpointIO(ORIGIN).load_checkpoint(path)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(cut=st.integers(1, len(BYTES)), place=st.integers(0, len(BYTES) - 1), garbage=st.binary(max_size=9))
@example(cut=len(BYTES), place=0, garbage=b"")
@example(cut=1, place=0, garbage=b"a")  # the unpickler's own faults: pops from an empty stack,
@example(cut=1, place=0, garbage=b"V\x80\n.")  # text that is none,
@example(cut=1, place=0, garbage=b"IZZ\n.")  # a number that is none
def test_any_bytes_are_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, cut: int, place: int, garbage: bytes
) -> None:
    end = place + len(garbage)
    for damaged in (garbage, (BYTES[:place] + garbage + BYTES[end:])[:cut]):
        path = checkpoint(tmp_path_factory.getbasetemp(), damaged)
        with suppress(RunFolderError):
            HashedCheckpointIO(ORIGIN).load_checkpoint(path)
        path.unlink()


def test_a_checkpoint_that_memory_is_too_small_for_is_not_to_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_in_little(*arguments: Any, **more: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", load_in_little)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        HashedCheckpointIO(ORIGIN).load_checkpoint(checkpoint(tmp_path, BYTES))


class Hostile:
    """What a pickle may hold: a command to be run when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_checkpoint_from_elsewhere_executes_nothing(tmp_path: Path) -> None:
    checkpoint_io, trace = HashedCheckpointIO({}), tmp_path / "executed"
    checkpoint_io.save_checkpoint({"search": Hostile(trace)}, tmp_path / "epoch-000001.ckpt")
    (path,) = tmp_path.glob("*.ckpt")
    with pytest.raises(RunFolderError, match="is no checkpoint of a search"):
        checkpoint_io.load_checkpoint(path)
    assert not trace.exists()


def test_a_checkpoint_under_a_name_that_is_not_its_own_is_not_taken(tmp_path: Path) -> None:
    told: list[str] = []
    HashedCheckpointIO({}).save_checkpoint({"x": torch.zeros(3)}, tmp_path / "epoch-000001.ckpt")
    (path,) = tmp_path.glob("*.ckpt")
    assert latest_checkpoint(tmp_path, told.append) == path
    path.rename(tmp_path / "epoch-000002-0123456789abcdef.ckpt")
    assert latest_checkpoint(tmp_path, told.append) is None
    assert "is not whole" in told[0]
