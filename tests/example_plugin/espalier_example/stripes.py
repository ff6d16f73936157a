"""A data set: grey images of stripes with noise, classified by their direction."""

import torch

from trainers.data.image_set import DATASETS, ImageSet


@DATASETS.register("stripes")
def read_stripes() -> ImageSet:
    """800 images of 16 x 16: upright, lying, and the two diagonals."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(800) % 4
    phases = torch.randint(8, (800, 1, 1), generator=generator)
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    positions = torch.stack([columns, rows, rows + columns, rows - columns])[labels]
    noise = torch.randint(64, (800, 16, 16), generator=generator)
    images = 128 * ((positions + phases) % 8 < 4) + noise
    return ImageSet("stripes", images[:, None].byte(), labels, num_classes=4, is_test=None, origin="drawn, 800 images")
