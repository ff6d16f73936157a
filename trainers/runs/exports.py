"""The schema of export.json: the files that devices run, each with what it was tested to do."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from trainers.runs.config import FolderName, Share
from trainers.runs.files import read_as
from trainers.runs.result_parts import Count, Number, Part

NAME: Final = "export.json"
Format = Literal["onnx", "executorch", "litert"]
Precision = Literal["fp32", "int8"]


class ExportedFile(Part):
    """A file of a network, tested on all test images as they are stored.

    It `takes` an image uint8 (H, W, C) of any size, or a tensor float32 (1, K, height, width) that was preprocessed as
    the card says. `share` is of the bytes of the fp32 file of its format. `accuracy_change` is to the accuracy of the
    PyTorch network, `largest_difference` to its outputs on the test images. `within_limit` says whether the accuracy
    falls by no more than allowed. `latency_ms` is the median here, of a tensor without its preprocessing.
    """

    path: str
    format: Format
    precision: Precision
    takes: Literal["image", "tensor"]
    bytes: Count
    share: Number
    accuracy: Share
    balanced_accuracy: Share | None
    images: Count
    accuracy_change: Number
    largest_difference: Number
    within_limit: bool
    latency_ms: Number


class ExportedNetwork(Part):
    """The network of a device, or of a training: its accuracy and largest output in PyTorch, and its files."""

    architecture: str
    accuracy: Share
    largest_output: Number
    card: str
    files: Annotated[list[ExportedFile], Field(min_length=1)]


class Export(Part):
    """An export.json. Paths are in its folder. `unmet` if the accuracy of any file falls by more than allowed.

    Networks are named by their device; the one of a training, which is for no device, is `network`.
    The limits are shares of the test images: of int8 as it was asked, of fp32 a single image.
    """

    schema_: Literal[1] = Field(alias="schema")
    status: Literal["done", "unmet"]
    run: str
    command: str
    accuracy_drop: dict[Precision, Number]
    calibration_images: Count
    threads: Count
    repeats: Count
    devices: Annotated[dict[FolderName, ExportedNetwork], Field(min_length=1)]
    machine: str
    versions: dict[str, str]


def read_export(path: Path) -> Export:
    """Raises: InvalidInputError that names each wrong field, or the file if it cannot be read."""
    return read_as(path, Export)
