"""A finished run is returned only for exactly what was asked: its data by content, and the machines that measured."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from console import SEARCH, TUNE, Cli, Found, console
from PIL import Image
from tiny_search import MOBILE, SHORT, composed

import trainers.cli.search
from hardware_models.measuring import runner
from search_spaces.errors import InvalidInputError
from trainers.cli.search import run_search
from trainers.data import datasets
from trainers.data.datasets import DataConfig, content_of, data_config, load_data
from trainers.data.image_set import DataError, ImageSet
from trainers.data.storage import Report
from trainers.runs.config import SearchConfig, validate
from trainers.runs.folder import RunFolder
from trainers.search.identification import identified
from trainers.search.plan import prepare

FOLDER = ("data=image_folder", "data.limit=null", "data.image_size=[48,48]", "data.flip=false")
ONE = ("hardware=[mid_tablet]", "trainer.candidates=1", "trainer.steps=2")
OVERRIDES = (*MOBILE, *(each for each in SHORT if not each.startswith("data.")), *FOLDER, *ONE)


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
    return validate(composed(*OVERRIDES, f"data.root={root}", f"paths.runs={root.parent / 'runs'}", *more))


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
    "a class of another name": (lambda root: (root / "dark").rename(root / "black"), False),
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
    for attempt in (lambda: identified(config), lambda: load_data(data_config(config.data))):
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


@pytest.fixture
def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[DataConfig]:
    """The configurations whose images were read."""
    reads: list[DataConfig] = []
    read = datasets._read

    def counting(config: DataConfig, report: Report) -> ImageSet:
        reads.append(config)
        return read(config, report)

    monkeypatch.setattr(datasets, "_read", counting)
    return reads


def test_data_that_were_read_to_identify_a_search_are_not_read_again(
    tmp_path: Path, counted_reads: list[DataConfig]
) -> None:
    config = identified(asked(images_in(tmp_path / "data")))
    prepare(config)
    assert len(counted_reads) == 1


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Commands whose searches are not run: what they are asked is the subject."""
    monkeypatch.setattr(trainers.cli.search, "run_identified", lambda *given, **more: Found())
    return console(TUNE, monkeypatch, capsys, tmp_path)


def test_a_study_goes_on_only_over_the_data_that_it_was_begun_with(tune: Cli, tmp_path: Path) -> None:
    root = images_in(tmp_path / "data")
    line = (*OVERRIDES, f"data.root={root}", "paths.runs=runs", "sweep=study", "optimizer.lr=interval(0.01,0.1)")
    assert tune(*line, "trials=1")[0] == 0
    moved = shutil.move(root, tmp_path / "elsewhere")
    assert tune(*line, f"data.root={moved}", "trials=2")[0] == 0
    brighten(Path(moved))
    code, _, errors = tune(*line, f"data.root={moved}", "trials=3")
    assert code == 2 and "data.content" in errors


def test_folders_of_a_sweep_over_data_are_those_of_their_content(tune: Cli, tmp_path: Path) -> None:
    one, two = images_in(tmp_path / "one"), images_in(tmp_path / "two")
    same = shutil.copytree(one, tmp_path / "same")
    brighten(two)
    tune(*OVERRIDES, f"data.root={one},{two},{same}", "-m", "paths.runs=runs", "sweep=data", app=SEARCH)
    jobs = json.loads((tmp_path / "here/runs/data/sweep.json").read_text(encoding="utf-8"))["jobs"]
    first, second, third = (job["folder"] for job in jobs)
    assert first == third != second
