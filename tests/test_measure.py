"""Measuring on this machine: that figures are sound and complete. How large they are is nobody's claim."""

import fcntl
import os
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from hardware_models.latency_models.roofline import price_kind
from hardware_models.measuring import host_profile as host
from hardware_models.measuring import runner
from hardware_models.measuring.exporter import to_onnx
from hardware_models.measuring.graph import Graph
from hardware_models.measuring.host_profile import Effort, measure_host_profile
from hardware_models.measuring.measure import Measurement, ParityError, time_in_turns, time_module, time_operation
from hardware_models.measuring.random_networks import random_network, sample_operations
from hardware_models.profile import profile_from_dict, resolve_profile
from search_spaces.blocks import Add
from search_spaces.errors import InvalidInputError
from search_spaces.operation import KINDS, Operation

OPERATIONS = {
    "conv": Operation("conv", (24, 14, 14), (40, 7, 7), kernel=3, stride=2),
    "linear": Operation("linear", (64, 1, 1), (10, 1, 1)),
    "avg_pool": Operation("avg_pool", (16, 8, 8), (16, 8, 8), kernel=3),
    "max_pool": Operation("max_pool", (16, 8, 8), (16, 4, 4), kernel=2, stride=2),
    "global_pool": Operation("global_pool", (16, 8, 8), (16, 1, 1)),
    "add": Operation("add", (16, 8, 8), (16, 8, 8)),
    "scale": Operation("scale", (16, 8, 8), (16, 8, 8)),
    "batch_norm": Operation("batch_norm", (16, 14, 14), (16, 14, 14)),
}
QUICK = Effort(operations_per_kind=1, fit_networks=6, held_out_networks=9, repeats=2)


def check(measurement: Measurement, repeats: int) -> None:
    assert 0 < measurement.min_ms <= measurement.p50_ms <= measurement.p90_ms
    assert (measurement.repeats, measurement.threads, measurement.runtime) == (repeats, 1, "onnxruntime")
    assert set(measurement.versions) == {"python", "torch", "onnxruntime"}
    assert "cores" in measurement.machine


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(inplace=True))
        self.block, self.add = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)), Add()
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.add(x, self.block(x)))


def test_exports_have_copies_of_one_table_of_operators() -> None:
    first, again = (to_onnx(Network().eval(), (torch.zeros(1, 3, 16, 16),)) for _ in range(2))
    assert [node.op_type for node in first.graph.node] == [node.op_type for node in again.graph.node]
    one, other = ONNXRegistry.from_torchlib(), ONNXRegistry.from_torchlib()
    target, (operator, *_) = next(iter(one.functions.items()))
    assert other.functions[target][0] is operator  # it was read once
    one.functions[target].clear()
    assert other.functions[target]


def test_module_is_timed_and_its_export_computes_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    check(time_module(Network(), (3, 16, 16), repeats=5), 5)
    assert capfd.readouterr() == ("", "")  # the exporter is silent


def test_export_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.onnx.export

    def wrong(module: nn.Linear, *args: Any, **kwargs: Any) -> Any:
        other = nn.Linear(module.in_features, module.out_features)
        return right(other, *args, **kwargs)

    monkeypatch.setattr(torch.onnx, "export", wrong)
    with pytest.raises(ParityError, match="Linear: onnxruntime's output differs from torch's"):
        time_module(nn.Linear(4, 3), (2, 2, 4), repeats=1)


def test_every_kind_of_operation_has_an_example() -> None:
    assert set(OPERATIONS) == {name for name, kind in KINDS.items() if kind.build_node is not None}


@pytest.mark.parametrize("kind", OPERATIONS)
def test_operation_is_timed(kind: str) -> None:
    check(time_operation(OPERATIONS[kind], repeats=3), 3)


def test_operation_time_leaves_out_the_marks_around_it() -> None:
    events = [
        {"name": name if name == "model_run" else f"{name}_kernel_time", "dur": dur}
        for name, dur in [
            *(
                ("before0_nchwc", 5),
                ("ReorderOutput", 2),
                ("node1", 30),
                ("after_nchwc", 7),
                ("ReorderOutput", 4),
                ("model_run", 60),
            ),
            *(("before0_nchwc", 5), ("node1", 20), ("after_nchwc", 7), ("model_run", 50)),
        ]
    ]
    assert list(runner.kernel_ms(events)) == [0.032, 0.02]


@pytest.mark.parametrize("kind", OPERATIONS)
def test_graph_gives_the_operation_its_output_shape(kind: str) -> None:
    operation, graph = OPERATIONS[kind], Graph()
    inputs = [graph.input(1, *operation.in_shape)]
    if kind in ("add", "scale"):
        inputs.append(graph.input(1, operation.in_shape[0], *((1, 1) if kind == "scale" else operation.in_shape[1:])))
    graph.add(operation, *inputs)
    model = graph.model()
    output = onnxruntime.InferenceSession(model.SerializeToString()).run(None, graph.feed())[0]
    assert output.size == operation.out_elements
    assert np.isfinite(output).all()


def test_operation_whose_shapes_do_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no symmetric padding"):
        time_operation(Operation("conv", (8, 8, 8), (8, 5, 5), kernel=3), repeats=1)


def test_graphs_are_timed_in_turns() -> None:
    graphs = []
    for channels in (4, 8):
        graph = Graph()
        graph.add(Operation("conv", (3, 8, 8), (channels, 8, 8)), graph.input(1, 3, 8, 8), activation="Relu")
        graphs.append(graph)
    for measurement in time_in_turns([graph.model() for graph in graphs], repeats=4):
        check(measurement, 4)


