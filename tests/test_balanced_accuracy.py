"""Beside an accuracy stand the mean over classes and what always answering with the most frequent class would give."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import noise
from PIL import Image
from tiny_search import TINY, composed
from torch import Tensor, nn

from trainers.analysis.loading import load_run
from trainers.cli.search import run_search
from trainers.data.datasets import ImageData
from trainers.data.image_set import ImageSet
from trainers.data.splits import Splits
from trainers.deploy.standalone import score
from trainers.reports.publish import last_figures
from trainers.runs.config import validate

COUNTS = (6, 3, 0, 1)  # test images of each class: the names of classes are a, b, c, d


def answering(answers: list[int]) -> tuple[ImageData, nn.Module]:
    """Data whose test images are of the classes that COUNTS says, and a network that answers so, image by image."""
    labels = torch.tensor([0, 1, 2, 3] * 2 + [label for label, num in enumerate(COUNTS) for _ in range(num)])
    num, tests = len(labels), torch.arange(8, len(labels))
    images = torch.arange(num, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 4, 4)
    image_set = ImageSet("made", images, labels, 4, None, "made here", classes=("a", "b", "c", "d"))
    splits = Splits(torch.arange(4), torch.arange(4), torch.arange(4, 8), tests, "")
    data = ImageData(image_set, splits, image_size=(4, 4), channels=1)

    class Answers(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            levels = (x[:, 0, 0, 0] * data.std + data.mean) * 255
            return nn.functional.one_hot(torch.tensor(answers)[levels.round().long() - 8], 4).float()

    return data, Answers()


@pytest.mark.parametrize("batch_size", [3, 64])
def test_the_balanced_accuracy_is_the_mean_over_classes_with_images(batch_size: int) -> None:
    data, network = answering([0, 0, 0, 0, 0, 1, 1, 0, 0, 2])  # right: 5 of 6, 1 of 3, 0 of 1
    found = score(network, data, "test", images=None, batch_size=batch_size)
    assert (found.accuracy, found.images) == (0.6, 10)
    assert found.balanced_accuracy == pytest.approx((5 / 6 + 1 / 3 + 0) / 3)


def test_always_the_majority_class_is_as_accurate_as_its_share_and_no_better_balanced_than_chance() -> None:
    data, network = answering([0] * 10)
    found, majority = score(network, data, "test", images=None, batch_size=4), data.record().majority
    assert majority is not None and (majority.name, majority.share) == ("a", found.accuracy)
    assert found.balanced_accuracy == pytest.approx(1 / 3)


def test_classes_without_test_images_are_named() -> None:
    assert answering([0] * 10)[0].record().untested == ["c"]


def test_a_rare_class_shows_in_every_figure_of_a_run(tmp_path: Path) -> None:
    """Noise, 19 images of one class to one of another: an accuracy of 0.95 means nothing."""
    for name, num in (("healthy", 285), ("defect", 15)):
        (tmp_path / "rare" / name).mkdir(parents=True)
        for number in range(num):
            pixels = noise(16, 16, 3, seed=1000 * num + number)
            Image.fromarray(pixels).save(tmp_path / "rare" / name / f"{number}.png")
    folder = ("data=image_folder", f"data.root={tmp_path / 'rare'}", "data.image_size=[48,48]")
    lines: list[str] = []
    tiny = [each for each in TINY if not each.startswith("data.")]
    one = ("hardware=[mid_tablet]", "trainer.candidates=2")
    config = validate(composed(*tiny, *folder, *one, "trainer.steps=40", f"paths.runs={tmp_path / 'runs'}"))
    result = run_search(config, lines.append)
    majority = result.data.majority
    assert majority is not None and (majority.name, majority.share) == ("healthy", 0.95)
    shown, figures = "\n".join(lines), last_figures(result)
    (run,) = (tmp_path / "runs").glob("*/*")
    report, frame = (run / "report.html").read_text(encoding="utf-8"), load_run(run).devices.set_index("device")
    assert figures["result/majority_share"] == 0.95 and "data.majority.share" in report and "0.950" in shown
    for name, device in result.devices.items():
        accuracy, balanced = device.accuracy, device.accuracy.balanced
        assert set(balanced.shares) == set(accuracy.shares) == {"supernet", "inherited", "finetuned", "random"}
        if accuracy.finetuned == 0.95:  # one class is right and the other wrong, or nearly so
            assert balanced.finetuned == pytest.approx(0.5, abs=0.17)  # of 3 images of the rare class, one
        for kind, share in balanced.shares.items():
            assert figures[f"result/{name}/balanced_accuracy_{kind}"] == share
            assert frame.loc[name, f"accuracy_balanced_{kind}"] == share
            assert f"devices.{name}.accuracy.balanced.{kind}" in report and f"{share:.3f}" in shown
        assert np.isfinite(frame.loc[name, "accuracy_balanced_validation"])
