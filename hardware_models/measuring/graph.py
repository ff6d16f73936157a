"""ONNX graphs of declared operations, with random weights: what is timed of an operation is built here."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

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


def operation_graph(operation: Operation) -> Graph:
    """The operation between two marks, so that its tensors come and go in the layout that they have in a network."""
    graph = Graph()
    _between_marks(graph, operation)
    return graph


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
