"""A network in the files that devices run, each tested on all test images as they are stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hardware_models.measuring.runner import open_session, run_times_ms
from search_spaces.errors import InvalidInputError
from trainers.data.datasets import ImageData
from trainers.deploy.executorch_file import executorch_file, load_executorch
from trainers.deploy.litert_file import litert_file, run_litert
from trainers.deploy.onnx_file import IMAGE, OUTPUT, any_image, onnx_file
from trainers.deploy.onnx_int8 import int8_file
from trainers.deploy.standalone import Score, score_of
from trainers.runs.exports import ExportedFile, Format, Precision

# Shapes: N test images, H height, W width, C stored channels, K classes.

WARMUP = 5  # runs that are not timed
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "executorch": ".pte", "litert": ".tflite"}


@dataclass(frozen=True)
class Program:
    """A file, loaded: `prepare` makes of an image uint8 (H, W, C) what `run` takes, which gives the scores (1, K)."""

    prepare: Callable[[np.ndarray], Any]
    run: Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Tested:
    """What a network, or a file of it, gives on the test images: the outputs (N, K), and their score."""

    outputs_NK: Tensor
    score: Score


def make_files(
    module: nn.Module,
    data: ImageData,
    format: Format,
    precisions: Sequence[Precision],
    *,
    images: Sequence[np.ndarray],
    written: bytes | None,
    metadata: dict[str, str],
    litert_python: str | None = None,
) -> dict[Precision, bytes]:
    """The content of the fp32 file of a network, and of others that are asked for, by precision.

    `images`, uint8 (H, W, C), are what int8 is calibrated with. `written` is the ONNX file of the network, if there is
    one; `metadata` goes into a new one. `litert_python` makes files of LiteRT.
    """
    kinds = dict.fromkeys(("fp32", *precisions))
    if format != "onnx":
        tensors = [data.preprocess(torch.from_numpy(image)) for image in images]
        if format == "executorch":
            return {kind: executorch_file(module, tensors, int8=kind == "int8") for kind in kinds}
        assert litert_python is not None  # checked with the configuration
        return {kind: litert_file(module, tensors, int8=kind == "int8", python=litert_python) for kind in kinds}
    made: dict[Precision, bytes] = {"fp32": written or onnx_file(module, data, metadata)}
    if "int8" in precisions:
        made["int8"] = int8_file(made["fp32"], images)
    return made


def load_program(content: bytes, format: Format, data: ImageData, *, threads: int) -> Program:
    """A file as it runs here. Raises: InvalidInputError for one that does not."""
    try:
        if format == "executorch":
            preprocess, forward = data.preprocess, load_executorch(content, threads=threads)
            return Program(lambda image: preprocess(torch.from_numpy(image)), lambda x: forward(x).numpy())
        session = open_session(content, threads)
    except Exception as error:  # those of both runtimes have no base but this
        raise InvalidInputError(f"the file of {format} cannot be loaded: {error}") from error
    return Program(lambda image: image, lambda image: session.run([OUTPUT], {IMAGE: image})[0])


def program_of(module: nn.Module, data: ImageData) -> Program:
    """The network itself in PyTorch, with the preprocessing of its data."""

    @torch.no_grad()
    def run(image: np.ndarray) -> np.ndarray:
        outputs: np.ndarray = module(data.preprocess(torch.from_numpy(image))).numpy()
        return outputs

    return Program(lambda image: image, run)


def test_program(program: Program, data: ImageData) -> Tested:
    """Outputs and score on the test images as they are stored."""
    return _tested(np.concatenate([program.run(program.prepare(image)) for image, _ in data.stored("test")]), data)


def _tested(outputs_NK: np.ndarray, data: ImageData) -> Tested:
    outputs, labels = torch.from_numpy(outputs_NK), torch.tensor([label for _, label in data.stored("test")])
    return Tested(outputs, score_of(data.task, [(outputs, labels)]))


def score_and_time(
    content: bytes, format: Format, data: ImageData, *, threads: int, repeats: int, litert_python: str | None = None
) -> tuple[Tested, list[float]]:
    """What a file gives on the test images, and its milliseconds here on an image that needs no scaling."""
    if format == "litert":
        assert litert_python is not None  # checked with the configuration
        tensors = (data.preprocess(torch.from_numpy(image)) for image, _ in data.stored("test"))
        settings: dict[str, int] = {"threads": threads, "warmup": WARMUP, "repeats": repeats}
        outputs_NK, times_ms = run_litert(content, tensors, **settings, python=litert_python)
        return _tested(outputs_NK.numpy(), data), times_ms
    program = load_program(content, format, data, threads=threads)
    tested, given = test_program(program, data), program.prepare(any_image(data).numpy())
    return tested, run_times_ms(lambda: program.run(given), WARMUP, repeats)


def describe_file(
    path: str,
    content: bytes,
    format: Format,
    precision: Precision,
    data: ImageData,
    *,
    reference: Tested,
    fp32_bytes: int,
    accuracy_drop: float,
    threads: int,
    repeats: int,
    litert_python: str | None = None,
) -> ExportedFile:
    """The record of a file after its test beside the PyTorch network's, `reference`, and its median latency here."""
    where: dict[str, int] = {"threads": threads, "repeats": repeats}
    tested, times_ms = score_and_time(content, format, data, **where, litert_python=litert_python)
    change = tested.score.accuracy - reference.score.accuracy
    return ExportedFile(
        path=path,
        format=format,
        precision=precision,
        takes="image" if format == "onnx" else "tensor",
        bytes=len(content),
        share=len(content) / fp32_bytes,
        accuracy=tested.score.accuracy,
        balanced_accuracy=tested.score.balanced_accuracy,
        images=tested.score.images,
        accuracy_change=change,
        largest_difference=float((tested.outputs_NK - reference.outputs_NK).abs().max()),
        within_limit=-change <= accuracy_drop + 1e-9,  # as a share of images it may be a last digit more
        latency_ms=median(times_ms),
    )
