"""The model card of an exported network: what it is for, what it was tested to do, and how it is run."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hardware_models.measuring.runner import machine_description
from hardware_models.metrics import UNITS
from trainers.data.datasets import ImageData
from trainers.reports.export_source import Source
from trainers.runs.exports import ExportedNetwork
from trainers.runs.plain_text import printable_lines
from trainers.runs.result import DeviceResult
from trainers.runs.result_parts import Data

MODES = {1: ("L", "[..., None]"), 3: ("RGB", ""), 4: ("RGBA", "")}  # of Pillow, by channels
CHANNELS = {1: "one grey channel", 3: "three channels, RGB", 4: "four channels, RGBA"}


def model_card(
    source: Source, read: Data, network: ExportedNetwork, data: ImageData, *, calibration_images: int
) -> str:
    """Markdown. `read` is what the run says of its data, `data` are they at the size of the network.

    `calibration_images` are as many as were asked for. The licence is left to whoever publishes it.
    """
    channels = data.stored_channels
    view: dict[str, Any] = {
        "title": f"{source.space} network for {source.name}" if source.device else f"{source.space} network",
        "classes": list(data.classes),
        "data": read,
        "channels_words": CHANNELS.get(channels, f"{channels} channels"),
        "repeated": channels < data.channels,
        "size": "x".join(map(str, data.image_size)),
        "mean": [round(value, 4) for value in data.mean.tolist()],
        "std": [round(value, 4) for value in data.std.tolist()],
        "notation": source.notation,
        "found": source.device and _found(source.name, source.device),
        "training": source.training,
        "files": network.files,
        "reference": network.accuracy,
        "largest_output": network.largest_output,
        "machine": machine_description(),
        "calibration_images": any(file.precision == "int8" for file in network.files)
        and min(calibration_images, data.size("weights")),
        "snippet": next((_snippet(file.path, channels) for file in network.files if file.format == "onnx"), None),
    }
    settings: Any = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=PackageLoader("trainers.reports"), autoescape=False, **settings)  # it is no HTML
    return printable_lines(environment.get_template("model_card.md.j2").render(view))


def _found(name: str, device: DeviceResult) -> dict[str, Any]:
    """What the certificate says of a network that a search found for a device."""
    return {
        "device": name,
        "profile": device.profile,
        "met": device.met,
        "budgets": list(_budget_rows(device)),
        "accuracy": ", ".join(f"{device.label(kind)} {share:.4f}" for kind, share in device.accuracy.shares.items()),
    }


def _budget_rows(device: DeviceResult) -> list[list[str]]:
    rows = []
    for metric, limit in device.budgets.items():
        measured = f"{device.measured.latency_ms:.4g}" if device.measured and metric == "latency_ms" else ""
        figures = [device.predicted.get(metric), device.upper.get(metric), device.recounted.get(metric)]
        cells = ["" if figure is None else f"{figure:.4g}" for figure in figures]
        rows.append([f"{metric} ({UNITS[metric]})", f"{limit:g}", device.held_by[metric], *cells, measured])
    return rows


def _snippet(path: str, channels: int) -> str:
    """Five lines that print the class of an image, without Espalier."""
    mode, axis = MODES.get(channels, ("", ""))
    opened = f'PIL.ImageOps.exif_transpose(PIL.Image.open("photo.jpg")).convert("{mode}")'
    image = f"numpy.asarray({opened}){axis}" if mode else 'numpy.load("image.npy")  # uint8 (H, W, C)'
    return "\n".join(
        [
            "import json, numpy, onnxruntime, PIL.Image, PIL.ImageOps",
            f'session = onnxruntime.InferenceSession("{path}")',
            f"image = {image}",
            'scores = session.run(None, {"image": image})[0]',
            'print(json.loads(session.get_modelmeta().custom_metadata_map["classes"])[scores.argmax()])',
        ]
    )
