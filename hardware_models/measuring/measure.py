"""Latency by onnxruntime, on the CPU of this machine or of another one: of whole modules, and of single operations."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from onnx import ModelProto
from torch import nn

from hardware_models.measuring import runner
from hardware_models.measuring.exporter import to_onnx
from hardware_models.measuring.graph import operation_graph
from hardware_models.measuring.runner import machine_description
from search_spaces.errors import EspalierError
from search_spaces.operation import Operation
from search_spaces.tensor_spec import Inputs, random_inputs, zero_inputs
from search_spaces.tracing import deployed

RUNTIME = "onnxruntime"
PARITY = 1e-3  # of the largest output: float32 sums in another order, through some hundred layers


def counted(count: int, noun: str) -> str:
    """The count with its noun, as 1 device or 2 devices."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


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


class Machine(ABC):
    """Where models are timed: its description, clock governor (empty where unknown), versions, and how to run there.

    `identity` tells it from all others, `load` is the share of its cores that was at work before. `versions` are those
    of Python and the runtime there and of the exporter here.
    """

    description: str
    identity: str
    governor: str
    load: float
    versions: dict[str, str]

    @abstractmethod
    def run(
        self, model: bytes, *, threads: int, warmup: int, repeats: int, feed: Mapping[str, np.ndarray]
    ) -> tuple[list[float], list[np.ndarray]]:
        """Milliseconds of each run of an ONNX model after the warm-up, and its outputs for `feed`."""

    @abstractmethod
    def run_kernels(self, model: bytes, *, threads: int, warmup: int, repeats: int) -> list[float]:
        """Milliseconds of the kernels between the marks of `operation_graph`, in each run after the warm-up."""


class ThisMachine(Machine):
    """The machine that this program runs on."""

    def __init__(self) -> None:
        self.description, self.identity = machine_description(), runner.machine_identity()
        self.governor, self.load, self.versions = runner.governor(), runner.load(), versions()

    run = staticmethod(runner.run)
    run_kernels = staticmethod(runner.run_kernels)


def time_module(
    module: nn.Module,
    inputs: Inputs,
    *,
    threads: int = 1,
    warmup: int = 5,
    repeats: int = 50,
    machine: Machine | None = None,
) -> Measurement:
    """Latency of the deployed module on such inputs, exported once and checked.

    It runs on `machine`, by default on this one.
    Raises: ParityError if the exported network's output differs from the module's.
    """
    examples, name = random_inputs(inputs, seed=0), type(module).__name__
    with torch.no_grad():
        expected = deployed(module)(*examples).numpy()
    model = export(module, inputs)
    feed = {given.name: x.numpy() for given, x in zip(model.graph.input, examples, strict=True)}
    length: dict[str, int] = {"threads": threads, "warmup": warmup, "repeats": repeats}
    return time_model(model.SerializeToString(), feed, expected, name=name, machine=machine, **length)


def time_model(
    model: bytes,
    feed: Mapping[str, np.ndarray],
    expected: np.ndarray,
    *,
    name: str,
    threads: int = 1,
    warmup: int = 5,
    repeats: int = 50,
    machine: Machine | None = None,
) -> Measurement:
    """Latency of an ONNX model on `machine`. Raises: ParityError if its output for `feed` is not as `expected`."""
    machine = machine or ThisMachine()
    times_ms, outputs = machine.run(model, threads=threads, warmup=warmup, repeats=repeats, feed=feed)
    _check_parity(expected, outputs[0], name)
    return _measurement(times_ms, threads, machine)


def export(module: nn.Module, inputs: Inputs) -> ModelProto:
    """The ONNX model of the module as deployed, for such inputs, at batch size 1."""
    return to_onnx(deployed(module), zero_inputs(inputs))


def time_operation(
    operation: Operation, *, threads: int = 1, warmup: int = 3, repeats: int = 20, machine: Machine | None = None
) -> Measurement:
    """Latency of one operation inside a network: the kernels that it adds, without the cost of calling a session.

    Layout changes that it forces are its own. onnxruntime's profiler gives the time of each kernel. An activation is
    fused into it. It runs on `machine`, by default on this one.
    """
    machine, model = machine or ThisMachine(), operation_graph(operation).model().SerializeToString()
    times_ms = machine.run_kernels(model, threads=threads, warmup=warmup, repeats=repeats)
    return _measurement(times_ms, threads, machine)


def time_in_turns(
    models: Sequence[ModelProto], *, threads: int = 1, warmup: int = 5, repeats: int = 40
) -> list[Measurement]:
    """Latency of each model here, taken in turns, so that a disturbance of the machine falls on all of them alike."""
    calls: list[Callable[[], object]] = []
    for model in models:
        session = runner.open_session(model.SerializeToString(), threads)
        feed = runner.random_feed(session)
        calls.append(lambda session=session, feed=feed: session.run(None, feed))  # type: ignore[misc]
    rounds = [[runner.run_times_ms(call, warmup if i == 0 else 1, 1)[0] for call in calls] for i in range(repeats)]
    machine = ThisMachine()
    return [_measurement(times_ms, threads, machine) for times_ms in zip(*rounds, strict=True)]


def versions() -> dict[str, str]:
    """Versions of what a measurement ran on."""
    return {**runner.versions(), "torch": torch.__version__}


def _measurement(times_ms: Sequence[float], threads: int, machine: Machine) -> Measurement:
    p50, p90 = np.percentile(times_ms, [50, 90])
    return Measurement(
        float(p50),
        float(p90),
        min(times_ms),
        len(times_ms),
        threads,
        RUNTIME,
        machine.versions,
        machine.description,
    )


def _check_parity(expected: np.ndarray, got: np.ndarray, name: str) -> None:
    difference = float(np.abs(expected - got).max()) if expected.shape == got.shape else float("inf")
    allowed = PARITY * float(np.abs(expected).max())
    if not difference <= allowed:
        raise ParityError(
            f"{name}: onnxruntime's output differs from torch's by {difference:g}, allowed is {allowed:g}; "
            "the exporter changed the network: do not trust its latency, look for an operator that it handles wrongly"
        )
