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
    EXPORT,
    HEAVY,
    MEASURE,
    PRICE,
    RETRAIN,
    SEARCH,
    App,
    Cli,
    Found,
    console,
    done,
    ends_with_examples_and_exit_codes,
    examples,
    imported_by,
    refused,
    refused_search,
)
from tiny_search import CELLS, CONF, SHORT, TINY

import trainers.cli.search
import trainers.search.identification
from trainers.runs.config import SearchConfig

COMMAND = Path(sys.executable).parent / "espalier-search"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: Path) -> Cli:
    return console(SEARCH, monkeypatch, capsys, runs.parent, f"paths.runs={runs}")


# Answers without a search


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (("--help",), ("  espalier-search debug=one_epoch", "space: darts, fbnet, mobile, module, nasbench201")),
        (("--cfg", "job"), ("seed: 0", "  latency_ms: 48", "  pool_size: 1024", "  runs: runs")),
    ],
    ids=["--help", "--cfg"],
)
def test_answers_without_a_search_import_nothing_heavy(
    arguments: tuple[str, ...], lines: tuple[str, ...], tmp_path: Path
) -> None:
    code, output, packages = imported_by("search_command", *arguments, folder=tmp_path)
    assert code == 0 and packages & {*HEAVY, "sklearn"} == set()
    assert [line for line in lines if not re.search(f"^ *{re.escape(line.strip())}", output, re.MULTILINE)] == []


def test_every_example_of_the_help_is_a_command_that_is_understood(search: Cli, runs: Path) -> None:
    assert ends_with_examples_and_exit_codes(SEARCH)
    for example in examples(SEARCH):  # all that is wrong with it is the number of steps, so that nothing runs
        refused_search(search(*example, "trainer.steps=0"), runs, "trainer.steps")


def test_every_search_of_the_readme_is_a_command_that_is_understood(
    search: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (CONF.parent / "README.md").read_text(encoding="utf-8")
    Path("hardware").mkdir()  # where the README has the user keep a profile, of what boards measure
    profile = (CONF / "hardware" / "mid_tablet.yaml").read_text(encoding="utf-8")
    profile = profile.replace("hardware.mid_tablet", "hardware.my_pi").replace("runtime: ncnn", "runtime: onnxruntime")
    Path("hardware/my_pi.yaml").write_text(profile, encoding="utf-8")
    searched: list[SearchConfig] = []

    def accept(config: SearchConfig, report: Any, *, command: str) -> Found:
        searched.append(config)
        return Found()

    # The data are not here.
    monkeypatch.setattr(trainers.search.identification, "identified", lambda config, known, report: config)
    monkeypatch.setattr(trainers.cli.search, "run_identified", accept)  # all checks of the configuration come before it
    for example in re.findall(r"^(?:.*&& )?(?:\S*/)?espalier-search(.*)$", text, re.MULTILINE):
        arguments = shlex.split(example, comments=True)
        if {"--help", "--cfg"} & set(arguments) or "plugins=" in example:
            continue  # they print, and are tested above; or need a module, and are tested with one
        code, _, errors = search(*(a for a in arguments if not re.match(r"hydra[./]launcher", a)))
        assert code == 0, f"{example}\n{errors}"
    assert len(searched) > 15  # sweeps are several
    assert "my_pi" in {board for config in searched for board in config.boards}


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
@pytest.mark.parametrize("app", [MEASURE, CALIBRATE, PRICE, EXPORT, RETRAIN], ids=lambda app: app.name)
def test_a_sweep_of_measurements_is_refused_with_a_command_that_does_it_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, app: App, flag: str
) -> None:
    command = console(app, monkeypatch, capsys, tmp_path)
    found = command(flag, "threads=1,2")
    refused(found, app.name, "--multirun")
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
        (folder / "hardware" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return "--config-dir", str(folder), f"hardware=[{','.join(headers)}]"


@pytest.mark.parametrize("header", ["", "# @package _global_\n", "# @package hardware.another\n"])
def test_a_profile_whose_first_line_does_not_name_its_device_is_refused_with_the_line_that_does(
    search: Cli, runs: Path, tmp_path: Path, header: str
) -> None:
    found = search(*own_profiles(tmp_path, another="# @package hardware.another\n", mine=header))
    refused_search(found, runs)
    assert "mine.yaml" in found[2] and "`# @package hardware.mine`" in found[2] and "another.yaml" not in found[2]


def test_a_profile_that_the_command_places_itself_is_taken(search: Cli, runs: Path, tmp_path: Path) -> None:
    second = "+hardware@hardware.second=mid_tablet"
    found = search(*own_profiles(tmp_path, a="# @package hardware.a\n"), second, "trainer.steps=0")
    refused_search(found, runs, "trainer.steps")


@pytest.mark.parametrize(
    "wrong",
    [
        {  # values that no part has to be asked for
            **{
                "trainer.steps": "many",
                "trainer.clip_norm": "nan",
                "seed": "-1",
                "hardware": "[]",
                "paths.cache": "''",
            },
            **{"optimizer": "{_target_:os.system}", "logger": "{name:3}", "tags": "[a,7]"},
        },
        {  # arguments of parts
            **{"optimizer.lr": "fast", "space.kernels": "[2,4]", "data.limit": "0", "logger.name": "nobody"},
            **{"+strategy.temperature": "1", "hardware.mid_tablet.threads": "fast"},
        },
        {
            **{"space.resolutions": "[32.5]", "+data.crop": "1", "strategy.pool_size": "4"},
            **{"hardware.mid_tablet.latency.weight_gb_per_s": "0", "+hardware.iot_terminal.budgets.latency": "5"},
        },
        {"hardware.mid_tablet.budgets.gflops": "-1"},
        {"hardware.mid_tablet.budgets": "{latency_ms:null,gflops:null}"},
        {"boards": "{nobody:{host:h}}"},
        {"trainer.batch_size": "5000"},  # of which there are not as many images
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_values_are_refused_by_their_keys_together_before_anything_runs(
    search: Cli, runs: Path, wrong: dict[str, str]
) -> None:
    found = search(*TINY, *(f"{key}={value}" for key, value in wrong.items()))
    fields = refused_search(found, runs)
    for key in wrong:
        assert any(field.startswith(key.lstrip("+")) for field in fields), found[2]
    assert len(fields) == len(wrong)


@pytest.mark.parametrize("argument", ["space.width=4.5", "space.num_cells=0", "space.width=true"])
def test_a_wrong_size_of_the_cell_space_is_refused(search: Cli, runs: Path, argument: str) -> None:
    refused_search(search(*CELLS, *SHORT, argument), runs, argument.partition("=")[0])


def test_a_device_that_cannot_price_the_space_is_refused_with_the_operation(search: Cli, runs: Path) -> None:
    found = search(*TINY, "hardware=[nb201_pixel3]")
    refused_search(found, runs, "hardware.nb201_pixel3.latency")
    assert "conv 48x16x16 -> 48x8x8 k3 s2 g48" in found[2]


def test_the_installed_command_refuses_with_one_message_and_no_traceback(runs: Path) -> None:
    ended = subprocess.run([COMMAND, f"paths.runs={runs}", "trainer.steps=0"], capture_output=True, text=True)
    refused_search((ended.returncode, ended.stdout, ended.stderr), runs, "trainer.steps")
    assert not runs.exists()
