"""Class weights and balanced sampling: off unless asked for, worked out by hand, functions of the seed."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from data_files import SHARES, noise
from PIL import Image
from tiny_search import TINY, composed
from torch import Tensor

from search_spaces.errors import InvalidInputError
from trainers.analysis.loading import load_run
from trainers.data import datasets
from trainers.data.datasets import DataConfig, ImageData, data_config, load_data
from trainers.data.image_set import DATASETS, ImageSet
from trainers.data.sampling import balanced_order
from trainers.data.splits import Split
from trainers.data.task import TASKS, Classification, Task, balanced_weights
from trainers.runs.config import validate
from trainers.search.identification import identified
from trainers.search.run import run

COUNTS = (190, 40, 10)  # of these, the weights split has 0.4: 76, 16, 4
IN_WEIGHTS = torch.tensor([76.0, 16.0, 4.0])


@pytest.fixture
def rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set `rare`: image i is grey at level i + 1, so that a batch says which images are in it."""

    def read() -> ImageSet:
        labels = torch.tensor([label for label, num in enumerate(COUNTS) for _ in range(num)])
        images = torch.arange(1, 241, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 4, 4)
        return ImageSet("rare", images, labels, 3, None, "made here")

    monkeypatch.setattr(DATASETS, "_registered", {})
    monkeypatch.setattr(datasets, "_last_read", {})
    DATASETS.register("rare")(read)


def rare_data(**fields: Any) -> ImageData:
    shares = SHARES.model_dump()
    config = DataConfig(name="rare", image_size=None, shares=shares, flip=False, shift=0, **fields)
    return load_data(config)


def drawn(
    data: ImageData, split: Split = "weights", *, augment: bool = True, **key: int
) -> list[tuple[Tensor, Tensor]]:
    """Which images are in each batch of 12, and their labels."""
    batches = data.batches(split, batch_size=12, **{"seed": 0, "epoch": 0, **key}, augment=augment)
    return [((x[:, 0, 0, 0] * data.std[0] + data.mean[0]).mul(255).round().long() - 1, y) for x, y in batches]


def test_weights_are_images_over_classes_times_the_images_of_each(rare: None) -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    assert balanced_weights(labels, 3).tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    task = rare_data(class_weights="balanced").task
    assert isinstance(task, Classification) and task.weights_K is not None
    assert torch.allclose(task.weights_K, 96 / (3 * IN_WEIGHTS))


def test_the_loss_that_is_trained_is_weighted_and_the_one_that_is_reported_is_not() -> None:
    task = TASKS["classification"]().weighted(torch.tensor([1.0, 3.0]))
    outputs, targets = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]), torch.tensor([0, 1])
    losses = math.log(2), math.log(4)  # shares 1/2 for class 0, and 1/4 for class 1
    assert float(task.loss(outputs, targets)) == pytest.approx((losses[0] + 3 * losses[1]) / 4)
    assert float(task.total_loss(outputs, targets)) == pytest.approx(sum(losses))
    assert float(Classification().loss(outputs, targets)) == pytest.approx(sum(losses) / 2)


def test_every_class_comes_as_often_in_each_balanced_batch(rare: None) -> None:
    data = rare_data(sampling="balanced")
    for split in ("weights", "architecture"):
        batches = drawn(data, split)
        assert len(batches) == data.size(split) // 12
        assert [labels.bincount(minlength=3).tolist() for _, labels in batches] == [[4, 4, 4]] * len(batches)


def test_shuffled_batches_have_classes_as_the_data_have_them(rare: None) -> None:
    labels = torch.cat([labels for _, labels in drawn(rare_data())])
    assert labels.bincount().tolist() == IN_WEIGHTS.tolist()  # 96 images are eight whole batches


