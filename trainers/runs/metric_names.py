"""The names of a run's metrics: columns of `metrics.csv`, histories of loggers, axes of dashboards and notebooks."""

from collections.abc import Iterable

EPOCH = "epoch"
SEED = "seed"  # of a network that is trained with several
STEP = "step"  # updates of the supernet's weights

TRAIN_LOSS = "train/loss"
LEARNING_RATE = "train/lr"
TRAIN_ACCURACY = "train/acc"  # accuracies are shares in [0, 1]
VALIDATION_LOSS = "val/loss"
VALIDATION_ACCURACY = "val/acc"
STEP_SECONDS = "time/step_s"

ENTROPY = "arch/entropy"  # a share of the largest possible
CHOICES_ALIVE = "prune/choices_alive"  # of all devices

# Test accuracy of the fine-tuned networks less that of the named ones, mean over devices.
GAP_SUPERNET = "gap/supernet"
GAP_INHERITED = "gap/inherited"
DEVICE_HOURS = "cost/device_hours"  # hours that the processes of the search computed, each on a GPU or on none

PRUNE_EVENTS = "prune/events"  # tables
ARCHITECTURES = "architectures"
ALPHA_HEAT_MAP = "arch/alphas"  # pictures


def share(operation: str) -> str:
    """Mass of an operation, averaged over the decisions that choose operations and over the devices."""
    return f"arch/{operation}_share"


def expected(device: str, metric: str) -> str:
    """Cost of the average network, by the figure that the budget is checked against."""
    return f"hw/{device}/{metric}_expected"


def budget(device: str, metric: str) -> str:
    return f"hw/{device}/{metric}_budget"


def slack(device: str, metric: str) -> str:
    """Budget less expected cost."""
    return f"hw/{device}/{metric}_slack"


def worst(device: str, metric: str) -> str:
    """Cost of the most expensive network that is left."""
    return f"hw/{device}/{metric}_worst"


def met(device: str) -> str:
    """1 if every network that is left meets every budget, at the end if the one network does; else 0."""
    return f"hw/{device}/met"


def devices_of(names: Iterable[str]) -> list[str]:
    """The devices that the metrics in `names` speak of, in order."""
    return [parts[1] for name in names if len(parts := name.split("/")) == 3 and parts[0] == "hw" and parts[2] == "met"]


def architecture_picture(device: str) -> str:
    return f"architecture/{device}"


def result(figure: str) -> str:
    """A figure of the objective in result.json, such as `validation_accuracy` or `<device>/latency_ms`."""
    return f"result/{figure}"
