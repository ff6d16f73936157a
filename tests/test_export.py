"""`espalier-export`: each file does what its record says, in a process of its own; else it is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from console import (
    EXPORT,
    HEAVY,
    Cli,
    complaints,
    console,
    done,
    ends_with_examples_and_exit_codes,
    examples,
    imported_by,
    refused,
)
from elsewhere import right_of_folder, stored_test_images
from PIL import Image
from tiny_search import CELLS, MOBILE_SPACE, tiny_config

from trainers.cli.search import run
from trainers.data.datasets import data_config, load_data
from trainers.deploy.litert_file import litert_problem
from trainers.deploy.onnx_file import score_file
from trainers.reports.verify import verify_run
from trainers.runs.config import SearchConfig
from trainers.runs.exports import Export, read_export
from trainers.runs.result import read_result

LITERT = os.environ.get("ESPALIER_LITERT")  # a Python that has litert-torch, which cannot share this environment
ONE = ("hardware=[mid_tablet]", "trainer.deploy=true", "trainer.candidates=1", "strategy.pool_size=32")
PROGRAM_ELSEWHERE = """
import json, sys
import torch
from executorch.runtime import Runtime
program = Runtime.get().load_program(sys.argv[1])
method = program.load_method("forward")
tensors, labels = torch.load(sys.argv[2])
right = [int(method.execute([x[None].contiguous()])[0].argmax()) == label for x, label in zip(tensors, labels)]
print(json.dumps([sum(right), len(right)]))
"""


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(EXPORT, monkeypatch, capsys, tmp_path)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run of one device; and its test images as files without loss, by class."""
    folder = tmp_path_factory.mktemp("exported")
    config = tiny_config(folder / "runs", *MOBILE_SPACE, *ONE, "data.limit=800", "trainer.finetune_steps=20")
    result, data = run(config, lambda line: None), load_data(data_config(config.data))
    images = stored_test_images(data, folder / "images")
    return {"run": config.run_folder, "result": result, "data": data, "images": images}


@pytest.fixture(scope="module")
def copied(searched: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(searched["run"], tmp_path_factory.mktemp("copied") / searched["run"].name))


def test_each_onnx_file_has_the_accuracy_that_is_recorded_in_a_process_of_its_own(
    export: Cli, searched: dict[str, Any], tmp_path: Path
) -> None:
    output = done(export(f"run={searched['run']}", "calibration_images=64", "repeats=3", "limits.accuracy_drop=1"))
    folder, device = searched["run"] / "export", searched["result"].devices["mid_tablet"]
    found = read_export(folder / "export.json")
    files = {file.precision: file for file in found.devices["mid_tablet"].files}
    assert found.status == "done" and list(files) == ["fp32", "int8"]
    assert files["fp32"].accuracy == device.accuracy.deployed
    assert (folder / files["fp32"].path).read_bytes() == (searched["run"] / device.file.path).read_bytes()
    assert files["fp32"].largest_difference < 1e-3 * found.devices["mid_tablet"].largest_output
    assert files["int8"].largest_difference > files["fp32"].largest_difference
    for file in files.values():
        right, count = right_of_folder(folder / file.path, searched["images"], "L")
        assert count == file.images == searched["result"].data.images.test
        assert right == round(file.accuracy * count)
        assert file.bytes == (folder / file.path).stat().st_size and file.path in output
    _int8_is_of_integers(folder / files["int8"].path, files["int8"].share)
    _the_card_runs(folder, searched, tmp_path)


def _int8_is_of_integers(path: Path, share: float) -> None:
    """No weight is stored in float beside its integers; the preprocessing is."""
    model = onnx.load(path)
    sizes = dict.fromkeys((onnx.TensorProto.FLOAT, onnx.TensorProto.INT8), 0)
    for weight in model.graph.initializer:
        sizes[weight.data_type] = sizes.get(weight.data_type, 0) + len(weight.raw_data)
    assert sizes[onnx.TensorProto.INT8] > sizes[onnx.TensorProto.FLOAT]
    quantised = [n.op_type for n in model.graph.node if n.name.startswith("preprocess/") and "uantize" in n.op_type]
    assert sorted(quantised) == ["DequantizeLinear", "QuantizeLinear"]  # of what it gives the network
    assert share < 0.75  # of a network of 20 k weights, most of whose file is the graph


