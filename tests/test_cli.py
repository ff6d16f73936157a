"""`espalier-search`: each wrong input one clear error and nothing half-written, each end its exit code."""

import gzip
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from tiny_search import CELLS, CONF, MOBILE, SHORT, tiny_config

import trainers.certificate
import trainers.search
from hardware_models.counting import Recount, recount
from trainers import cli
from trainers.config import SearchConfig

COMMAND = Path(sys.executable).parent / "espalier-search"
TINY = (*MOBILE, *SHORT, "strategy.pool_size=32")
LEFT_BY_A_REFUSAL = {".lock", "status.json", "config.yaml", "run.log", "report.html"}  # of a search that began
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: Path) -> Cli:
    """Runs the command in this process, in an empty folder: exit code, output and errors."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as the console script does
    (runs.parent / "here").mkdir()
    monkeypatch.chdir(runs.parent / "here")

    def call(*arguments: str) -> tuple[int, str, str]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["espalier-search", f"paths.runs={runs}", *arguments])
        code = cli._guarded(cli.SEARCH)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def refused(result: tuple[int, str, str], runs: Path, *words: str) -> None:
    """One message that says these words, exit code 2, and no result."""
    code, _, errors = result
    assert code == 2, errors
    assert errors.startswith("espalier-search: ")
    assert errors.count("espalier-search: ") == 1
    assert "Traceback" not in errors
    assert [word for word in words if word not in errors] == [], errors
    assert {path.name for path in runs.rglob("*") if path.is_file()} <= LEFT_BY_A_REFUSAL


# Answers without a search


def imported_by(*arguments: str) -> tuple[int, str, set[str]]:
    """Exit code and output of the command, and the packages that it imported."""
    script = (
        "import json, sys\n"
        "from trainers.cli import search\n"
        "try:\n    search()\n"
        "except SystemExit as end:\n"
        "    sys.stderr.write(json.dumps([end.code or 0, sorted({m.split('.')[0] for m in sys.modules})]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    code, packages = json.loads(done.stderr)
    return code, done.stdout, set(packages)


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_answers_without_a_search_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code, output, packages = imported_by(*arguments)
    assert code == 0
    assert output
    assert packages & {"torch", "pytorch_lightning", "scipy", "numpy", "onnxruntime", "nni", "sklearn"} == set()


def test_help_of_the_installed_command_ends_with_examples_and_exit_codes() -> None:
    done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    *_, examples = done.stdout.partition("Examples\n")
    lines = examples.strip().splitlines()
    assert all(line.strip().startswith("espalier-search") for line in lines[:-1])
    assert len(lines) > 3
    assert lines[-1].startswith("Exit codes: 0 done, 1 error, 2 ")


def test_cfg_job_prints_every_value_of_the_configuration() -> None:
    _, output, _ = imported_by("--cfg", "job")
    for line in ("seed: 0", "  latency_ms: 48", "  steps: ", "  pool_size: 1024", "  runs: runs"):
        assert re.search(rf"^ *{line.strip()}", output, re.MULTILINE), line


def test_every_example_of_the_help_is_a_command_that_is_understood(search: Cli, runs: Path) -> None:
    _, output, _ = imported_by("--help")
    examples = re.findall(r"^\s+espalier-search(.*)$", output.partition("Examples\n")[2], re.MULTILINE)
    assert examples
    for example in examples:
        # All that is wrong with it is the number of steps, so that nothing runs.
        code, _, errors = search(*shlex.split(example), "trainer.steps=0")
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

    def accept(config: SearchConfig, report: Any, *, command: str) -> dict[str, str]:
        searched.append(config)
        return {"status": "done"}

    monkeypatch.setattr(trainers.search, "run_search", accept)  # the checks of the whole configuration come before it
    for example in examples:
        arguments = shlex.split(example, comments=True)
        if {"--help", "--cfg"} & set(arguments):
            continue  # they print, and are tested above
        here = [a for a in arguments if not re.match(r"hydra[./]launcher", a)]  # other processes would search
        code, _, errors = search(*here)
        assert code == 0, f"{example}\n{errors}"
    assert len(searched) > len(examples)  # sweeps are several
    assert "my_pi" in {board for config in searched for board in config.boards}


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
    words = "b.yaml puts its profile at hardware.a; its first line must be `# @package hardware.b`"
    found = search(*own_profiles(tmp_path, a=first_line, b=first_line))
    refused(found, runs, words)
    assert "a.yaml" not in found[2]


@pytest.mark.parametrize(("header", "place"), [("", "hardware"), ("# @package _global_\n", "the top")])
def test_a_profile_that_names_no_device_in_its_first_line_is_refused_with_that_line(
    search: Cli, runs: Path, tmp_path: Path, header: str, place: str
) -> None:
    found = search(*own_profiles(tmp_path, mine=header))
    refused(found, runs, f"mine.yaml puts its profile at {place}; its first line must be `# @package hardware.mine`")
    assert "dictionary" not in found[2]


def test_a_profile_that_the_command_places_itself_is_taken(search: Cli, tmp_path: Path) -> None:
    second = "+hardware@hardware.second=mid_tablet"
    code, _, errors = search(*own_profiles(tmp_path, a="# @package hardware.a\n"), second, "trainer.steps=0")
    assert code == 2
    assert "first line" not in errors


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("trainer.stepz=3", ("trainer.stepz",)),
        ("+trainer.stepz=3", ("trainer.stepz",)),
        ("nonsense=1", ("nonsense",)),
        ("trainer.steps", ("trainer.steps",)),
        ("trainer.steps=[", ("no viable alternative", "'['")),
        ("space=resnet", ("space/resnet", "mobile", "nasbench201")),
        ("strategy=darts9", ("strategy/darts9", "pool")),
        ("hardware=[pixel99]", ("hardware/pixel99",)),
        ("hardware=[]", ("hardware",)),
        ("hardware.pixel99.budgets.gflops=1", ("hardware.pixel99: no such key", "mid_tablet")),
        ("trainer.steps=many", ("trainer.steps", "'many'")),
        ("trainer.steps=0", ("trainer.steps", "got 0")),
        ("trainer.clip_norm=nan", ("trainer.clip_norm", "got nan")),
        ("trainer.batch_size=5000", ("trainer.batch_size", "5000", "data.limit")),
        ("seed=-1", ("seed", "-1")),
        ("optimizer._target_=torch.optim.Nonesuch", ("optimizer._target_", "Nonesuch")),
        ("optimizer.lr=-1", ("optimizer", "-1")),
        ("optimizer.lr=fast", ("optimizer", "fast")),
        ("+optimizer.speed=1", ("optimizer", "speed")),
        ("arch_optimizer.betas=[2,3]", ("arch_optimizer", "beta")),
        ("+strategy.temperature=1", ("strategy", "temperature", "pool_size")),
        ("strategy.name=gdas9", ("strategy.name", "gdas9", "penalty")),
        ("strategy.pool_size=4", ("strategy.pool_size", "4")),
        ("strategy.pool_size=many", ("strategy", "many")),
        ("strategy.pool_size=32.5", ("strategy", "32.5")),
        ("strategy.pool_size=nan", ("strategy", "nan")),
        ("space.kernels=[2,4]", ("space.kernels", "odd", "[2, 4]")),
        ("space.kernels=[3.5]", ("space.kernels", "3.5")),
        ("space.kernels=[5,3]", ("space.kernels", "[5, 3]")),
        ("space.widths=[]", ("space.widths",)),
        ("space.widths=[[],[16],[16],[24],[24]]", ("space.widths[0]", "[]")),
        ("space.widths=[[8],[16],[16],[24],[24.5]]", ("space.widths[4]", "24.5")),
        ("space.widths=24", ("space", "24")),
        ("space.depths=[0]", ("space.depths", "[0]")),
        ("space.depths=[a]", ("space.depths", "a")),
        ("space.depths=[1.5]", ("space.depths", "1.5")),
        ("space.expansions=[nan]", ("space.expansions", "nan")),
        ("space.resolutions=[32.5]", ("space.resolutions", "32.5")),
        ("space.squeeze_excite=[maybe]", ("space.squeeze_excite", "maybe")),
        ("space.depths=[true]", ("space.depths", "True")),
        ("+space.heads=4", ("space", "heads", "kernels")),
        ("space.name=resnet", ("space.name", "resnet")),
        ("data.name=imagenet", ("data.name", "imagenet", "digits")),
        ("data.image_size=[16]", ("data.image_size",)),
        ("data.limit=0", ("data.limit", "got 0")),
        ("data.shift=9", ("data", "shift", "9")),
        ("data.shares.weights=0.9", ("data.shares", "1.4")),
        ("+data.crop=1", ("data.crop",)),
        ("hardware.mid_tablet.threads=fast", ("hardware.mid_tablet.threads", "fast")),
        ("hardware.mid_tablet.precision=fp8", ("hardware.mid_tablet.precision", "fp8", "int8")),
        (
            "hardware.mid_tablet.latency.model=magic",
            ("hardware.mid_tablet.latency.model: got 'magic'", "roofline, additive, table"),
        ),
        ("hardware.mid_tablet.latency.weight_gb_per_s=0", ("hardware.mid_tablet.latency.weight_gb_per_s",)),
        ("hardware.mid_tablet.budgets=null", ("hardware.mid_tablet.budgets",)),
        ("hardware.mid_tablet.budgets.latency=5", ("hardware.mid_tablet.budgets.latency",)),
        ("+hardware.mid_tablet.budgets.latency=5", ("hardware.mid_tablet.budgets.latency", "latency_ms", "gflops")),
        *(
            (
                f"hardware.mid_tablet.budgets.{metric}={value}",
                (f"hardware.mid_tablet.budgets.{metric}", "greater than 0"),
            )
            for metric, value in (
                ("latency_ms", 0),
                ("latency_ms", -1),
                ("latency_ms", "nan"),
                ("gflops", "inf"),
                ("gflops", "fast"),
                ("params_m", "true"),
                ("peak_memory_mb", "[1]"),
            )
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_value_is_refused_by_name_before_anything_runs(
    search: Cli, runs: Path, argument: str, words: tuple[str, ...]
) -> None:
    refused(search(*TINY, argument), runs, *words)


@pytest.mark.parametrize(
    "argument", ["space.width=4.5", "space.num_cells=0", "space.image_size=big", "space.width=true"]
)
def test_a_wrong_size_of_the_cell_space_is_refused(search: Cli, runs: Path, argument: str) -> None:
    refused(search(*CELLS, *SHORT, argument), runs, argument.partition("=")[0])


def test_a_device_without_any_budget_is_refused(search: Cli, runs: Path) -> None:
    nothing = [f"hardware.mid_tablet.budgets.{metric}=null" for metric in ("latency_ms", "gflops")]
    refused(search(*TINY, *nothing), runs, "hardware.mid_tablet.budgets", "need one")


def test_a_device_that_cannot_price_the_space_is_refused(search: Cli, runs: Path) -> None:
    found = search(*TINY, "hardware=[nb201_pixel3]")
    refused(found, runs, "nb201_pixel3", "hardware.nb201_pixel3.latency", ": conv 48x16x16 -> 48x8x8 k3 s2 g48; ")
    assert "Operation(" not in found[2]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("hardware.mid_tablet.latency.model=tabel", "latency.model: got 'tabel'; allowed: roofline, additive, table"),
        ("~hardware.mid_tablet.latency.model", "latency.model: missing; give it a value"),
    ],
)
def test_a_wrong_latency_model_is_told_without_all_that_stands_beside_it(
    search: Cli, runs: Path, argument: str, message: str
) -> None:
    found = search(*TINY, argument)
    refused(found, runs, f"  hardware.mid_tablet.{message}\n")
    assert "throughput_gops" not in found[2]


@pytest.mark.parametrize(("kind", "message"), [("wire", "got 'wire'; allowed: bus, network"), ("null", "got 'None'")])
def test_a_wrong_kind_of_link_is_told_with_those_there_are(search: Cli, runs: Path, kind: str, message: str) -> None:
    link = "hardware.split_phone_server.links.wireless"
    found = search(*TINY, "hardware=[split_phone_server]", f"{link}.kind={kind}")
    refused(found, runs, f"{link}.kind: {message}")


def test_wrong_values_are_named_together(search: Cli, runs: Path) -> None:
    refused(search(*TINY, "seed=-1", "trainer.steps=0", "paths.cache=''"), runs, "seed", "trainer.steps", "paths.cache")


def test_what_is_wrong_with_several_parts_is_told_at_once(search: Cli, runs: Path) -> None:
    wrong = ("strategy.pool_size=4", "optimizer.lr=-1", "space.depths=[1.5]", "hardware.mid_tablet.precision=fp8")
    found = search(*TINY, *wrong, "data.shift=9", "hardware.iot_terminal.threads=fast")
    keys = ("strategy.pool_size: got 4", "optimizer: got", "space.depths[0]: got 1.5", "hardware.mid_tablet.precision")
    keys = (*keys, "data: shift must be below half", "hardware.iot_terminal.threads")
    refused(found, runs, *keys)
    assert not runs.exists()
    types = ("trainer.steps=0", "seed=-1", "logger.name=nobody")
    found = search(*TINY, *wrong, "data.shift=9", "hardware.iot_terminal.threads=fast", *types)
    keys = (*keys, "trainer.steps: got 0", "seed: got -1", "logger.name: got 'nobody'")
    refused(found, runs, *(key for key in keys if not key.startswith("data: ")), "data")
    assert found[2].count("the configuration cannot be used") == 1
    assert not runs.exists()


def test_the_installed_command_refuses_with_one_message_and_no_traceback(runs: Path) -> None:
    done = subprocess.run([COMMAND, f"paths.runs={runs}", "trainer.steps=0"], capture_output=True, text=True)
    refused((done.returncode, done.stdout, done.stderr), runs, "trainer.steps: got 0")
    assert not runs.exists()


# Data


def write_idx(folder: Path, *, top: int = 9, cut: int = 0) -> None:
    """Fashion-MNIST's four files with 40 images each, the largest label `top`, the images cut short by `cut` bytes."""
    folder.mkdir(parents=True)
    labels = np.arange(40, dtype=np.uint8) % 10
    labels[9] = top
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            raw = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
            packed = gzip.compress(raw)
            (folder / f"{name}.gz").write_bytes(packed[: len(packed) - cut if array.ndim == 3 else None])


