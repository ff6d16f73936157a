"""A network as the one file that a device runs: ONNX, with the preprocessing of its images inside."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from hardware_models.measuring.exporter import to_onnx
from hardware_models.measuring.measure import Machine, Measurement, export, time_model
from hardware_models.measuring.runner import open_session
from search_spaces.errors import InvalidInputError
from search_spaces.tracing import deployed
from trainers.data.datasets import ImageData
from trainers.data.preprocessing import Preprocess
from trainers.data.splits import Split
from trainers.deploy.standalone import Score, score_of
from trainers.runs.result import DeployedFile

# Shapes: B batch, H height, W width, C stored channels, K classes.

IMAGE, OUTPUT = "image", "output"  # names of the file's input and output
PRECISION = "precision"  # of the network, in the metadata of a file that is not fp32
NETWORK = "network/"  # begins the names of what belongs to the network and not to its preprocessing
BATCH = 256  # outputs that are scored at once


def onnx_file(module: nn.Module, data: ImageData, metadata: Mapping[str, str]) -> bytes:
    """The file of a network at the image size of `data`: takes one image uint8 (H, W, C) of any size, gives (1, K).

    It has batch norm folded, and names the classes, as a JSON list, in its metadata.
    """
    head = _preprocessing(data.image_size, data.stored_channels, tuple(data.mean.tolist()), tuple(data.std.tolist()))
    body = export(module, (data.channels, *data.image_size))
    body.ir_version = head.ir_version
    ends = (body.graph.input[0].name, body.graph.output[0].name)
    body, head = onnx.compose.add_prefix(body, NETWORK), onnx.compose.add_prefix(head, "preprocess/")
    joined = onnx.compose.merge_models(head, body, io_map=[("preprocess/input", f"{NETWORK}{ends[0]}")])
    _rename(joined.graph, f"preprocess/{IMAGE}", IMAGE)
    _rename(joined.graph, f"{NETWORK}{ends[1]}", OUTPUT)
    _leave_out_what_the_exporter_noted(joined)
    onnx.helper.set_model_props(joined, {"classes": json.dumps(data.classes), **metadata})
    onnx.checker.check_model(joined)
    content: bytes = joined.SerializeToString()
    return content


@lru_cache(maxsize=16)
def _preprocessing(
    size: tuple[int, int], stored_channels: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> onnx.ModelProto:
    """The ONNX model of `ImageData.preprocess`: of one size it is the same for the networks of all devices."""
    extent = torch.export.Dim.DYNAMIC
    return to_onnx(
        Preprocess(size=size, mean=torch.tensor(mean), std=torch.tensor(std)),
        (torch.zeros(*size, stored_channels, dtype=torch.uint8),),
        input_names=[IMAGE],
        output_names=["input"],
        dynamic_shapes=({0: extent, 1: extent},),
    )


def file_record(path: Path, content: bytes, data: ImageData) -> DeployedFile:
    """What a result says of a file; `path` is in the folder of the run. Raises: InvalidInputError if it is no ONNX."""
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's, which is no dependency
        raise InvalidInputError(f"the ONNX file cannot be read: {error}") from error
    metadata = {each.key: each.value for each in model.metadata_props}
    return DeployedFile(
        path=path.as_posix(),
        bytes=len(content),
        channels=data.stored_channels,
        size=list(data.image_size),
        mean=data.mean.tolist(),
        std=data.std.tolist(),
        classes=list(data.classes),
        precision="int8" if metadata.get(PRECISION) == "int8" else "fp32",
    )


def time_file(module: nn.Module, data: ImageData, *, threads: int, machine: Machine) -> Measurement:
    """Latency of the file of a network, on an image that needs no scaling."""
    image = any_image(data)
    with torch.no_grad():
        expected = deployed(module)(data.preprocess(image)).numpy()
    content, feed = onnx_file(module, data, {}), {IMAGE: image.numpy()}
    return time_model(content, feed, expected, name=type(module).__name__, threads=threads, machine=machine)


def score_file(content: bytes, data: ImageData, split: Split, *, threads: int) -> Score:
    """Score of a file run by onnxruntime on the images of a split as they are stored.

    Raises: InvalidInputError for a file that does not run.
    """
    return score_of(data.task, file_outputs(content, data, split, threads=threads))


def file_outputs(content: bytes, data: ImageData, split: Split, *, threads: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs of a file, and labels, batch by batch, for the images of a split as they are stored, in its order.

    The file may be another's: of one input, an image uint8 (H, W, C) of any size, and of one output or the first of it.
    Raises: InvalidInputError for a file that does not run, or is of other inputs or other classes than the data.
    """
    session = _opened(content, threads)
    (image_name, *_), (output_name, *_) = ([each.name for each in ends] for ends in _ends(session))
    _check_classes(session, data)
    outputs: list[np.ndarray] = []
    labels: list[int] = []
    for image, label in data.stored(split):
        outputs.append(session.run([output_name], {image_name: image})[0])
        labels.append(label)
        if len(labels) == BATCH:
            yield torch.from_numpy(np.concatenate(outputs)), torch.tensor(labels)
            outputs, labels = [], []
    if labels:
        yield torch.from_numpy(np.concatenate(outputs)), torch.tensor(labels)


