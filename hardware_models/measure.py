"""Latency on the machine at hand, by onnxruntime on its CPU: of whole modules, and of single operations."""

import json
import logging
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hardware_models.counting import deployed
from search_spaces.errors import EspalierError, InvalidInputError
from search_spaces.operation import Operation, Shape

RUNTIME = "onnxruntime"
OPSET = 20
PARITY = 1e-3  # of the largest output: float32 sums in another order, through some hundred layers
_REST_OF_NETWORK_BYTES = (
    16 * 2**20
)  # touched between runs: weights and maps of the rest of a network push an operation out of cache
_MARK_CHANNELS = 3  # onnxruntime takes 3-channel input unblocked, so that nothing is reordered before the first mark


class ParityError(EspalierError):
    """The exported network computes something else than the module it came from."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Milliseconds at batch size 1 over `repeats` runs after warm-up, with what they were taken on."""

    p50_ms: float
    p90_ms: float
    min_ms: float
    repeats: int
    threads: int
    runtime: str
    versions: dict[str, str]
    machine: str


def time_module(
    module: nn.Module, shape: Shape, *, threads: int = 1, warmup: int = 5, repeats: int = 50
) -> Measurement:
    """Latency of the deployed module on an input of `shape` (channels, height, width), exported once and checked.

    Raises: ParityError if the exported network's output differs from the module's.
    """
    copy = deployed(module)
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    with _quiet():
        program = torch.onnx.export(copy, (x,), dynamo=True, external_data=False, verbose=False)
    assert program is not None
    session = _session(program.model_proto, threads)
    feed = {session.get_inputs()[0].name: x.numpy()}
    with torch.no_grad():
        expected = copy(x).numpy()
    _check_parity(expected, session.run(None, feed)[0], type(module).__name__)
    return _measurement(_run_times_ms(lambda: session.run(None, feed), warmup, repeats), threads)


def time_operation(operation: Operation, *, threads: int = 1, warmup: int = 3, repeats: int = 20) -> Measurement:
    """Latency of one operation inside a network: the kernels that it adds, without the cost of calling a session.

    It runs between two marks, so that its tensors come and go in the layout that they have in a network; layout changes
    that it forces are its own. onnxruntime's profiler gives the time of each kernel. An activation is fused into it.
    """
    graph = Graph()
    _between_marks(graph, operation)
    with tempfile.TemporaryDirectory() as folder:
        session = _session(graph.model(), threads, profile=Path(folder) / "profile")
        feed, rest_of_network = graph.feed(), np.zeros(_REST_OF_NETWORK_BYTES, dtype=np.uint8)
        for _ in range(warmup + repeats):
            rest_of_network += 1
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    return _measurement(np.array(list(_kernel_ms(events)))[warmup:], threads)


def time_graphs(
    graphs: Sequence["Graph"], *, threads: int = 1, warmup: int = 5, repeats: int = 40
) -> list[Measurement]:
    """Latency of each graph, taken in turns, so that a disturbance of the machine falls on all of them alike."""
    calls: list[Callable[[], object]] = []
    for graph in graphs:
        session, feed = _session(graph.model(), threads), graph.feed()
        calls.append(lambda session=session, feed=feed: session.run(None, feed))  # type: ignore[misc]
    rounds = [[_run_times_ms(call, warmup if i == 0 else 1, 1)[0] for call in calls] for i in range(repeats)]
    return [_measurement(np.array(times), threads) for times in zip(*rounds, strict=True)]