def _the_card_runs(folder: Path, searched: dict[str, Any], here: Path) -> None:
    """The lines of the card give what the file gives, with onnxruntime and Pillow alone."""
    card = (folder / "mid_tablet.md").read_text(encoding="utf-8")
    snippet = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert snippet and len(snippet[1].strip().splitlines()) == 5
    shutil.copy(folder / "mid_tablet.onnx", here)
    path = next(searched["images"].glob("*/*.png"))
    Image.open(path).save(here / "photo.jpg", format="PNG")  # without loss, whatever its name says
    command = [sys.executable, "-I", "-c", snippet[1]]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=here).stdout.strip()
    session = onnx.load(here / "mid_tablet.onnx")
    classes = json.loads(next(p.value for p in session.metadata_props if p.key == "classes"))
    assert printed in classes
    for due in ("Licence", *classes, "latency_ms", searched["result"].devices["mid_tablet"].notation, "photo.jpg"):
        assert due in card


def test_a_file_that_loses_more_accuracy_than_allowed_is_written_and_ends_with_3(
    export: Cli, searched: dict[str, Any], tmp_path: Path
) -> None:
    asked = (f"run={searched['run']}", f"output={tmp_path}/out", "precisions=[int8]", "calibration_images=4")
    code, output, _ = export(*asked, "repeats=1", "limits.accuracy_drop=-1")
    found = read_export(tmp_path / "out" / "export.json")
    (file,) = found.devices["mid_tablet"].files
    assert (code, found.status, file.within_limit) == (3, "unmet", False)
    assert [line.split()[-1] for line in output.splitlines() if file.path in line] == ["NO"]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"export.json", "mid_tablet.int8.onnx", "mid_tablet.md"}


REASON = "no ExecuTorch: install espalier[executorch]"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("executorch") is None, reason=REASON)
@pytest.mark.parametrize("space", [MOBILE_SPACE, CELLS], ids=["mobile", "cells"])
def test_programs_of_executorch_give_what_the_network_in_pytorch_gives(
    export: Cli, space: tuple[str, ...], tmp_path: Path
) -> None:
    own = [override for override in space if not override.startswith("hardware")]
    config = tiny_config(tmp_path / "runs", *own, *ONE)
    run(config, lambda line: None)
    asked = ("formats=[executorch]", "calibration_images=16", "repeats=3", "limits.accuracy_drop=1")
    done(export(f"run={config.run_folder}", *asked))
    folder = config.run_folder / "export"
    network = read_export(folder / "export.json").devices["mid_tablet"]
    fp32, int8 = network.files
    assert fp32.takes == "tensor" and fp32.within_limit
    assert fp32.largest_difference < 1e-4 * network.largest_output < int8.largest_difference
    assert int8.share < 0.95  # of so small a network most is the graph
    for file in (fp32, int8):  # in a process of its own, on tensors that this one has preprocessed
        data = load_data(data_config(config.data), image_size=tuple(config_size(config)))
        tensors = [(data.preprocess(torch.from_numpy(image)), label) for image, label in data.stored("test")]
        torch.save((torch.cat([x for x, _ in tensors]), [label for _, label in tensors]), tmp_path / "tensors.pt")
        command = [sys.executable, "-c", PROGRAM_ELSEWHERE, str(folder / file.path), str(tmp_path / "tensors.pt")]
        right, count = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert (right, count) == (round(file.accuracy * count), file.images)


def config_size(config: SearchConfig) -> list[int]:
    """Height and width of the images that the network of a run takes."""
    return read_result(config.run_folder / "result.json").devices["mid_tablet"].input_size or []


@pytest.mark.slow
@pytest.mark.skipif(litert_problem(LITERT) is not None, reason="ESPALIER_LITERT names no Python that has litert-torch")
def test_files_of_litert_give_what_the_network_in_pytorch_gives(
    export: Cli, searched: dict[str, Any], tmp_path: Path
) -> None:
    asked = ("formats=[litert]", f"litert_python={LITERT}", "calibration_images=16", "repeats=3", f"output={tmp_path}")
    done(export(f"run={searched['run']}", *asked, "limits.accuracy_drop=1"))
    network = read_export(tmp_path / "export.json").devices["mid_tablet"]
    fp32, int8 = network.files
    assert fp32.takes == "tensor" and fp32.within_limit and fp32.path.endswith(".tflite")
    assert fp32.largest_difference < 1e-4 * network.largest_output < int8.largest_difference
    assert int8.share < 0.95 and int8.latency_ms > 0
    assert fp32.images == searched["result"].data.images.test