def test_images_of_a_class_come_in_turn(rare: None) -> None:
    data = rare_data(sampling="balanced")
    batches = drawn(data)
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert set(images.tolist()) <= set(data.splits.weights.tolist())
    for label, num in enumerate(IN_WEIGHTS.int().tolist()):  # 32 places for 76, 16 and 4 images
        times = images[labels == label].bincount()
        assert set(times[times > 0].tolist()) == {max(1, 32 // num)}
    rounds = images[labels == 2].view(-1, 4).tolist()
    assert len({tuple(each) for each in rounds}) > 1  # in new orders


def test_a_balanced_order_of_odd_numbers_is_balanced_to_within_one() -> None:
    labels = torch.tensor([0] * 5 + [3] * 2 + [7])
    order = balanced_order(labels, torch.Generator().manual_seed(0))
    assert len(order) == 8 and sorted(labels[order].bincount()[[0, 3, 7]].tolist()) == [2, 3, 3]


def test_balanced_batches_are_a_function_of_seed_and_epoch(rare: None) -> None:
    """So a search that is resumed at an epoch goes on with the same batches."""
    first = rare_data(sampling="balanced")
    torch.manual_seed(1)
    whole = [images.tolist() for epoch in range(3) for images, _ in drawn(first, epoch=epoch)]
    torch.manual_seed(2)
    resumed = [images.tolist() for images, _ in drawn(rare_data(sampling="balanced"), epoch=2)]
    assert whole[-len(resumed) :] == resumed
    assert whole[: len(resumed)] != resumed != [images.tolist() for images, _ in drawn(first, epoch=2, seed=1)]


def test_what_is_evaluated_is_not_resampled(rare: None) -> None:
    data = rare_data(sampling="balanced")
    assert (
        sorted(i for images, _ in drawn(data, "test", augment=False) for i in images.tolist())
        == data.splits.test.tolist()
    )


def test_both_at_once_are_refused_and_so_is_a_task_without_classes(rare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    content = composed("data.class_weights=balanced", "data.sampling=balanced")["data"]
    with pytest.raises(InvalidInputError) as refused:
        data_config({**content, "name": "rare"})
    assert refused.value.fields == ("data",)

    class Distances(Task):
        score_name = "distance"
        total_loss = scores = lambda self, outputs, targets: outputs - targets

    monkeypatch.setitem(TASKS._registered, "classification", Distances)
    with pytest.raises(InvalidInputError):
        rare_data(class_weights="balanced")


def test_they_are_in_the_run_key_only_where_they_are_asked_for() -> None:
    content = composed()
    key = validate(content).run_key
    earlier = {name: value for name, value in content["data"].items() if name not in ("class_weights", "sampling")}
    assert validate({**content, "data": earlier}).run_key == key
    others = [{"class_weights": "balanced"}, {"sampling": "balanced"}]
    assert len({key, *(validate({**content, "data": content["data"] | other}).run_key for other in others)}) == 3


def test_a_search_trains_with_what_is_asked_for(tmp_path: Path) -> None:
    for name, num in (("healthy", 95), ("defect", 25)):
        (tmp_path / "rare" / name).mkdir(parents=True)
        for number in range(num):
            Image.fromarray(noise(16, 16, 3, seed=num * 1000 + number)).save(tmp_path / "rare" / name / f"{number}.png")
    folder = ("data=image_folder", f"data.root={tmp_path / 'rare'}", "data.image_size=[48,48]")
    tiny = [each for each in TINY if not each.startswith("data.")]
    tiny += ["hardware=[mid_tablet]", "trainer.candidates=1", "trainer.steps=3"]
    losses = set()
    for number, asked in enumerate(("data.flip=true", "data.class_weights=balanced", "data.sampling=balanced")):
        config = validate(composed(*tiny, *folder, asked, f"paths.runs={tmp_path}", f"sweep=sweep{number}"))
        run(identified(config), lambda line: None)
        (made,) = (tmp_path / f"sweep{number}").iterdir()
        losses.add(tuple(load_run(made).metrics["train/loss"]))
    assert len(losses) == 3
