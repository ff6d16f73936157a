"""What whoever has a network's ONNX file, onnxruntime and Pillow, and no Espalier, finds that it is right about."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from trainers.data.datasets import ImageData

# Each runs in a process of its own. The first knows a folder of images by class, and the file.
FOLDER = """
import json, sys
from pathlib import Path
import numpy, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
right = count = 0
for path in sorted(Path(sys.argv[2]).rglob("*.*")):
    image = ImageOps.exif_transpose(Image.open(path))
    image = numpy.asarray(image.convert(sys.argv[3]))
    scores = session.run(None, {"image": image if image.ndim == 3 else image[..., None]})[0]
    right += classes[scores.argmax()] == path.parent.name
    count += 1
assert "trainers" not in sys.modules
print(json.dumps([right, count]))
"""
# The other reads the test images of a data set as it is published.
PUBLISHED = """
import gzip, io, json, sys
import numpy, onnxruntime
from PIL import Image

def fashion_mnist(root):
    kinds = (("images-idx3", 16), ("labels-idx1", 8))
    parts = [(gzip.open(f"{root}/fashion-mnist/t10k-{kind}-ubyte.gz").read(), offset) for kind, offset in kinds]
    images, labels = (numpy.frombuffer(content, numpy.uint8, offset=offset) for content, offset in parts)
    return zip(images.reshape(-1, 28, 28, 1), labels)

def cifar10(root):
    packed = numpy.load(f"{root}/cifar10/cifar10_jpegq75_packed.npz")
    header, blob, offsets = packed["header"].tobytes(), packed["blob"].tobytes(), packed["offsets"]
    labels, is_test = packed["label"], packed["is_test"]
    for number in numpy.flatnonzero(is_test):
        image = Image.open(io.BytesIO(header + blob[offsets[number] : offsets[number + 1]]))
        yield numpy.asarray(image.convert("RGB")), labels[number]

session = onnxruntime.InferenceSession(sys.argv[1])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
right = count = 0
for image, label in globals()[sys.argv[2]](sys.argv[3]):
    right += int(session.run(None, {"image": image})[0].argmax() == label)
    count += 1
assert "trainers" not in sys.modules
print(json.dumps([right, count, classes]))
"""


def right_of_folder(file: Path, images: Path, mode: str) -> tuple[int, int]:
    """How many images of a folder the file is right about, and how many there are; `mode` is Pillow's."""
    right, count = _printed(FOLDER, str(file), str(images), mode)
    return right, count


def right_of_published(file: Path, name: str, root: Path) -> tuple[int, int, list[str]]:
    """The same of all test images of a published data set, and the classes that the file names."""
    right, count, classes = _printed(PUBLISHED, str(file), name, str(root))
    return right, count, classes


def _printed(script: str, *arguments: str) -> list[Any]:
    command = [sys.executable, "-I", "-c", script, *arguments]
    found: list[Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def stored_test_images(data: ImageData, folder: Path) -> Path:
    """The test images as files without loss, by class."""
    for number, (image, label) in enumerate(data.stored("test")):
        path = folder / data.classes[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(path)
    return folder
