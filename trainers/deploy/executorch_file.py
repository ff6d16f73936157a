"""A network as a program of ExecuTorch, for its XNNPACK kernels: fp32, or int8 by torchao."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hardware_models.measuring.exporter import quiet
from search_spaces.tracing import deployed

# Shapes: K channels of the network.

CALIBRATED_AT_ONCE = 32  # images


def executorch_file(module: nn.Module, tensors: Iterable[Tensor], *, int8: bool) -> bytes:
    """The program of a network, batch norm folded, from one preprocessed tensor to its outputs.

    `tensors`, float32 (1, K, height, width), give its input's shape and, for `int8`, the ranges of the activations;
    weights have a scale per channel.
    """
    with quiet(), _without_advice():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from executorch.exir import to_edge_transform_and_lower
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        given = [x.contiguous() for x in tensors]
        network: Any = deployed(module)
        if int8:
            quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
            # Each pass costs a histogram of every activation, so images pass in batches: half the time of one by one.
            pair, batches = torch.cat((given * 2)[:2]), ({0: torch.export.Dim("batch", min=1)},)
            network = prepare_pt2e(torch.export.export(network, (pair,), dynamic_shapes=batches).module(), quantizer)
            with torch.no_grad():
                for first in range(0, len(given), CALIBRATED_AT_ONCE):
                    network(torch.cat(given[first : first + CALIBRATED_AT_ONCE]))
            network = convert_pt2e(network)
        exported = torch.export.export(network, (given[0],))
        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
        return bytes(program.buffer)


def load_executorch(content: bytes, *, threads: int) -> Callable[[Tensor], Tensor]:
    """A program as it runs here, on a tensor that its network takes. Raises: RuntimeError for one that does not."""
    with quiet(), _without_advice(), _silent_libraries():
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(threads)
        program = Runtime.get().load_program(content)  # which must live as long as its method
        method = program.load_method("forward")
        assert method is not None
    return lambda x: _run(program, method, x)


def _run(program: Any, method: Any, x: Tensor) -> Tensor:
    output: Tensor = method.execute([x.contiguous()])[0]
    return output.clone()  # the next run writes where it lies


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silence of loggers: the packages tell which kernels of other machines they do not load."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _silent_libraries() -> Iterator[None]:
    """Silence of what writes to the process's standard error itself: a library that looks for files of ARM boards."""
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
