"""The file of a network gives the figures of its certificate to whoever has onnxruntime and Pillow, and no Espalier."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from data_files import real
from elsewhere import right_of_folder, right_of_published, stored_test_images
from onnx import numpy_helper
from PIL import Image
from tiny_search import CELL_SPACE, MOBILE_SPACE, tiny_config

from trainers.data.datasets import data_config, load_data
from trainers.data.preprocessing import Preprocess
from trainers.reports.verify import verify_run
from trainers.runs.result import Result
from trainers.search.run import run

UNLIKE = "data.limit=430"  # digits of which the test images are not as many of each class
ONE = ("hardware=[mid_tablet]", "trainer.deploy=true", "trainer.candidates=1", "strategy.pool_size=32")
SEARCHES = {
    "mobile, digits": (*MOBILE_SPACE, *ONE, UNLIKE),
    # Searched at half the size that is deployed.
    "cells, digits by a proxy": (*CELL_SPACE, *ONE, UNLIKE, "data.image_size=[8,8]", "strategy=random"),
    "mobile, coloured photos": (*MOBILE_SPACE, *ONE, "data=image_folder", "data.image_size=[48,64]"),
    "cells, grey photos": (*CELL_SPACE, *ONE, "data=image_folder", "data.image_size=[16,16]", "data.channels=1"),
}
PUBLISHED = {  # data set: a search of it, the file that it is read from, and two of its classes as published
    "fashion_mnist": (
        (*CELL_SPACE, "space.image_size=28", "data.image_size=[28,28]"),
        "fashion-mnist/t10k-images-idx3-ubyte.gz",
        {0: "T-shirt/top", 9: "Ankle boot"},
    ),
    "cifar10": (
        (*MOBILE_SPACE, "space.resolutions=[32]", "space.strides=[1,1,2,2,1,2]", "data.image_size=[32,32]"),
        "cifar10/cifar10_jpegq75_packed.npz",
        {0: "airplane", 9: "truck"},
    ),
}


def photos(root: Path) -> Path:
    """Images of two classes, of several sizes and formats, one on its side, with a test part of 12 and 10 images."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 60), ("test", 12)):
        for label, name in enumerate(("dark", "light")):
            for number in range(count - 2 * label if part == "test" else count):
                size = (*generator.integers(20, 90, 2).tolist(), 3)
                pixels = (generator.integers(0, 120, size) + 90 * label).astype(np.uint8)
                path = root / part / name / f"{number}{('.png', '.tif')[number % 2]}"
                path.parent.mkdir(parents=True, exist_ok=True)
                exif = Image.Exif()
                exif[274] = 6 if number % 4 == 0 else 1  # orientation
                Image.fromarray(pixels).save(path, exif=exif)
    return root


@pytest.fixture(scope="module", params=SEARCHES)
def searched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("deployed")
    overrides = list(SEARCHES[request.param])
    if "data=image_folder" in overrides:
        overrides += [f"data.root={photos(folder / 'photos')}", "data.limit=null"]
    config = tiny_config(folder / "runs", *overrides)
    lines: list[str] = []
    return {"config": config, "result": run(config, lines.append), "folder": folder, "lines": lines}


def test_a_process_with_onnxruntime_and_pillow_gets_the_accuracy_of_the_certificate(searched: dict[str, Any]) -> None:
    config, result, folder = searched["config"], searched["result"], searched["folder"]
    device = result.devices["mid_tablet"]
    data = load_data(data_config(config.data))
    own = folder / "photos/test"
    images = own if own.exists() else stored_test_images(data, folder / "test-images")
    mode = {1: "L", 3: "RGB"}[device.file.channels]
    file = config.run_folder / device.file.path
    right, count = right_of_folder(file, images, mode)
    assert count == device.accuracy.images == result.data.images.test
    assert right == round(device.accuracy.deployed * count)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_of_published_test_images_as_well(name: str, tmp_path: Path) -> None:
    space, source, known = PUBLISHED[name]
    root = real(source)
    asked = (*space, *ONE, f"data={name}", f"data.root={root}", "data.limit_test=null", "trainer.finetune_steps=40")
    config = tiny_config(tmp_path, *asked)
    device = run(config, lambda line: None).devices["mid_tablet"]
    right, count, classes = right_of_published(config.run_folder / device.file.path, name, root)
    assert count == device.accuracy.images == 10_000
    assert right == round(device.accuracy.deployed * count)
    assert right > 1_100  # it has learnt something, so other images would tell
    assert {label: classes[label] for label in known} == known


