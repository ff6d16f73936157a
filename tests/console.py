"""Console scripts in tests: run in this process, in an empty folder, and what their help promises."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from search_spaces.errors import keys_of
from trainers.cli.calibrate_command import CALIBRATE
from trainers.cli.command import App
from trainers.cli.compare import COMPARE
from trainers.cli.derive_command import DERIVE
from trainers.cli.export_command import EXPORT
from trainers.cli.main import run_command
from trainers.cli.measure_command import MEASURE
from trainers.cli.price_command import PRICE
from trainers.cli.retrain_command import RETRAIN
from trainers.cli.search_command import SEARCH
from trainers.cli.tune import TUNE

__all__ = ["CALIBRATE", "COMPARE", "DERIVE", "EXPORT", "MEASURE", "PRICE", "RETRAIN", "SEARCH", "TUNE"]
CONF = Path(__file__).resolve().parents[1] / "conf"
Result = tuple[int, str, str]  # exit code, output, errors
Cli = Callable[..., Result]
LEFT_BY_A_REFUSAL = {".lock", "status.json", "config.yaml", "run.log", "report.html"}  # of a search that began
HEAVY = {"torch", "pytorch_lightning", "scipy", "numpy", "pandas", "matplotlib", "onnxruntime", "nni", "wandb"}


@dataclass(frozen=True)
class Found:
    """What a search comes to that a test makes up."""

    status: str = "done"
    objective: Mapping[str, float] = field(default_factory=lambda: {"validation_accuracy": 0.5, "utilisation": 0.5})


def console(
    app: App, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, *always: str
) -> Cli:
    """Runs the script with these arguments in the new empty folder `folder`/here; another app may be asked for."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as the console script does
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")

    def call(*arguments: str, app: App = app) -> Result:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [app.name, *always, *arguments])
        code = run_command(app)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def done(result: Result) -> str:
    """The output of a command that had nothing to complain of."""
    code, output, errors = result
    assert (code, errors) == (0, "")
    return output


def refused(result: Result, name: str, *words: str, code: int = 2) -> tuple[str, ...]:
    """The keys that one message of the script `name` is about; it says these words. Its exit code is `code`."""
    got, _, errors = result
    assert got == code, errors
    assert errors.startswith(f"{name}: ")
    assert errors.count(f"{name}: ") == 1
    assert "Traceback" not in errors
    assert [word for word in words if word not in errors] == [], errors
    return keys_of(errors.removeprefix(f"{name}: "))


def refused_search(result: Result, runs: Path, *words: str) -> tuple[str, ...]:
    """The keys that a search is refused for with these words; it leaves no result in the folder of its runs."""
    keys = refused(result, "espalier-search", *words)
    assert {path.name for path in runs.rglob("*") if path.is_file()} <= LEFT_BY_A_REFUSAL
    return keys


def refused_calibration(result: Result, *words: str) -> None:
    """A calibration refused with these words, and nothing written."""
    refused(result, "espalier-calibrate", *words)
    assert [path for path in Path.cwd().rglob("*") if path.suffix in (".yaml", ".png", ".json")] == []


def imported_by(module: str, *arguments: str, folder: Path) -> tuple[int, str, set[str]]:
    """Exit code and output of the script whose `main` is in trainers.cli.`module`, and the packages it imported."""
    script = (
        f"import json, sys\nfrom trainers.cli.{module} import main\n"
        f"try:\n    main()\nexcept SystemExit as end:\n"
        "    sys.stderr.write(json.dumps([end.code or 0, sorted({m.split('.')[0] for m in sys.modules})]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, cwd=folder
    )
    code, packages = json.loads(ended.stderr.splitlines()[-1])  # after what it says is wrong
    return code, ended.stdout, set(packages)


def help_text(app: App) -> str:
    content = yaml.safe_load((CONF / f"{app.config}.yaml").read_text(encoding="utf-8"))
    return str(content["hydra"]["help"]["template"])


def spaces_in_help(app: App) -> set[str]:
    names = re.search(r"space=name\): (.*)", help_text(app))
    assert names
    return set(names[1].split(", "))


def examples(app: App) -> list[list[str]]:
    """The arguments of each example of the help."""
    lines = re.findall(rf"^\s+{app.name}(.*)$", help_text(app).partition("Examples\n")[2], re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def ends_with_examples_and_exit_codes(app: App) -> bool:
    *lines, codes = help_text(app).partition("Examples\n")[2].strip().splitlines()
    commands = [line for line in lines if line.strip().startswith(f"{app.name}")]
    return len(commands) > 3 and codes.startswith("Exit codes: 0 done, 1 ")


def complaints(result: Result) -> set[str]:
    """What a refused configuration is refused for."""
    code, _, errors = result
    assert code == 2, errors
    return {line.strip() for line in errors.splitlines()[1:]}
