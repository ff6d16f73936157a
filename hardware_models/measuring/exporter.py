"""PyTorch's exporter to ONNX: silent, and with its table of operators read once."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor, nn

from hardware_models.measuring.graph import OPSET


def to_onnx(module: nn.Module, examples: tuple[Tensor, ...], **settings: Any) -> ModelProto:
    """The ONNX model of a module in eval mode, traced with `examples`; `settings` are further ones of the exporter."""
    _keep_operators()
    with quiet():
        program = torch.onnx.export(
            module, examples, dynamo=True, opset_version=OPSET, external_data=False, verbose=False, **settings
        )
    assert program is not None
    return program.model_proto


@contextmanager
def quiet() -> Iterator[None]:
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


@cache
def _keep_operators() -> None:
    """From now on each export gets a copy of one table of operators.

    The exporter of torch 2.13 reads the source of 500 functions anew for each network: a second, half of an export.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry  # slow to import, and private

    read = cache(ONNXRegistry.from_torchlib)

    def from_torchlib(*given: Any, **named: Any) -> ONNXRegistry:
        registry = copy.copy(read(*given, **named))
        registry.functions = {target: list(found) for target, found in registry.functions.items()}
        return registry

    ONNXRegistry.from_torchlib = staticmethod(from_torchlib)  # type: ignore[method-assign]
