"""A finished run is returned only for exactly what was asked: its data by content, and the machines that measured."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_search import MOBILE, SHORT, composed

from hardware_models.measuring import runner
from search_spaces.errors import InvalidInputError
from trainers.cli.search import run_search
from trainers.data.datasets import content_of, data_config, load_data
from trainers.data.image_set import DataError
from trainers.runs.config import SearchConfig, validate
from trainers.runs.folder import RunFolder
from trainers.search.identification import identified
from trainers.tuning.search_space import fixed_values

FOLDER = ("data=image_folder", "data.limit=null", "data.image_size=[16,16]", "data.flip=false")


def images_in(root: Path) -> Path:
    """Two classes of forty images each: noise, as bright as the class."""
    generator = np.random.default_rng(0)
    for number in range(80):
        low, name = (0, "dark") if number % 2 else (120, "light")
        (root / name).mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(low, low + 120, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name / f"{number:02d}.png")
    return root


def asked(root: Path, *more: str) -> SearchConfig:
    short = [each for each in SHORT if not each.startswith("data.")]
    overrides = (*MOBILE, *short, *FOLDER, f"data.root={root}", f"paths.runs={root.parent / 'runs'}", *more)
    return validate(composed(*overrides))


def brighten(root: Path) -> None:
    path = root / "dark" / "01.png"
    stat = path.stat()
    Image.fromarray(np.asarray(Image.open(path)) + 1).save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "nothing": (lambda root: None, True),
    "a file's name that does not change the order": (
        lambda root: (root / "dark/79.png").rename(root / "dark/99.png"),
        True,
    ),
    "a pixel, at the same time of change": (brighten, False),
    "an image more": (lambda root: shutil.copy(root / "dark/01.png", root / "dark/98.png"), False),
    "an image less": (lambda root: (root / "dark/01.png").unlink(), False),
    "an image of another class": (lambda root: (root / "dark/79.png").rename(root / "light/99.png"), False),
    "the names of the classes swapped": (
        lambda root: [(root / a).rename(root / b) for a, b in (("dark", "x"), ("light", "dark"), ("x", "light"))],
        False,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_is_of_the_content_of_its_data(tmp_path: Path, change: str) -> None:
    root = images_in(tmp_path / "data")
    before = identified(asked(root)).run_key
    edit, is_same = CHANGES[change]
    edit(root)
    assert (identified(asked(root)).run_key == before) == is_same
    moved = shutil.move(root, tmp_path / "elsewhere")
    assert (identified(asked(Path(moved))).run_key == before) == is_same


def test_a_split_into_training_and_test_is_content(tmp_path: Path) -> None:
    root = images_in(tmp_path / "data")
    parts = tmp_path / "parts"
    shutil.copytree(root, parts / "train")
    for name in ("dark", "light"):
        (parts / "test" / name).mkdir(parents=True)
        for path in sorted((parts / "train" / name).iterdir())[-10:]:
            path.rename(parts / "test" / name / path.name)
    contents = {content_of(data_config(asked(each).data)) for each in (root, parts)}
    assert len(contents) == 2


def test_changed_data_are_another_search_and_the_finished_run_is_still_there_to_read(tmp_path: Path) -> None:
    root = images_in(tmp_path / "data")
    lines: list[str] = []
    first = run_search(asked(root), lines.append)
    folder = identified(asked(root)).run_folder
    assert run_search(asked(root), lines.append) == first
    brighten(root)
    second = run_search(asked(root), lines.append)
    assert identified(asked(root)).run_folder != folder
    assert second.data.split_hash != first.data.split_hash
    shutil.rmtree(root)
    with pytest.raises(DataError):
        run_search(asked(root), lines.append)
    assert RunFolder(folder, command="").read_result() == first


def test_a_configuration_that_names_its_content_insists_on_it(tmp_path: Path) -> None:
    root = images_in(tmp_path / "data")
    config = identified(asked(root))
    assert identified(config) == config
    brighten(root)
    for attempt in (lambda: identified(config), lambda: load_data(data_config(config.data), channels=3)):
        with pytest.raises(InvalidInputError) as refused:
            attempt()
        assert refused.value.fields == ("data.content",)


def test_a_measured_run_is_of_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = images_in(tmp_path / "data")
    host = asked(root, "hardware=[host]", "hardware.host.budgets.latency_ms=100")
    here = identified(host)
    assert set(here.measured_on) == {"host"} and identified(asked(root)).measured_on == {}
    monkeypatch.setattr(runner.platform, "node", lambda: "another")
    elsewhere = identified(host)
    assert elsewhere.run_key != here.run_key
    with pytest.raises(InvalidInputError) as refused:
        identified(here)
    assert refused.value.fields == ("measured_on.host",)


def test_a_study_is_of_the_content_of_its_data(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        root = images_in(tmp_path / name)
        if name == "two":
            brighten(root)
        found.append(fixed_values([identified(asked(root)).model_dump(mode="json")], ["optimizer.lr"], set()))
    differing = {key for key in found[0] if found[0][key] != found[1][key]}
    assert differing == {"data.content"}
