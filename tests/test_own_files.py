"""Configuration files of a user's own folder: none of them runs code, and what is wrong with one names its file."""

import logging
import pickle
from pathlib import Path

import pytest
from console import CONF, SEARCH, Cli, console, done, refused
from surroundings import Surroundings, surround
from tiny_search import TINY

DEVICE = (CONF / "hardware" / "mid_tablet.yaml").read_text(encoding="utf-8").split("\n", 1)[1]


class Evil:
    """What unpickled makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Surroundings:
    return surround(monkeypatch, tmp_path)


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], around: Surroundings) -> Cli:
    (around.folder / "own").mkdir(parents=True)
    return console(SEARCH, monkeypatch, capsys, around.folder, f"paths.runs={around.folder}/runs")


def write(around: Surroundings, file: str, text: str) -> str:
    """The folder that has this file, for --config-dir; FOLDER in it is a folder where nothing may be."""
    path = around.folder / "own" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("FOLDER", str(around.folder)), encoding="utf-8")
    return f"--config-dir={around.folder}/own"


ATTACKS = {
    "a pickle": "hydra: {callbacks: {evil: {_target_: joblib.load, filename: FOLDER/own/evil.pkl}}}",
    "a log file by a callback": "hydra: {callbacks: {evil: {_target_: logging.FileHandler, filename: FOLDER/evil}}}",
    "a log file": "hydra: {job_logging: {version: 1, root: {handlers: [f]}, "
    "handlers: {f: {class: logging.FileHandler, filename: FOLDER/evil}}}}",
    "a log file of Hydra": "hydra: {hydra_logging: {version: 1, root: {handlers: [f]}, "
    "handlers: {f: {class: logging.FileHandler, filename: FOLDER/evil}}}}",
    "another run folder": "hydra: {run: {dir: FOLDER/evil}, output_subdir: x}",
    "another sweep folder": "hydra: {sweep: {dir: FOLDER/evil}}",
    "a launcher": "hydra: {launcher: {_target_: logging.FileHandler, filename: FOLDER/evil}}",
    "a variable": "hydra: {job: {env_set: {PATH: FOLDER/evil}}}",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_own_file_that_sets_what_hydra_does_is_refused_before_hydra_does_it(
    search: Cli, around: Surroundings, attack: str
) -> None:
    which = list(ATTACKS).index(attack)
    group, flags = ("hardware", "experiment")[which % 2], ((), ("-m", "seed=0,1"), ("--cfg=job",))[which % 3]
    folder = write(around, f"{group}/mine.yaml", "# @package _global_\n" + ATTACKS[attack] + "\n")
    (around.folder / "own" / "evil.pkl").write_bytes(pickle.dumps(Evil(around.folder / "evil")))
    chosen = "hardware=[mine]" if group == "hardware" else f"{group}=mine"
    refused(search(folder, *flags, chosen), "espalier-search", f"own/{group}/mine.yaml")
    assert around.strays(around.folder / "own") == []
    assert logging.getLogger().handlers == [] or "evil" not in str(logging.getLogger().handlers)


@pytest.mark.parametrize(
    ("files", "chosen", "named"),
    [
        ({"hydra/launcher/mine": "_target_: os.system\n"}, "hydra/launcher=mine", "hydra.launcher._target_"),
        ({"space/mine": "defaults: [mobile, /hydra/job_logging: default]\n"}, "space=mine", "hydra/job_logging"),
        ({"space/mine": "defaults: [mobile@_global_.hydra.callbacks]\n"}, "space=mine", "hydra.callbacks"),
        ({"space/mine": "# @package hydra.callbacks\nx: {_target_: os.system}\n"}, "space=mine", "hydra"),
        (
            {
                "experiment/mine": "# @package _global_\ndefaults: [/space@hydra.callbacks: other]\n",
                "space/other": "x: {_target_: os.system}\n",
            },
            "experiment=mine",
            "hydra.callbacks",
        ),
        (
            {"experiment/mine": "# @package _global_\ndefaults: [override /hydra/job_logging: default]\n"},
            "experiment=mine",
            "hydra/job_logging",
        ),
        (
            {"experiment/mine": "# @package _global_\nhydra: {sweeper: {params: {seed: [{_target_: os.system}]}}}\n"},
            "experiment=mine",
            "hydra.sweeper.params.seed.0._target_",
        ),
        ({"experiment/mine": "# @package _global_\nplugins: [os]\n"}, "experiment=mine", "plugins"),
        ({"experiment/mine": "# @package _global_\nspace: {_target_: os.system}\n"}, "experiment=mine", "_target_"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_own_file_reaches_hydra_or_names_code_by_a_roundabout_way(
    search: Cli, around: Surroundings, files: dict[str, str], chosen: str, named: str
) -> None:
    for file, text in files.items():
        folder = write(around, f"{file}.yaml", text)
    refused(search(folder, chosen), "espalier-search", named, "/own/")
    assert around.strays(around.folder / "own") == []


def test_a_job_of_a_sweep_that_chooses_such_a_file_is_refused_before_any_begins(
    search: Cli, around: Surroundings
) -> None:
    folder = write(around, "hardware/mine.yaml", "# @package _global_\nhydra: {output_subdir: x}\n")
    refused(search(folder, "-m", "hardware=[iot_terminal],[mine]"), "espalier-search", "own/hardware/mine.yaml")
    assert list((around.folder / "runs").rglob("*.json")) == []


def test_own_experiments_may_choose_launchers_and_set_them(search: Cli, around: Surroundings) -> None:
    text = "# @package _global_\ndefaults: [override /hydra/launcher: joblib, override /space: nasbench201]\n"
    folder = write(around, "experiment/mine.yaml", f"{text}seed: 7\nhydra: {{launcher: {{n_jobs: 3}}}}\n")
    assert "n_jobs: 3\n" in done(search(folder, "experiment=mine", "--cfg=hydra", "--package=hydra.launcher"))


def test_an_own_launcher_may_start_from_another(search: Cli, around: Surroundings) -> None:
    folder = write(around, "hydra/launcher/mine.yaml", "defaults: [joblib]\nn_jobs: 3\n")
    shown = done(search(folder, "hydra/launcher=mine", "--cfg=hydra", "--package=hydra.launcher"))
    assert "n_jobs: 3\n" in shown and "JoblibLauncher" in shown


def test_an_own_profile_may_start_from_a_shipped_one(search: Cli, around: Surroundings) -> None:
    text = "# @package hardware.mine\ndefaults: [mid_tablet@_here_, _self_]\nbudgets: {latency_ms: 7}\n"
    folder = write(around, "hardware/mine.yaml", text)
    shown = done(search(folder, "hardware=[mine]", "--cfg=job", "--package=hardware"))
    assert "latency_ms: 7\n" in shown and "ncnn" in shown


# Files that are no configuration

HEADER = "# @package hardware.mine\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title: [a\n", ("mine.yaml", "line 3")),
        ("title: a\ntitle: b\n", ("mine.yaml", "line 3", "title")),
        ("title: !!python/object/apply:os.mkdir [FOLDER/evil]\n", ("mine.yaml", "python/object/apply")),
        ("title: \x00\n", ("mine.yaml",)),
        ("- a\n", ("mine.yaml",)),
        ("text\n", ("mine",)),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_profile_that_is_no_configuration_is_reported_with_its_file(
    search: Cli, around: Surroundings, text: str, words: tuple[str, ...]
) -> None:
    folder = write(around, "hardware/mine.yaml", HEADER + text)
    refused(search(folder, "hardware=[mine]"), "espalier-search", *words)
    assert around.strays(around.folder / "own") == []


def test_a_profile_with_aliases_is_taken(search: Cli, around: Surroundings) -> None:
    folder = write(around, "hardware/mine.yaml", HEADER + "x-shared: &budgets {latency_ms: 7}\nbudgets: *budgets\n")
    shown = done(search(folder, *TINY, "hardware=[mine]", "--cfg=job", "--package=hardware.mine.budgets"))
    assert "latency_ms: 7\n" in shown