def test_a_data_folder_that_is_missing_is_refused(search: Cli, runs: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    refused(search(*TINY, "data=fashion_mnist", f"paths.data={missing}"), runs, str(missing), "paths.data")
    assert not runs.exists()


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "image_folder"])
def test_an_empty_data_folder_is_refused(search: Cli, runs: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    refused(search(*TINY, f"data={name}", f"paths.data={tmp_path / 'data'}"), runs, str(tmp_path / "data"))
    assert not runs.exists()


def test_a_truncated_data_file_is_refused(search: Cli, runs: Path, tmp_path: Path) -> None:
    write_idx(tmp_path / "data", cut=100)
    found = search(*TINY, "data=fashion_mnist", f"paths.data={tmp_path / 'data'}")
    refused(found, runs, "train-images-idx3-ubyte.gz cannot be read whole")
    assert not runs.exists()


def test_labels_out_of_range_are_refused(search: Cli, runs: Path, tmp_path: Path) -> None:
    write_idx(tmp_path / "data", top=10)
    found = search(*TINY, "data=fashion_mnist", f"paths.data={tmp_path / 'data'}")
    refused(found, runs, "labels out of range", "10", "0..9")
    assert not runs.exists()


def test_a_run_folder_that_cannot_be_written_is_refused(search: Cli, runs: Path) -> None:
    runs.write_text("a file where a folder should be")
    code, _, errors = search(*TINY)
    assert code == 2
    assert errors.startswith(f"espalier-search: cannot write the run folder {runs}")
    assert "paths.runs" in errors


# Budgets


def status_of(runs: Path) -> dict[str, Any]:
    [path] = runs.rglob("status.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_a_budget_that_no_network_meets_is_refused_with_what_is_reachable(search: Cli, runs: Path) -> None:
    found = search(*TINY, "hardware.mid_tablet.budgets.gflops=0.0009")
    refused(found, runs, "mid_tablet: gflops: the smallest network needs", "budget 0.0009")
    number = re.search(r"needs ([\d.]+) GFLOPs .*, budget 0\.0009 \(([\d.]+)x\)", found[2])
    assert number
    assert float(number[1]) / 0.0009 == pytest.approx(float(number[2]), abs=0.01)
    assert "epoch" not in found[1]
    status = status_of(runs)
    assert status["status"] == "infeasible"
    assert status["error"] in found[2]
    again = search(*TINY, "hardware.mid_tablet.budgets.gflops=0.0009")
    refused(again, runs, status["error"], "known since")
    assert status_of(runs) == status  # no other attempt


def test_budgets_out_of_reach_in_several_metrics_are_all_named(search: Cli, runs: Path) -> None:
    impossible = [
        f"hardware.iot_terminal.budgets.{metric}=1e-6" for metric in ("latency_ms", "gflops", "peak_memory_mb")
    ]
    found = search(*TINY, *impossible)
    refused(
        found, runs, "iot_terminal", "latency_ms: the smallest", "gflops: the smallest", "peak_memory_mb: the smallest"
    )


# A device on which the larger kernel is the faster one, so that its budgets pull apart.
ODD_DEVICE = (
    "{title: odd, runtime: none, threads: 1, precision: fp32, source: a test, measured: [], inferred: [],"
    " error: {method: none, n: 1, mape: 0, median_ape: 0, within_20_share: 1, spearman: 1},"
    " budgets: {latency_ms: 1.0, gflops: 0.00182},"
    " latency: {model: additive, constant_ms: 0,"
    " in_constant: [{kind: linear}, {kind: global_pool}, {kind: add}, {kind: conv, kernel: 1}],"
    " terms: [{match: {kind: conv, kernel: 3}, ms: 1.0}, {match: {kind: conv, kernel: 5}, ms: 0.1}]}}"
)


def test_budgets_reachable_alone_but_not_together_are_refused_with_the_ratio(search: Cli, runs: Path) -> None:
    device = [f"+hardware.odd={ODD_DEVICE}", "~hardware.mid_tablet", "~hardware.iot_terminal"]
    shape = ["space.depths=[1]", "hardware.odd.budgets.latency_ms=1.6"]  # 1.0 of the stem, 0.1 for each of five blocks
    found = search(*TINY, *device, *shape)
    refused(found, runs, "odd together (", "latency_ms <= 1.6", "gflops <= 0.00182", "each is reachable alone")
    ratio = re.search(r"only if every one grows ([\d.]+)x", found[2])
    assert ratio
    assert float(ratio[1]) > 1
    assert status_of(runs)["status"] == "infeasible"
    # Grown by a little more than that ratio they are met: no gflop here is, so that only the check runs.
    grown = float(ratio[1]) + 0.01
    enough = [f"hardware.odd.budgets.latency_ms={1.6 * grown}", f"hardware.odd.budgets.gflops={0.00182 * grown}"]
    code, output, errors = search(*TINY, *device, *shape, *enough, "trainer.steps=1", "trainer.candidates=1")
    assert code == 0, errors
    assert "odd: budgets met" in output
    assert " · 1 device · " in output  # "1 devices" once


# Ends


def test_a_sweep_makes_a_run_folder_each_and_the_same_command_again_says_finished(search: Cli, runs: Path) -> None:
    code, output, errors = search(*TINY, "-m", "seed=0,1", "sweep=two")
    assert code == 0, errors
    folders = sorted(path.parent for path in (runs / "two").rglob("result.json"))
    assert [re.sub(r"-\w{8}$", "", folder.name) for folder in folders] == ["mobile-pool-seed0", "mobile-pool-seed1"]
    before = {folder: (folder / "result.json").stat().st_mtime_ns for folder in folders}
    assert "finished already" not in output
    assert list(Path.cwd().iterdir()) == []
    assert list(runs.rglob("*.log")) == []
    code, output, _ = search(*TINY, "seed=1", "sweep=two")
    assert code == 0
    assert f"this search is finished already: {folders[1]}" in output
    assert {folder: (folder / "result.json").stat().st_mtime_ns for folder in folders} == before


def test_a_job_that_fails_leaves_the_others_of_its_sweep_finished(search: Cli, runs: Path) -> None:
    code, _, errors = search(*TINY, "-m", "trainer.batch_size=5000,16")
    assert code == 2
    assert "trainer.batch_size: got 5000" in errors
    assert len(list(runs.rglob("result.json"))) == 1
    assert status_of(runs)["status"] == "done"


def test_a_loss_that_is_no_number_ends_the_search_with_a_message(search: Cli, runs: Path) -> None:
    code, _, errors = search(*TINY, "optimizer.lr=1e30", "trainer.clip_norm=1e30")
    assert code == 1
    assert re.match(r"espalier-search: the weights loss is (nan|inf) at step \d+; lower optimizer\.lr", errors)
    assert "Traceback" not in errors
    status = status_of(runs)
    assert status["status"] == "failed"
    assert "loss is" in status["error"]
    assert list(runs.rglob("result.json")) == []
    assert next(runs.rglob("run.log")).read_text(encoding="utf-8").startswith("Traceback")


def test_a_budget_that_the_recount_breaks_for_every_network_ends_with_3(
    search: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dearer(module: Any, shape: Any) -> Recount:
        counted = recount(module, shape)
        return Recount(counted.gflops + 10, counted.params_m, counted.by_operator)

    monkeypatch.setattr(trainers.certificate, "recount", dearer)
    code, output, _ = search(*TINY, "trainer.max_cuts=3")
    assert code == 3
    assert "mid_tablet: budgets NOT MET (gflops)" in output
    assert "0/2 devices within budget" in output
    [path] = runs.rglob("result.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["status"] == status_of(runs)["status"] == "unmet"
    for device in result["devices"].values():
        assert not device["met"]
        assert device["refuted_by"] == "gflops"
        assert len(device["cut"]) == 2  # and the one that is shown
    code, output, _ = search(*TINY, "trainer.max_cuts=3")
    assert code == 3
    assert "finished already" in output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_search_with_its_code_and_leaves_it_interrupted(
    runs: Path, number: signal.Signals, code: int
) -> None:
    arguments = [str(COMMAND), f"paths.runs={runs}", *TINY, "trainer.steps=1000000"]
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A shell that starts jobs in the background has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not list(runs.rglob("metrics.csv")) and process.poll() is None:
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, errors
    assert f"interrupted; the same command continues:\n  {shlex.join(['espalier-search', *arguments[1:]])}\n" in errors
    assert "Traceback" not in errors
    assert status_of(runs)["status"] == "interrupted"
    assert list(runs.rglob("result.json")) == []


def test_an_interrupted_search_is_run_by_the_same_command(search: Cli, runs: Path) -> None:
    folder = tiny_config(runs, *MOBILE, "strategy.pool_size=32").run_folder
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"status": "interrupted"}))
    (folder / "metrics.csv").write_text("epoch,step\n1,3\n")
    code, output, errors = search(*TINY)
    assert code == 0, errors
    assert "finished already" not in output
    assert status_of(runs)["status"] == "done"
    assert (folder / "metrics.csv").read_text(encoding="utf-8").startswith("epoch,step,train/loss")


def test_a_signal_while_networks_are_chosen_ends_a_search_as_one_while_training_does(
    search: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(trainers.search, "derive", killed)
    monkeypatch.setattr(sys, "argv", ["espalier-search", *TINY, f"paths.runs={runs}"])
    GlobalHydra.instance().clear()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.search()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    assert "interrupted; the same command continues:\n  espalier-search " in capsys.readouterr().err
    assert status_of(runs)["status"] == "interrupted"
