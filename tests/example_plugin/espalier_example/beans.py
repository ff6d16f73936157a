"""A data set of Hugging Face, whose labels stand under a key of their own."""

from datasets import load_dataset

from trainers.data.adapters import read_examples
from trainers.data.image_set import DATASETS


@DATASETS.register("beans")
def read_beans(image_size, subset, storage):
    parts = load_dataset("AI-Lab-Makerere/beans")
    how = {"label": "labels", "image_size": image_size, "subset": subset, "storage": storage}
    return read_examples("beans", parts["train"], validation=parts["validation"], test=parts["test"], **how)
