"""Code of others runs if the command names it, and is recorded; nothing that a file names is imported."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from console import CALIBRATE, MEASURE, SEARCH, TUNE, Cli, console, done, refused
from plugin_files import copy_examples, forget_plugins
from tiny_search import SHORT, composed

from search_spaces.errors import InvalidInputError
from tests.reported_runs import draw_nothing
from trainers.analysis.loading import load_run
from trainers.cli.report_command import run as report
from trainers.runs.config import validate
from trainers.runs.plugins import code_of, import_plugins, named_plugins, require_plugins

LADDER = (
    "plugins=ladder",
    "space=ladder",
    *SHORT,
    "strategy.pool_size=32",
    "hardware=[mid_tablet]",
    "trainer.candidates=1",
)


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    call = console(SEARCH, monkeypatch, capsys, tmp_path, f"paths.runs={tmp_path}/runs")
    copy_examples(Path.cwd())
    draw_nothing(monkeypatch)
    with forget_plugins(tmp_path):
        yield call


def runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("result.json"))


def test_a_space_of_one_file_is_searched_reported_and_verified(search: Cli, tmp_path: Path) -> None:
    done(search(*LADDER))
    (folder,) = runs(tmp_path)
    digest = hashlib.sha256((tmp_path / "here" / "ladder.py").read_bytes()).hexdigest()
    recorded = {"ladder": {"version": None, "sha256": digest}}
    assert json.loads((folder / "result.json").read_bytes())["code"]["plugins"] == recorded
    assert load_run(folder).state.code["plugins"] == recorded
    assert report(["verify", str(folder), "plugins=ladder"]) == 0
    assert report([str(folder)]) == 0 and "kernel0=" in (folder / "report.html").read_text(encoding="utf-8")
    assert "finished already" in done(search(*LADDER))


def test_a_run_without_its_plugin_says_which_to_name(
    search: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with forget_plugins(tmp_path):
        done(search(*LADDER))
    (folder,) = runs(tmp_path)
    for words in (["verify", str(folder)], [str(folder)]):
        assert report(words) == 2
        assert "plugins=ladder" in capsys.readouterr().err
    with pytest.raises(InvalidInputError) as refused:
        validate(dict(load_run(folder).config))
    assert refused.value.fields == ("plugins",)


def test_a_data_set_of_one_file_is_searched_on(search: Cli, tmp_path: Path) -> None:
    done(search(*LADDER, "plugins=[ladder,stripes]", "data=stripes", "data.image_size=null"))
    (folder,) = runs(tmp_path)
    result = json.loads((folder / "result.json").read_bytes())
    assert result["data"]["name"] == "stripes" and sorted(result["code"]["plugins"]) == ["ladder", "stripes"]


OWN_CLASSES = """import pathlib
import pytorch_lightning as pl
from torch.optim.lr_scheduler import LRScheduler
class Halving(LRScheduler):
    def __init__(self, optimizer, *, every: int, total_steps: int = 0):
        assert total_steps == 6
        self.every = every
        super().__init__(optimizer)
    def get_lr(self):
        return [base * 0.5 ** (self.last_epoch // self.every) for base in self.base_lrs]
class Note(pl.Callback):
    def __init__(self, *, path: str):
        self.path = path
    def on_train_end(self, trainer, module):
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        pathlib.Path(self.path).write_text(f"{type(trainer.optimizers[0]).__name__} {rates}")
"""


def test_optimizer_schedule_and_callbacks_are_of_a_module_that_the_command_names(search: Cli, tmp_path: Path) -> None:
    Path("own_classes.py").write_text(OWN_CLASSES, encoding="utf-8")
    lion = ("optimizer=adamw", "optimizer._target_=lion.Lion", "optimizer.lr=0.008")
    halving = ("schedule._target_=own_classes.Halving", "+schedule.every=2")
    callbacks = f"callbacks=[{{_target_:own_classes.Note,path:{tmp_path}/note}}]"
    done(search(*LADDER, "plugins=[ladder,lion,own_classes]", *lion, *halving, callbacks))
    assert (tmp_path / "note").read_text(encoding="utf-8") == "Lion [0.001]"


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("optimizer._target_=lion.Lion", "optimizer"),  # of no plug-in of the command
        ("optimizer._target_=os.system", "optimizer"),
        ("optimizer._target_=ladder.LadderSpace", "optimizer._target_"),
        ("schedule._target_=torch.optim.SGD", "schedule"),
        ("schedule._target_=torch.optim.lr_scheduler.ReduceLROnPlateau", "schedule._target_"),
        ("schedule._target_=torch.optim.lr_scheduler.StepLR", "schedule"),  # which needs a step size
        ("callbacks=[{_target_:subprocess.run,args:[ls]}]", "callbacks[0]"),
        ("callbacks=[{_target_:ladder.Ladder}]", "callbacks[0]._target_"),
    ],
)
def test_a_class_of_another_kind_or_module_is_refused_by_its_key(search: Cli, override: str, field: str) -> None:
    assert refused(search(*LADDER, override), "espalier-search") == (field,)


def test_a_file_names_a_class_of_a_plugin_only_if_the_command_names_the_plugin(search: Cli, tmp_path: Path) -> None:
    (tmp_path / "own" / "optimizer").mkdir(parents=True)
    (tmp_path / "own" / "optimizer" / "mine.yaml").write_text("_target_: lion.Lion\nlr: 0.1\n", encoding="utf-8")
    mine = (*LADDER, f"--config-dir={tmp_path}/own", "optimizer=mine", "trainer.steps=0")
    assert refused(search(*mine), "espalier-search") == ("optimizer", "trainer.steps")
    assert refused(search(*mine, "plugins=[ladder,lion]"), "espalier-search") == ("trainer.steps",)


def test_operation_relaxation_and_logger_of_one_file_each_are_searched_with(search: Cli, tmp_path: Path) -> None:
    parts = ("plugins=[max_pool,softmax,text_logger]", "relaxation=softmax", "logger=text", "logger.file=rows.txt")
    cells = ("space=nasbench201", "space.num_cells=1", "space.width=4", "space.image_size=16", "hardware=[mid_tablet]")
    operations = "+space.operations=[none,skip_connect,nor_conv_1x1,max_pool_3x3]"
    done(search(*cells, operations, *SHORT, "trainer.candidates=1", "strategy.pool_size=32", *parts))
    (folder,) = runs(tmp_path)
    used = json.loads((folder / "result.json").read_bytes())["code"]["plugins"]
    assert sorted(used) == ["max_pool", "softmax", "text_logger"]
    assert (folder / "rows.txt").read_text(encoding="utf-8").startswith("step=6 ")


def test_a_section_without_a_file_has_the_defaults_of_its_part(search: Cli) -> None:
    shown = done(search("plugins=[ladder]", "space=ladder", "space.width=8", "--cfg=job", "--package=space"))
    assert shown.splitlines()[1:] == ["name: ladder", "steps: 3", "width: 8", "size: 16"]
    assert refused(search("plugins=ladder", "space=ladder", "space.depth=8"), "espalier-search") == ("space.depth",)


def test_a_module_in_the_folder_of_own_files_is_found(search: Cli, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "here" / "ladder.py").rename(tmp_path / "own" / "ladder.py")
    shown = done(search(f"--config-dir={tmp_path}/own", "plugins=ladder", "space=ladder", "--cfg=job"))
    assert "steps: 3\n" in shown


BROKEN = {
    "nothing_there": (None, "nothing_there"),
    "no_import": ("import nothing_of_this_name\n", "nothing_of_this_name"),
    "divides": ("number = 1\nnumber / 0\n", "line 2"),
    "no_python": ("def f(:\n", "no_python.py, line 1"),
    "ends": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "ladder.py": (None, "ladder.py"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_module_that_cannot_be_imported_is_refused_in_a_line_before_any_work(search: Cli, name: str) -> None:
    text, why = BROKEN[name]
    if text is not None:
        Path(f"{name}.py").write_text(text, encoding="utf-8")
    found = search(f"plugins=[ladder,{name}]", "space=ladder")
    assert refused(found, "espalier-search", why) == ("plugins",)
    assert len(found[2].splitlines()) == 1 and not runs(Path.cwd().parent)


@pytest.mark.parametrize("text", ["plugins: [evil]", "hydra: {sweeper: {params: {plugins: evil}}}"])
@pytest.mark.parametrize("more", [(), ("-m", "plugins=ladder")], ids=["run", "sweep"])
def test_a_file_that_names_a_module_is_refused(search: Cli, tmp_path: Path, text: str, more: tuple[str, ...]) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n", encoding="utf-8")
    (tmp_path / "here" / "evil.py").write_text(f"open('{tmp_path}/evil', 'w')\n", encoding="utf-8")
    refused(search(*more, f"--config-dir={tmp_path}/own", "experiment=mine"), "espalier-search", "plugins")
    assert not (tmp_path / "evil").exists() and not runs(tmp_path)


# The other commands


def test_a_study_of_a_plugin_is_run(search: Cli, tmp_path: Path) -> None:
    done(search(*LADDER, "study=s.db", "trials=1", "space.width=4,4", app=TUNE))
    (folder,) = runs(tmp_path)
    assert list(json.loads((folder / "result.json").read_bytes())["code"]["plugins"]) == ["ladder"]


def test_networks_of_a_plugin_are_proposed_and_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = console(MEASURE, monkeypatch, capsys, tmp_path)
    copy_examples(Path.cwd())
    with forget_plugins(tmp_path):
        own = ("plugins=ladder", "space=ladder", "space.width=4", "num_classes=4")
        done(command(*own, "propose=2", app=CALIBRATE))
        fast = ("warmup=0", "repeats=1")
        done(command("plugins=ladder", "architecture=proposed/*.json", *fast, "output=proposed.csv"))
        done(command(*own, "networks=1", *fast, "output=drawn.csv"))
    rows = [len(Path(f"{name}.csv").read_text(encoding="utf-8").splitlines()) for name in ("proposed", "drawn")]
    assert rows == [1 + 2, 1 + 1]


def test_every_job_of_a_sweep_has_the_plugins_of_its_command(search: Cli, tmp_path: Path) -> None:
    done(search("-m", *LADDER, "seed=0,1", "sweep=seeds"))
    results = [json.loads((folder / "result.json").read_bytes()) for folder in runs(tmp_path)]
    assert [list(result["code"]["plugins"]) for result in results] == [["ladder"], ["ladder"]]
    assert all("plugins=[ladder]" in result["command"] for result in results)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "processes"])
def test_workers_of_a_launcher_import_plugins_again(tmp_path: Path, launcher: str) -> None:
    copy_examples(tmp_path)
    sweep = ("-m", *LADDER, "seed=0,1", "sweep=seeds", f"hydra/launcher={launcher}", f"paths.runs={tmp_path}/runs")
    command = [str(Path(sys.executable).parent / "espalier-search"), *sweep]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert len(runs(tmp_path)) == 2


def test_names_of_plugins_are_read_as_people_write_them() -> None:
    assert named_plugins(["seed=1", "plugins=a", "+plugins=[b, 'c.d']", "x.plugins=[e]"]) == ["a", "b", "c.d"]


def test_a_run_without_plugins_has_the_key_that_it_had() -> None:
    content = composed()
    without = {key: value for key, value in content.items() if key != "plugins"}
    assert validate(content).run_key == validate(without).run_key
    assert code_of(content).plugins == {}


def test_a_part_that_a_notebook_imported_is_recorded_without_a_key(search: Cli) -> None:
    import_plugins(["ladder"], folders=[Path.cwd()])
    assert list(code_of({"space": {"name": "ladder"}}).plugins) == ["ladder"]


def test_a_package_that_is_gone_is_named_with_its_version() -> None:
    require_plugins({}, {"numpy": {"version": "2.0"}})
    with pytest.raises(InvalidInputError, match=r"nothing_there 0\.3"):
        require_plugins({}, {"nothing_there": {"version": "0.3"}})
