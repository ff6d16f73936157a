"""`espalier-search` on the command line: what it answers without a search, and each wrong input one clear error."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from console import (
    CALIBRATE,
    HEAVY,
    MEASURE,
    SEARCH,
    App,
    Cli,
    Found,
    console,
    done,
    ends_with_examples_and_exit_codes,
    examples,
    help_text,
    imported_by,
    refused,
    refused_search,
)
from tiny_search import CELLS, CONF, SHORT, TINY

import trainers.cli.search
from search_spaces.errors import keys_of
from trainers.runs.config import SearchConfig

COMMAND = Path(sys.executable).parent / "espalier-search"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: Path) -> Cli:
    return console(SEARCH, monkeypatch, capsys, runs.parent, f"paths.runs={runs}")


# Answers without a search


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_answers_without_a_search_import_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, output, packages = imported_by("search_command", *arguments, folder=tmp_path)
    assert code == 0
    assert output
    assert packages & {*HEAVY, "sklearn"} == set()


def test_help_of_the_installed_command_ends_with_examples_and_exit_codes() -> None:
    done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip().endswith(help_text(SEARCH).strip().splitlines()[-1])
    assert ends_with_examples_and_exit_codes(SEARCH)


def test_cfg_job_prints_every_value_of_the_configuration(tmp_path: Path) -> None:
    _, output, _ = imported_by("search_command", "--cfg", "job", folder=tmp_path)
    for line in ("seed: 0", "  latency_ms: 48", "  steps: ", "  pool_size: 1024", "  runs: runs"):
        assert re.search(rf"^ *{line.strip()}", output, re.MULTILINE), line


def test_every_example_of_the_help_is_a_command_that_is_understood(search: Cli, runs: Path) -> None:
    for example in examples(SEARCH):
        # All that is wrong with it is the number of steps, so that nothing runs.
        code, _, errors = search(*example, "trainer.steps=0")
        assert code == 2
        complaints = {line for line in errors.splitlines() if line.startswith("  ")}
        assert complaints == {"  trainer.steps: got 0; Input should be greater than or equal to 1"}


def test_every_search_of_the_readme_is_a_command_that_is_understood(
    search: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (CONF.parent / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"^(?:.*&& )?(?:\S*/)?espalier-search(.*)$", text, re.MULTILINE)
    Path("hardware").mkdir()  # where the README has the user keep a profile, of what boards measure
    profile = (CONF / "hardware" / "mid_tablet.yaml").read_text(encoding="utf-8")
    profile = profile.replace("hardware.mid_tablet", "hardware.my_pi").replace("runtime: ncnn", "runtime: onnxruntime")
    Path("hardware/my_pi.yaml").write_text(profile, encoding="utf-8")
    searched: list[SearchConfig] = []

    def accept(config: SearchConfig, report: Any, *, command: str) -> Found:
        searched.append(config)
        return Found()

    monkeypatch.setattr(
        trainers.cli.search, "run_search", accept
    )  # the checks of the whole configuration come before it
    for example in examples:
        arguments = shlex.split(example, comments=True)
        if {"--help", "--cfg"} & set(arguments) or "plugins=" in example:
            continue  # they print, and are tested above; or need a module, and are tested with one
        here = [a for a in arguments if not re.match(r"hydra[./]launcher", a)]  # other processes would search
        code, _, errors = search(*here)
        assert code == 0, f"{example}\n{errors}"
    assert len(searched) > len(examples)  # sweeps are several
    assert "my_pi" in {board for config in searched for board in config.boards}


# Commands of which none is a sweep


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
@pytest.mark.parametrize("app", [MEASURE, CALIBRATE], ids=lambda app: app.name)
def test_a_sweep_of_measurements_is_refused_with_what_does_it_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, app: App, flag: str
) -> None:
    command = console(app, monkeypatch, capsys, tmp_path)
    found = command(flag, "threads=1,2")
    refused(found, app.name, "  --multirun: not to be used with ", "repeat the command, as in `for ")
    assert list(Path.cwd().iterdir()) == []
    instead = re.search(rf"; do {app.name} (.*?)(?: \.\.\.)?; done`", found[2])
    assert instead
    once = [re.sub(r"\$[a-z]+", "1", argument) for argument in shlex.split(instead[1])]
    assert once[0].partition("=")[0] in done(command("--cfg", "job", *once))  # so the keys are there


# Wrong configurations


def own_profiles(folder: Path, **headers: str) -> tuple[str, ...]:
    """Arguments that search for profiles of these names, each a copy of a shipped one with that first line."""
    (folder / "hardware").mkdir()
    shipped = (CONF / "hardware" / "mid_tablet.yaml").read_text(encoding="utf-8")
    for name, header in headers.items():
        text = shipped.replace("# @package hardware.mid_tablet\n", header)
        assert text != shipped
        (folder / "hardware" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return "--config-dir", str(folder), f"hardware=[{','.join(headers)}]"


def test_two_devices_whose_files_name_the_same_key_are_not_searched_as_one(
    search: Cli, runs: Path, tmp_path: Path
) -> None:
    first_line = "# @package hardware.a\n"
    words = "b.yaml: it puts its profile at hardware.a; its first line must be `# @package hardware.b`"
    found = search(*own_profiles(tmp_path, a=first_line, b=first_line))
    refused_search(found, runs, words)
    assert "a.yaml" not in found[2]


@pytest.mark.parametrize(("header", "place"), [("", "hardware"), ("# @package _global_\n", "the top")])
def test_a_profile_that_names_no_device_in_its_first_line_is_refused_with_that_line(
    search: Cli, runs: Path, tmp_path: Path, header: str, place: str
) -> None:
    found = search(*own_profiles(tmp_path, mine=header))
    refused_search(
        found, runs, f"mine.yaml: it puts its profile at {place}; its first line must be `# @package hardware.mine`"
    )
    assert "dictionary" not in found[2]


def test_a_profile_that_the_command_places_itself_is_taken(search: Cli, tmp_path: Path) -> None:
    second = "+hardware@hardware.second=mid_tablet"
    code, _, errors = search(*own_profiles(tmp_path, a="# @package hardware.a\n"), second, "trainer.steps=0")
    assert code == 2
    assert "first line" not in errors


@pytest.mark.parametrize(
    ("argument", "key"),
    [
        ("hardware=[]", "hardware"),
        ("trainer.steps=many", "trainer.steps"),
        ("trainer.clip_norm=nan", "trainer.clip_norm"),
        ("trainer.batch_size=5000", "trainer.batch_size"),
        ("seed=-1", "seed"),
        ("optimizer._target_=os.system", "optimizer._target_"),
        ("optimizer.lr=fast", "optimizer.lr"),
        ("+strategy.temperature=1", "strategy"),
        ("space.kernels=[2,4]", "space.kernels"),
        ("space.resolutions=[32.5]", "space.resolutions[0]"),
        ("data.limit=0", "data.limit"),
        ("+data.crop=1", "data.crop"),
        ("logger.name=nobody", "logger.name"),
        ("hardware.mid_tablet.threads=fast", "hardware.mid_tablet.threads"),
        ("hardware.mid_tablet.latency.weight_gb_per_s=0", "hardware.mid_tablet.latency.weight_gb_per_s"),
        ("+hardware.mid_tablet.budgets.latency=5", "hardware.mid_tablet.budgets.latency"),
        ("hardware.mid_tablet.budgets.gflops=-1", "hardware.mid_tablet.budgets.gflops"),
        ("hardware.mid_tablet.budgets={latency_ms:null,gflops:null}", "hardware.mid_tablet.budgets"),
        ("boards={nobody:{host:h}}", "boards.nobody"),
    ],
)
def test_a_wrong_value_is_refused_by_name_before_anything_runs(
    search: Cli, runs: Path, argument: str, key: str
) -> None:
    found = search(*TINY, argument)
    refused_search(found, runs)
    first = found[2].removeprefix("espalier-search: ").removeprefix("the configuration cannot be used:\n  ")
    assert first.startswith(key), found[2]


@pytest.mark.parametrize("argument", ["space.width=4.5", "space.num_cells=0", "space.width=true"])
def test_a_wrong_size_of_the_cell_space_is_refused(search: Cli, runs: Path, argument: str) -> None:
    refused_search(search(*CELLS, *SHORT, argument), runs, argument.partition("=")[0])


def test_a_device_that_cannot_price_the_space_is_refused(search: Cli, runs: Path) -> None:
    found = search(*TINY, "hardware=[nb201_pixel3]")
    refused_search(
        found, runs, "nb201_pixel3", "hardware.nb201_pixel3.latency", ": conv 48x16x16 -> 48x8x8 k3 s2 g48; "
    )
    assert "Operation(" not in found[2]


def test_wrong_values_are_named_together(search: Cli, runs: Path) -> None:
    refused_search(
        search(*TINY, "seed=-1", "trainer.steps=0", "paths.cache=''"), runs, "seed", "trainer.steps", "paths.cache"
    )


def test_wrong_parts_are_named_together(search: Cli, runs: Path) -> None:
    wrong = ("strategy.pool_size=4", "optimizer.lr=-1", "hardware.mid_tablet.precision=fp8", "logger.name=nobody")
    found = search(*TINY, *wrong)
    refused_search(found, runs)
    assert set(keys_of(found[2].partition("\n")[2])) == {
        *("strategy.pool_size", "optimizer", "hardware.mid_tablet.precision", "logger.name")
    }
    assert not runs.exists()


def test_the_installed_command_refuses_with_one_message_and_no_traceback(runs: Path) -> None:
    done = subprocess.run([COMMAND, f"paths.runs={runs}", "trainer.steps=0"], capture_output=True, text=True)
    refused_search((done.returncode, done.stdout, done.stderr), runs, "trainer.steps: got 0")
    assert not runs.exists()