def test_a_format_that_needs_a_python_of_its_own_is_refused_without_one(export: Cli, searched: dict[str, Any]) -> None:
    for given in ((), (f"litert_python={sys.executable}",), ("litert_python=nowhere/python",)):
        found = export(f"run={searched['run']}", "formats=[litert]", *given)
        assert refused(found, "espalier-export", "litert-torch") == ("litert_python" if given else "formats",)


@pytest.mark.skipif(find_spec("executorch") is not None, reason="ExecuTorch is installed")
def test_a_format_whose_packages_are_missing_is_refused_with_how_to_install_them(
    export: Cli, searched: dict[str, Any]
) -> None:
    found = export(f"run={searched['run']}", "formats=[executorch]")
    assert refused(found, "espalier-export", "espalier[executorch]") == ("formats",)


def test_the_certificate_of_an_int8_device_states_the_accuracy_of_its_int8_file(tmp_path: Path) -> None:
    overrides = (*MOBILE_SPACE, *ONE, "hardware.mid_tablet.precision=int8")
    lines: list[str] = []
    config = tiny_config(tmp_path, *overrides)
    device = run(config, lines.append).devices["mid_tablet"]
    content = (config.run_folder / device.file.path).read_bytes()
    data = load_data(data_config(config.data), image_size=tuple(device.input_size))
    assert device.file.precision == "int8"
    assert onnx.TensorProto.INT8 in {weight.data_type for weight in onnx.load_from_string(content).graph.initializer}
    assert score_file(content, data, "test", threads=1).accuracy == device.accuracy.deployed
    assert [check.what for check in verify_run(config.run_folder) if check.outcome == "FAILED"] == []
    assert any("int8" in line and device.file.path in line for line in lines)


# Refusals


def test_a_run_whose_data_are_not_here_is_refused_before_anything_is_written(
    export: Cli, copied: Path, tmp_path: Path
) -> None:
    config, written = (copied / "config.yaml").read_text(encoding="utf-8"), {path.name for path in copied.iterdir()}
    try:
        (copied / "config.yaml").write_text(re.sub(r"name: digits", "name: fashion_mnist\n  root: nowhere", config))
        assert refused(export(f"run={copied}"), "espalier-export") == ("data_root",)
        assert written == {path.name for path in copied.iterdir()}
    finally:
        (copied / "config.yaml").write_text(config)


def test_weights_of_another_network_are_refused(export: Cli, copied: Path) -> None:
    path = copied / "weights" / "mid_tablet.safetensors"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-8])
        assert refused(export(f"run={copied}"), "espalier-export") == ("run",)
    finally:
        path.write_bytes(content)


def test_a_network_that_was_not_trained_at_its_own_size_is_refused(export: Cli, copied: Path) -> None:
    content = json.loads((copied / "result.json").read_text())
    device = content["devices"]["mid_tablet"]
    try:
        changed = device | {"file": None, "trained_size": [16, 16]}
        (copied / "result.json").write_text(json.dumps(content | {"devices": {"mid_tablet": changed}}))
        assert refused(export(f"run={copied}"), "espalier-export", "16x16", "trainer.deploy=true") == ("devices",)
    finally:
        (copied / "result.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ((), {"run"}),
        (("run=nowhere",), {"run"}),
        (("formats=[tar]", "precisions=[fp8]"), {"formats[0]", "precisions[0]"}),
        (("limits.accuracy_drop=2",), {"limits.accuracy_drop"}),
        (("run=nowhere", "precisions=[int8,int8]", "formats=[]"), {"formats"}),
    ],
)
def test_a_wrong_configuration_is_refused_by_its_keys(export: Cli, arguments: tuple[str, ...], keys: set[str]) -> None:
    assert set(refused(export(*arguments), "espalier-export")) == keys


def test_a_device_that_the_run_has_not_is_refused_with_those_it_has(export: Cli, searched: dict[str, Any]) -> None:
    found = export(f"run={searched['run']}", "devices=[pixel6]")
    assert refused(found, "espalier-export", "mid_tablet") == ("devices",)


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_answers_without_an_export_import_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    _, _, packages = imported_by("export_command", *arguments, folder=tmp_path)
    assert packages & HEAVY == set()


def test_every_example_of_the_help_is_a_command_that_is_understood(export: Cli) -> None:
    assert ends_with_examples_and_exit_codes(EXPORT)
    for arguments in examples(EXPORT):
        reported = complaints(export(*arguments, "repeats=0"))
        assert reported == {"repeats: got 0; Input should be greater than or equal to 1"}


def test_the_schema_refuses_what_no_export_writes(searched: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="devices"):
        Export.model_validate({"schema": 1, "devices": {}})
