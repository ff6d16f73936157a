"""A network as a .tflite of LiteRT, made and run by a Python of another environment: litert-torch cannot share ours."""

import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.errors import InvalidInputError
from search_spaces.tracing import deployed

# Shapes: N images, K channels of the network, C classes.

WORKER = Path(__file__).with_name("litert_worker.py")
NEEDED = "litert_torch, ai_edge_litert, ai_edge_quantizer"
SHOWN = 800  # characters of what a failed process said last


def litert_problem(python: str | None) -> str | None:
    """What is wrong with the Python that is to make the files, if anything."""
    example = "python3 -m venv litert && litert/bin/pip install torch==2.13.0 litert-torch"
    if python is None:
        return f"formats: litert needs a Python of its own: give litert_python=litert/bin/python; make one: {example}"
    try:
        _run_python(python, "-c", f"import importlib.util as u; assert all(map(u.find_spec, '{NEEDED}'.split(', ')))")
    except (OSError, InvalidInputError):
        return f"litert_python: {python} is no Python that has {NEEDED}; make one: {example}"
    return None


def litert_file(module: nn.Module, tensors: Iterable[Tensor], *, int8: bool, python: str) -> bytes:
    """The .tflite of a network, batch norm folded, from one preprocessed tensor to its outputs.

    `tensors`, float32 (1, K, height, width), give its input's shape and, for `int8`, the ranges of the activations.
    Raises: InvalidInputError, with what the converter said, if it cannot make one.
    """
    given = [x.contiguous() for x in tensors]
    with tempfile.TemporaryDirectory() as folder:
        program, target, calibration = (Path(folder) / name for name in ("net.pt2", "net.tflite", "images.npy"))
        torch.export.save(torch.export.export(deployed(module), (given[0],)), program)
        arguments = [program, target]
        if int8:
            np.save(calibration, torch.cat(given).numpy())
            arguments.append(calibration)
        _run_python(python, str(WORKER), "convert", *map(str, arguments))
        return target.read_bytes()


def run_litert(
    content: bytes, tensors: Iterable[Tensor], *, threads: int, warmup: int, repeats: int, python: str
) -> tuple[Tensor, list[float]]:
    """Outputs (N, C) for each preprocessed tensor (1, K, height, width), and milliseconds of repeats on the first."""
    with tempfile.TemporaryDirectory() as folder:
        model, images, outputs, times = (Path(folder) / name for name in ("net.tflite", "x.npy", "y.npy", "ms.npy"))
        model.write_bytes(content)
        np.save(images, torch.cat([x.contiguous() for x in tensors]).numpy())
        _run_python(python, str(WORKER), "run", *map(str, (model, images, outputs, times, threads, warmup, repeats)))
        return torch.from_numpy(np.load(outputs)), np.load(times).tolist()


def _run_python(python: str, *arguments: str) -> None:
    """Raises: InvalidInputError with the end of what it said, if it ends with an error."""
    done = subprocess.run([os.path.expanduser(python), "-I", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InvalidInputError(f"litert_python: {python} ended with {done.returncode}: {done.stderr[-SHOWN:]}")