def test_random_networks_run_and_their_multiply_adds_are_those_of_their_graph() -> None:
    for index in range(3):
        network = random_network(Random(index), index)
        model = network.graph.model()
        sizes = {
            weight.name: np.prod(weight.dims) for weight in model.graph.initializer if not weight.name.endswith("axes")
        }
        assert sum(operation.params for operation in network.operations) == sum(sizes.values())
        output = onnxruntime.InferenceSession(model.SerializeToString()).run(None, network.graph.feed())[0]
        assert output.size == network.operations[-1].out_elements
        assert np.isfinite(output).all()


def test_sampled_operations_are_distinct_and_cover_every_kind_of_the_networks() -> None:
    operations = sample_operations(Random(0), 4)
    kinds = [price_kind(operation) for operation in operations]
    assert len(set(operations)) == len(operations)
    assert {"pointwise", "dense", "depthwise", "linear", "pool", "elementwise"} == set(kinds)
    assert max(kinds.count(kind) for kind in kinds) <= 4


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("cache")
    return measure_host_profile(threads=1, cache_dir=folder, effort=QUICK, progress=lambda line: None), folder


def test_host_profile_is_valid_and_says_what_it_is_worth(measured: tuple[dict, Path]) -> None:
    profile = profile_from_dict("host", measured[0])
    assert profile.error.n == 9
    assert profile.bound is not None
    assert profile.bound.n == 9
    for name in ("conv", "linear", "avg_pool", "add"):
        assert profile.price(OPERATIONS[name])["latency_ms"] > 0
    assert "onnxruntime" in str(profile.runtime_version)
    assert "cores" in profile.source


def test_two_processes_measure_this_machine_once_and_not_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_lock, measured, lock = tmp_path / "at_the_lock", tmp_path / "measured", fcntl.flock

    def measure(*arguments: Any) -> dict[str, str]:
        with measured.open("a", encoding="utf-8") as file:
            file.write("once\n")
        deadline = time.monotonic() + 60
        while not at_the_lock.exists():  # the other has come, and waits
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return {"title": "here"}

    def profile() -> dict[str, Any]:
        return measure_host_profile(threads=1, cache_dir=tmp_path / "cache", effort=QUICK, progress=lambda line: None)

    monkeypatch.setattr(host, "_measure", measure)
    first = os.fork()
    if not first:
        code = 1
        try:
            code = 0 if profile() == {"title": "here"} else 1
        finally:
            os._exit(code)
    while not measured.exists():
        time.sleep(0.01)

    def come_to(file: Any, operation: int) -> None:
        at_the_lock.touch()
        lock(file, operation)

    monkeypatch.setattr(host.fcntl, "flock", come_to)
    assert profile() == {"title": "here"}
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == 0
    assert measured.read_text(encoding="utf-8") == "once\n"


def test_host_profile_comes_back_from_its_cache_as_it_was_measured(
    measured: tuple[dict, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    profile, folder = measured
    lines: list[str] = []
    monkeypatch.setattr(host, "time_operation", None)  # measuring again would fail
    assert measure_host_profile(threads=1, cache_dir=folder, effort=QUICK, progress=lines.append) == profile
    assert sorted(path.suffix for path in folder.iterdir()) == [".lock", ".yaml"]
    assert len(lines) == 1
    assert "read from" in lines[0]


def test_cache_tells_threads_apart() -> None:
    assert host._fingerprint(1, QUICK) != host._fingerprint(2, QUICK)


def test_resolved_profile_keeps_the_budgets_of_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measured: tuple[dict, Path]
) -> None:
    shipped = yaml.safe_load(
        (Path(__file__).parents[1] / "conf" / "hardware" / "host.yaml").read_text(encoding="utf-8")
    )
    monkeypatch.setattr(host, "measure_host_profile", lambda *, threads, cache_dir: measured[0])
    profile = profile_from_dict("host", resolve_profile("host", shipped, tmp_path))
    assert profile.budgets == {key: limit for key, limit in shipped["budgets"].items() if limit is not None}
    assert profile.latency.model == "roofline"
    assert profile.title == shipped["title"]


def test_resolving_leaves_other_profiles_alone(tmp_path: Path) -> None:
    mapping = {"latency": {"model": "additive"}, "threads": 4}
    assert resolve_profile("phone", mapping, tmp_path) is mapping


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threads": None}, "hardware.host.threads: got None"),
        ({"threads": 0}, "hardware.host.threads: got 0"),
        ({"runtime": "ncnn"}, "hardware.host.runtime: got 'ncnn'; this machine is measured with onnxruntime only"),
        ({"precision": "int8"}, "hardware.host.precision: got 'int8'; this machine is measured with fp32 only"),
        ({"latency": {"model": "host", "kinds": {}}}, "hardware.host.latency: got"),
    ],
)
def test_host_that_cannot_be_measured_is_refused(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=message.replace(".", r"\.")):
        resolve_profile("host", {"threads": 1, "latency": {"model": "host"}, **change}, tmp_path)


def test_a_host_profile_that_cannot_be_kept_is_refused_before_it_is_measured(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(InvalidInputError, match=r"paths\.cache: cannot write into .*: Not a directory"):
        measure_host_profile(threads=1, cache_dir=tmp_path / "a file" / "cache", progress=pytest.fail)
