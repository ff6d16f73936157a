"""`espalier-retrain` on the command line: what it answers without a training, and what it says of one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from console import (
    HEAVY,
    RETRAIN,
    Cli,
    complaints,
    console,
    done,
    ends_with_examples_and_exit_codes,
    examples,
    imported_by,
    refused,
    spaces_in_help,
)
from spaces import ROOT

CELL = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|nor_conv_3x3~0|none~1|skip_connect~2|"
SMALL = ("space=nasbench201", "space.width=4", "space.num_cells=1", "data.limit=300", "epochs=1", "threads=1")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    yield console(RETRAIN, monkeypatch, capsys, tmp_path)
    torch.use_deterministic_algorithms(False)


def test_a_training_says_how_far_it_is_and_what_came_of_it_and_then_that_it_is_finished(command: Cli) -> None:
    Path("cell.txt").write_text(f"{CELL}\n", encoding="utf-8")
    line = ("arch=cell.txt", *SMALL, "space.image_size=8", "seeds=2")
    lines = done(command(*line)).splitlines()
    progress = [each.split("  ") for each in lines if each.startswith("seed") and "epoch" in each]
    assert [each[:2] for each in progress] == [["seed 0 (1/2)", "epoch 1/1"], ["seed 1 (2/2)", "epoch 1/1"]]
    assert all(each[-1].endswith(" left") for each in progress)
    (folder,) = Path("runs/retrain").iterdir()
    assert any("±" in each for each in lines) and str(folder / "result.json") in lines[-1]
    again = done(command(*line)).splitlines()
    assert "finished already" in again[0] and again[-1] == lines[-1]


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ((), ("architecture",)),
        (("arch=x", *SMALL), ("arch",)),
        ((f'arch="{CELL}"', *SMALL, "mixup=x", "seeds=0"), ("mixup", "seeds")),
        ((f'arch="{CELL}"', *SMALL, "optimizer._target_=os.system"), ("optimizer",)),
    ],
)
def test_a_wrong_configuration_is_refused_by_its_keys(
    command: Cli, arguments: tuple[str, ...], keys: tuple[str, ...]
) -> None:
    assert refused(command(*arguments), "espalier-retrain") == keys
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_answers_without_a_training_import_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert imported_by("retrain_command", *arguments, folder=tmp_path)[2] & HEAVY == set()


def test_every_example_of_the_help_is_a_command_that_is_understood(command: Cli) -> None:
    assert spaces_in_help(RETRAIN) == {path.stem for path in (ROOT / "conf" / "space").glob("*.yaml")}
    assert ends_with_examples_and_exit_codes(RETRAIN)
    for file in ("pixel6.json", "pixel6.safetensors", "cell.txt", "large.onnx"):
        Path(file).write_text(CELL, encoding="utf-8")
    for arguments in examples(RETRAIN):
        reported = complaints(command(*arguments, "batch_size=0"))  # all that is wrong with it
        assert reported == {"batch_size: got 0; Input should be greater than or equal to 2"}
