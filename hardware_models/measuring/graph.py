"""ONNX graphs of declared operations, with random weights: what is timed of an operation is built here."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, Shape, kind_of

OPSET = 20
_MARK_CHANNELS = 3  # onnxruntime takes 3-channel input unblocked, so that nothing is reordered before the first mark


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
        """Appends `operation` with an input for each of its operands, then `activation` if named. Returns the output.

        Raises: InvalidInputError if its kind has no ONNX node.
        """
        build = kind_of(operation).build_node
        if build is None:
            raise InvalidInputError(f"{operation.kind} has no ONNX node to time: give its kind a `build_node`")
        output = build(self, name or f"node{len(self._nodes)}", operation, inputs)
        return self.activate(output, activation) if activation else output

    def activate(self, tensor: str, activation: str) -> str:
        """Appends an ONNX activation of `tensor`. Returns its output."""
        return self.node(activation, f"{tensor}_act{len(self._nodes)}", [tensor])

    def model(self) -> onnx.ModelProto:
        """The graph whose output is that of the node added last."""
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in self._inputs.items()]
        output = helper.make_tensor_value_info(self._last, TensorProto.FLOAT, None)
        graph = helper.make_graph(self._nodes, "network", inputs, [output], self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)

    def feed(self) -> dict[str, np.ndarray]:
        """Random values for the inputs."""
        return {name: self._random.standard_normal(shape, dtype=np.float32) for name, shape in self._inputs.items()}

    # For kinds of operations

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Appends one ONNX node. Returns the name of its output, its own."""
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self._last = name
        return name

    def weights(self, name: str, size: Sequence[int], *, bias: bool) -> list[str]:
        """Names of a new random weight of `size` (output channels first) and of its bias, if it has one."""
        # He's variance keeps the values of deep chains normal: denormal numbers would slow every kernel down.
        scale = np.float32((2 / prod(size[1:])) ** 0.5)
        names = [self.constant(f"{name}_weight", self._random.standard_normal(size, dtype=np.float32) * scale)]
        return [*names, self.constant(f"{name}_bias", [0.0] * size[0])] if bias else names

    def constant(self, name: str, values: Any) -> str:
        """The name of a new constant: 64-bit integers, or 32-bit floats."""
        array = np.asarray(values)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32, copy=False)
        self._weights.append(numpy_helper.from_array(array, name))
        return name


def operation_graph(operation: Operation) -> Graph:
    """The operation between two marks, so that its tensors come and go in the layout that they have in a network."""
    graph, kind = Graph(), kind_of(operation)
    is_map = kind.timed_as == "map" and not (kind.fuses_activation and operation.in_shape[0] <= _MARK_CHANNELS)
    enter = _marked if is_map else _plain
    inputs = [enter(graph, shape, k) for k, shape in enumerate(kind.operands(operation))]
    output = graph.add(operation, *inputs, activation="Relu" if kind.fuses_activation else "")
    if kind.timed_as != "vector":
        graph.add(Operation("conv", operation.out_shape, (16, *operation.out_shape[1:])), output, name="after")
    return graph


def _plain(graph: Graph, shape: Shape, _: int) -> str:
    return graph.input(1, *shape)


def _marked(graph: Graph, shape: Shape, place: int) -> str:
    before = (_MARK_CHANNELS, *shape[1:])
    return graph.add(
        Operation("conv", before, shape), graph.input(1, *before), activation="Relu", name=f"before{place}"
    )