def test_multiply_adds_and_weights_of_the_certificate_are_those_of_the_file(searched: dict[str, Any]) -> None:
    config, result = searched["config"], searched["result"]
    device = result.devices["mid_tablet"]
    model = onnx.shape_inference.infer_shapes(onnx.load(config.run_folder / device.file.path))
    counted, own = device.recounted, [n for n in model.graph.node if n.name.startswith("network/")]
    weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    shapes |= {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.output}
    multiply_adds = params = 0
    for node in own:
        if node.op_type == "Conv":
            multiply_adds += prod(shapes[node.output[0]]) * prod(weights[node.input[1]].shape[1:])
        elif node.op_type in ("Gemm", "MatMul"):
            multiply_adds += weights[node.input[1]].size
        elif node.op_type in ("GlobalAveragePool", "ReduceMean"):  # as fvcore counts them
            multiply_adds += prod(shapes[node.input[0]])
        if node.op_type in ("Conv", "Gemm", "MatMul", "BatchNormalization"):  # whose last two are statistics
            params += sum(weights[name].size for name in node.input[1:3])
    assert multiply_adds / 1e9 == pytest.approx(counted["gflops"], rel=1e-9)
    # The exporter folds the norm at the end of a cell network into a convolution where one alone feeds it.
    has_norm = any(node.op_type == "BatchNormalization" for node in own) or not device.notation.startswith("|")
    folded = 0 if has_norm else 2 * weights["network/frame.classifier.weight"].shape[1]
    assert (params + folded) / 1e6 == pytest.approx(counted["params_m"], rel=1e-9)


def test_the_record_of_the_file_is_what_the_data_are(searched: dict[str, Any]) -> None:
    config, result = searched["config"], searched["result"]
    device, data = result.devices["mid_tablet"], load_data(data_config(config.data))
    assert device.file.classes == list(data.classes)
    assert device.file.size == device.input_size
    assert device.file.bytes == (config.run_folder / device.file.path).stat().st_size
    image = next(iter(data.stored("test")))[0]
    assert image.dtype == np.uint8 and image.shape[2] == device.file.channels


def test_accuracies_of_another_size_are_called_proxy(searched: dict[str, Any]) -> None:
    device = searched["result"].devices["mid_tablet"]
    is_proxy = searched["config"].data["image_size"] == [8, 8]
    assert device.is_proxy == is_proxy
    assert [device.label(kind).startswith("proxy") for kind in ("inherited", "deployed")] == [is_proxy, False]
    first, *lines = searched["lines"]
    assert ("proxy" in first) == is_proxy
    assert {"proxy val" in line for line in lines if line.startswith("epoch")} == {is_proxy}


def test_a_run_with_files_verifies_and_a_file_of_another_network_does_not(searched: dict[str, Any]) -> None:
    folder = searched["config"].run_folder
    failed = [check.what for check in verify_run(folder) if check.outcome == "FAILED"]
    assert failed == []
    device = searched["result"].devices["mid_tablet"]
    labels = [label for _, label in load_data(data_config(searched["config"].data)).stored("test")]
    # A network that names one class always: one whose share of the images is not the accuracy of the certificate.
    right = round(device.accuracy.deployed * len(labels))
    label = next(label for label, count in enumerate(np.bincount(labels)) if count != right)
    path = folder / device.file.path
    content = path.read_bytes()
    model = onnx.load_from_string(content)
    *_, linear = (node for node in model.graph.node if node.op_type == "Gemm")
    (bias,) = (i for i in model.graph.initializer if i.name == linear.input[2])
    changed = numpy_helper.to_array(bias).copy()
    changed[label] += 1e9
    bias.CopyFrom(numpy_helper.from_array(changed, bias.name))
    try:
        path.write_bytes(model.SerializeToString())
        failed = [check.what for check in verify_run(folder) if check.outcome == "FAILED"]
        assert "file onnx/mid_tablet.onnx" in failed
    finally:
        path.write_bytes(content)


def test_without_deployment_the_result_and_the_last_lines_say_so(tmp_path: Path) -> None:
    lines: list[str] = []
    config = tiny_config(tmp_path, *MOBILE_SPACE, *ONE, "trainer.deploy=false")
    result: Result = run(config, lines.append)
    device = result.devices["mid_tablet"]
    assert device.file is None and device.accuracy.deployed is None
    assert not (config.run_folder / "onnx").exists()
    assert any("not deployable" in line and "espalier-retrain" in line for line in lines)


@pytest.mark.parametrize("shape", [(8, 8, 1), (30, 50, 3), (64, 48, 3), (7, 200, 3)])
@pytest.mark.parametrize("size", [(24, 24), (16, 40)])
def test_preprocessing_scales_the_centre_as_pillow_does(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    mean, std = torch.tensor([0.2, 0.4, 0.6]), torch.tensor([0.5, 0.25, 1.0])
    found = Preprocess(size=size, mean=mean, std=std)(torch.from_numpy(pixels))
    rows, columns, channels = shape
    kept = min(rows, columns * size[0] // size[1]), min(columns, rows * size[1] // size[0])
    top, left = (rows - kept[0]) // 2, (columns - kept[1]) // 2
    centre = Image.fromarray(pixels[top : top + kept[0], left : left + kept[1]].squeeze())
    scaled = np.asarray(centre.resize(size[::-1], Image.Resampling.BILINEAR)).reshape(*size, channels)
    expected = (np.broadcast_to(scaled, (*size, 3)) / 255 - mean.numpy()) / std.numpy()
    levels = np.abs(found[0].permute(1, 2, 0).numpy() - expected) * std.numpy() * 255
    assert found.shape == (1, 3, *size) and levels.max() <= 1.01
