"""A data set of torchvision, in the parts that it comes in."""

from torchvision.datasets import Flowers102

from trainers.data.adapters import read_examples
from trainers.data.image_set import DATASETS


@DATASETS.register("flowers")
def read_flowers(root, image_size, subset, storage):
    train, validation, test = (Flowers102(root, split=part) for part in ("train", "val", "test"))
    how = {"image_size": image_size, "subset": subset, "storage": storage}
    return read_examples("flowers", train, validation=validation, test=test, **how)