@cache
def machine_description() -> str:
    """CPU, cores, clock governor where the system tells it, and operating system, in one line."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    cores = f"{os.cpu_count()} cores"
    clock = f"governor {governor.read_text().strip()}" if governor.is_file() else "governor not readable"
    return f"{_cpu_model()}, {cores}, {clock}, {platform.system()} {platform.machine()}"


def versions() -> dict[str, str]:
    """Versions of what a measurement ran on."""
    return {"python": platform.python_version(), "torch": torch.__version__, RUNTIME: onnxruntime.__version__}


class Graph:
    """An ONNX graph under construction, operation by operation, with random weights. Tensors are known by name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[TensorProto] = []
        self._inputs: dict[str, tuple[int, ...]] = {}
        self._random = np.random.default_rng(0)
        self._last = ""

    def input(self, *shape: int) -> str:
        """A new input of the graph."""
        name = f"input{len(self._inputs)}"
        self._inputs[name] = shape
        return name

    def add(self, operation: Operation, *inputs: str, activation: str = "", name: str = "") -> str:
        """Appends `operation`, then `activation` if named; `add` and `scale` take two inputs. Returns the output."""
        name = name or f"node{len(self._nodes)}"
        match operation.kind:
            case "conv":
                attributes = {"kernel_shape": [operation.kernel] * 2, "group": operation.groups}
                output = self._node(
                    "Conv", name, [*inputs, *self._parameters(name, operation)], **attributes, **_window(operation)
                )
            case "linear":
                flat = self._node("Flatten", f"{name}_flat", list(inputs))
                output = self._node("Gemm", name, [flat, *self._parameters(name, operation)], transB=1)
            case "avg_pool" | "max_pool":
                kind = "AveragePool" if operation.kind == "avg_pool" else "MaxPool"
                output = self._node(kind, name, list(inputs), kernel_shape=[operation.kernel] * 2, **_window(operation))
            case "global_pool":  # as the exporter writes it
                axes = self._weight(f"{name}_axes", np.array([2, 3], dtype=np.int64))
                output = self._node("ReduceMean", name, [*inputs, axes], keepdims=1)
            case "batch_norm":
                channels = np.ones(operation.in_shape[0], dtype=np.float32)
                statistics = [
                    self._weight(f"{name}_{part}", channels) for part in ("scale", "bias", "mean", "variance")
                ]
                output = self._node("BatchNormalization", name, [*inputs, *statistics])
            case kind:
                output = self._node({"add": "Add", "scale": "Mul"}[kind], name, list(inputs))
        return self.activate(output, activation) if activation else output

    def activate(self, tensor: str, activation: str) -> str:
        """Appends an ONNX activation of `tensor`. Returns its output."""
        return self._node(activation, f"{tensor}_act{len(self._nodes)}", [tensor])

    def model(self) -> onnx.ModelProto:
        """The graph whose output is that of the node added last."""
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in self._inputs.items()]
        output = helper.make_tensor_value_info(self._last, TensorProto.FLOAT, None)
        graph = helper.make_graph(self._nodes, "network", inputs, [output], self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)

    def feed(self) -> dict[str, np.ndarray]:
        """Random values for the inputs."""
        return {name: self._random.standard_normal(shape, dtype=np.float32) for name, shape in self._inputs.items()}

    def _node(self, kind: str, name: str, inputs: list[str], **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self._last = name
        return name

    def _parameters(self, name: str, operation: Operation) -> list[str]:
        fan_in = operation.in_shape[0] // operation.groups * operation.kernel**2
        window = (operation.kernel,) * 2 if operation.kind == "conv" else ()
        size = (operation.out_shape[0], operation.in_shape[0] // operation.groups, *window)
        # He's variance keeps the values of deep chains normal: denormal numbers would slow every kernel down.
        weight = self._random.standard_normal(size, dtype=np.float32) * np.float32((2 / fan_in) ** 0.5)
        names = [self._weight(f"{name}_weight", weight)]
        if operation.bias:
            names.append(self._weight(f"{name}_bias", np.zeros(operation.out_shape[0], dtype=np.float32)))
        return names

    def _weight(self, name: str, values: np.ndarray) -> str:
        self._weights.append(numpy_helper.from_array(values, name))
        return name


def _window(operation: Operation) -> dict[str, list[int]]:
    """Strides and the smallest symmetric padding that give the operation its output size."""
    _, height, width = operation.in_shape
    for pad in range(operation.kernel // 2 + 1):
        sides = tuple((side + 2 * pad - operation.kernel) // operation.stride + 1 for side in (height, width))
        if sides == operation.out_shape[1:]:
            return {"strides": [operation.stride] * 2, "pads": [pad] * 4}
    raise InvalidInputError(f"no symmetric padding up to half the kernel gives the output size of {operation}")


def _between_marks(graph: Graph, operation: Operation) -> None:
    channels, height, width = operation.in_shape

    def before() -> str:
        mark = Operation("conv", (_MARK_CHANNELS, height, width), operation.in_shape)
        return graph.add(
            mark, graph.input(1, _MARK_CHANNELS, height, width), activation="Relu", name=f"before{len(graph.feed())}"
        )

    match operation.kind:
        case "linear":
            graph.add(operation, graph.input(1, *operation.in_shape))
            return
        case "add":
            output = graph.add(operation, before(), before())
        case "scale":  # its tensor is unblocked: the global pool before it had it reordered
            output = graph.add(operation, graph.input(1, *operation.in_shape), graph.input(1, channels, 1, 1))
        case "conv" if channels <= _MARK_CHANNELS:
            output = graph.add(operation, graph.input(1, *operation.in_shape), activation="Relu")
        case "conv":
            output = graph.add(operation, before(), activation="Relu")
        case _:
            output = graph.add(operation, before())
    graph.add(Operation("conv", operation.out_shape, (16, *operation.out_shape[1:])), output, name="after")


def _kernel_ms(events: list[dict[str, Any]]) -> Iterator[float]:
    """Time of the kernels between the marks, run by run; the profiler closes each run with an event of its own."""
    total_us, is_after = 0.0, False
    for event in events:
        if event["name"] == "model_run":
            yield total_us / 1e3
            total_us, is_after = 0.0, False
        elif event["name"].endswith("_kernel_time"):
            is_after = is_after or event["name"].startswith("after")
            if event["name"].startswith("before"):
                total_us = 0.0
            elif not is_after:
                total_us += event["dur"]


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown CPU"


def _session(model: onnx.ModelProto, threads: int, *, profile: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Idle threads of one session would otherwise spin on the cores while the next session is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run_times_ms(call: Callable[[], object], warmup: int, repeats: int) -> np.ndarray:
    for _ in range(warmup):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return np.array(times)


def _measurement(times_ms: np.ndarray, threads: int) -> Measurement:
    p50, p90 = np.percentile(times_ms, [50, 90])
    return Measurement(
        float(p50),
        float(p90),
        float(times_ms.min()),
        len(times_ms),
        threads,
        RUNTIME,
        versions(),
        machine_description(),
    )


def _check_parity(expected: np.ndarray, got: np.ndarray, name: str) -> None:
    difference = float(np.abs(expected - got).max()) if expected.shape == got.shape else float("inf")
    allowed = PARITY * float(np.abs(expected).max())
    if not difference <= allowed:
        raise ParityError(
            f"{name}: onnxruntime's output differs from torch's by {difference:g}, allowed is {allowed:g}; "
            "the exporter changed the network: do not trust its latency, look for an operator that it handles wrongly"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence of the exporter, which prints, warns and logs about itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