def file_network(content: bytes, data: ImageData) -> Callable[[Tensor], Tensor]:
    """A file as a network of batches of `data`, (B, channels, H, W) as they are trained with: it gets their pixels.

    On one thread, so that its outputs are the same bits wherever a training is resumed.
    Raises: as `file_outputs`, of any batch.
    """
    session = _opened(content, 1)
    (image_name, *_), (output_name, *_) = ([each.name for each in ends] for ends in _ends(session))
    _check_classes(session, data)

    def outputs_of(x_BCHW: Tensor) -> Tensor:
        images_BHWC = data.pixels_of(x_BCHW).numpy()
        return torch.from_numpy(np.concatenate([session.run([output_name], {image_name: x})[0] for x in images_BHWC]))

    return outputs_of


def _opened(content: bytes, threads: int) -> Any:
    try:
        return open_session(content, threads)
    except Exception as error:  # onnxruntime's have no base but this
        raise InvalidInputError(f"the ONNX file cannot be opened: {error}") from error


def _ends(session: Any) -> tuple[Any, Any]:
    """The inputs and outputs of a session. Raises: InvalidInputError unless it takes one image as it is stored."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or len(inputs[0].shape) != 3:
        got = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
        raise InvalidInputError(
            f"the ONNX file takes {got}; allowed: one image uint8 (height, width, channels) as it is stored, as files "
            "of espalier-search and espalier-retrain do: put the preprocessing inside"
        )
    return inputs, outputs


def _check_classes(session: Any, data: ImageData) -> None:
    """Raises: InvalidInputError if the file names other classes, or gives another number of outputs, than the data."""
    named = session.get_modelmeta().custom_metadata_map.get("classes")
    if named is not None and json.loads(named) != list(data.classes):
        raise InvalidInputError(f"the ONNX file has the classes {named}, the data {json.dumps(data.classes)}")
    shape = session.get_outputs()[0].shape
    if len(shape) != 2 or (shape[1] not in (data.num_classes, None) and not isinstance(shape[1], str)):
        raise InvalidInputError(
            f"the ONNX file gives {shape}, allowed: (1, {data.num_classes}), a number for each class"
        )


def any_image(data: ImageData) -> Tensor:
    """An image of random pixels, uint8 (H, W, C), of the size that the network takes."""
    generator = torch.Generator().manual_seed(0)
    shape = (*data.image_size, data.stored_channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _leave_out_what_the_exporter_noted(model: onnx.ModelProto) -> None:
    """Traces of this process, at each node, which differ from one to the next; and operators twice, for each part."""
    for noted in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del noted.metadata_props[:]
    operators = {each.domain: each.version for each in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in operators.items())


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Gives an input or output of the graph another name, everywhere that it stands."""
    for value in (*graph.input, *graph.output):
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = new if name == old else name
