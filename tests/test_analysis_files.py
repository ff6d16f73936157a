"""Files of a run folder from elsewhere: what is malformed is refused with file and field, and nothing in them runs."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from search_spaces.errors import InvalidInputError
from tests.sample_result import RUN
from trainers.analysis import load_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that a test may spoil."""
    return Path(shutil.copytree(RUN, tmp_path / "seeds" / RUN.name))


def test_a_torn_or_malformed_result_is_refused(folder: Path) -> None:
    for content in ("{", "{}"):
        (folder / "result.json").write_text(content)
        with pytest.raises(InvalidInputError, match=r"result\.json"):
            load_run(folder)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda config: config.pop("seed"), "seed"),
        (lambda config: config["strategy"].pop("name"), "strategy.name"),
        (lambda config: config["hardware"]["mid_tablet"].pop("budgets"), "hardware.mid_tablet.budgets"),
    ],
)
def test_a_malformed_configuration_is_refused_with_its_field(
    folder: Path, change: Callable[[Any], Any], field: str
) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"config\.yaml") as refused:
        load_run(folder)
    assert field in refused.value.fields


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.abort []", "seed: 2026-99-99", "a: [", "a: \x01", "[" * 2000, "a: &a [1]\nb: *a"]
)
def test_a_configuration_that_is_no_plain_yaml_is_refused_and_runs_nothing(folder: Path, text: str) -> None:
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"cannot read .*config\.yaml"):
        load_run(folder)


COLUMNS = "epoch,step,time/step_s,val/acc"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("epoch,val/acc\n1,0.5\n", "time/step_s"),
        (f"{COLUMNS}\n1\n", "step"),
        (f"{COLUMNS}\n1,x,1,1\n", "step"),
        (f"{COLUMNS}\n1,1.5,1,1\n", "step"),
        (f"{COLUMNS}\n1,2,1,nan\n", "val/acc"),
        (f"{COLUMNS}\n1,2,1,-inf\n", "val/acc"),
        (f"{COLUMNS}\n1,2,1,1e999\n", "val/acc"),
        (f"{COLUMNS}\n1,{'9' * 400},1,1\n", "step"),
        (f'{COLUMNS}\n1,"2\n', "cannot read"),
        ("", "cannot read"),
    ],
)
def test_malformed_metrics_are_refused_with_file_and_field(folder: Path, text: str, field: str) -> None:
    (folder / "metrics.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"metrics\.csv") as refused:
        load_run(folder)
    assert field in str(refused.value)


class Bomb:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def save_alphas(folder: Path, **changes: Any) -> None:
    whole = {
        "epoch": np.array([1, 2]),
        "step": np.array([10, 20]),
        "weights": np.full((2, 1, 3), 0.5, dtype=np.float32),
        "device": np.array(["phone"]),
        "decision": np.array(["kernel", "kernel", "width"]),
        "choice": np.array(["3", "5", "8"]),
    }
    np.savez(folder / "alphas.npz", **{key: value for key, value in (whole | changes).items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"weights": None}, "weights"),
        ({"weights": np.zeros((2, 1, 4), dtype=np.float32)}, "choice"),
        ({"weights": np.zeros(2, dtype=np.float32)}, "weights"),
        ({"weights": np.full((2, 1, 3), 1.5, dtype=np.float32)}, "weights"),
        ({"weights": np.full((2, 1, 3), np.nan, dtype=np.float32)}, "weights"),
        ({"epoch": np.array([1.5, 2])}, "epoch"),
        ({"step": np.array([10])}, "step"),
        ({"choice": np.array([3, 5, 8])}, "choice"),
    ],
)
def test_malformed_alphas_are_refused_with_the_field(folder: Path, changes: dict[str, Any], field: str) -> None:
    save_alphas(folder, **changes)
    with pytest.raises(InvalidInputError, match=rf"alphas\.npz.*{field}"):
        load_run(folder)


def test_a_probability_rounded_to_a_little_above_one_is_one(folder: Path) -> None:
    above = np.nextafter(np.float32(1), np.float32(2))
    save_alphas(folder, weights=np.full((2, 1, 3), above))
    alphas = load_run(folder).alphas
    assert alphas is not None and alphas.weights.max() == above


def test_alphas_that_would_run_code_are_refused_and_run_nothing(folder: Path) -> None:
    save_alphas(folder, device=np.array([Bomb(folder / "ran")], dtype=object))
    with pytest.raises(InvalidInputError, match=r"cannot read .*alphas\.npz"):
        load_run(folder)
    assert not (folder / "ran").exists()


def test_torn_alphas_are_refused_and_one_array_too(folder: Path) -> None:
    np.save(folder / "one.npy", np.zeros(3))
    for content in (b"", b"PK\x03\x04", b"\x93NUMPY", (folder / "one.npy").read_bytes()):
        (folder / "alphas.npz").write_bytes(content)
        with pytest.raises(InvalidInputError, match=r"alphas\.npz"):
            load_run(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", ["status.json", "result.json", "config.yaml", "metrics.csv", "prune.csv", "alphas.npz"]
)
def test_a_file_with_bytes_cut_or_changed_loads_or_is_refused(folder: Path, file: str) -> None:
    whole = (folder / file).read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole[: int(generator.integers(len(whole)))] if generator.random() < 0.3 else whole)
        for place in generator.integers(max(1, len(content)), size=3):
            content[place : place + 1] = generator.bytes(1)
        (folder / file).write_bytes(content)
        with contextlib.suppress(InvalidInputError):
            load_run(folder)
