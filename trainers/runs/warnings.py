"""What a reader should know before trusting a result: decided from result.json alone, each with its reason."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainers.runs.result import DeviceResult, Result
from trainers.runs.result_parts import Data

WELL_USED = 0.8  # share of the binding budget below which the larger candidates that lost are named
GAP = 0.05  # share of images by which accuracy may move from validation to test without a warning
FEW_IMAGES = 1000  # of the test split: below it, one image is more than a thousandth
WIDE_ERROR = 0.25  # mean absolute error of a profile as a share, above which a warning names it
UNDECIDED = 0.5  # share of the largest entropy, above which a strategy has not decided
BASELINE = "random"  # the strategy that others are compared with, and which decides nothing
SHOWN_CLASSES = 5  # without test images that a warning names
Figure = tuple[str, tuple[str | int, ...]]  # words, and the path of the field of result.json that they speak of


@dataclass(frozen=True)
class Warned:
    """A warning about a device, or about the search as a whole."""

    device: str | None
    what: str
    why: str
    figures: tuple[Figure, ...] = ()


def warnings_of(result: Result) -> list[Warned]:
    """All warnings of a finished run: those of the data, of the search, and of each device."""
    found = list(warnings_of_data(result.data))
    for name, device in result.devices.items():
        found += _of_classes(name, device, result.data)
    found += _of_search(result)
    for name, device in result.devices.items():
        found += _of_budgets(name, device)
        found += _of_accuracy(name, device, is_baseline=result.strategy == BASELINE)
        found += _of_profile(name, device)
        found += _of_file(name, device)
        found += _of_parent(name, device)
    return found


def _of_search(result: Result) -> Iterator[Warned]:
    other_code, other_processor = bool(result.earlier_code), len(result.processors) > 1
    if result.attempts > 1:
        alike = "" if other_code or other_processor else "; results are"
        why = f"it was resumed or begun again; times are not those of an uninterrupted run{alike}"
        yield Warned(None, "more than one attempt", why, (("attempts", ("attempts",)),))
    if other_code:
        why = "it was resumed with other files of Espalier, so no uninterrupted run gives these results"
        yield Warned(None, "Espalier changed during the search", why)
    if other_processor:
        why = "it was resumed on another; rounding differs, so an uninterrupted run may choose otherwise"
        yield Warned(None, "more than one kind of processor", why)
    if result.code.changed:
        why = "its files are not those of the commit, which alone does not make this again; their hash is recorded"
        yield Warned(None, "Espalier changed since its commit", why)
    if (result.search.entropy or 0) > UNDECIDED and result.strategy != BASELINE:
        why = "the strategy still weighs most choices alike, so validation of candidates decided more than the search"
        yield Warned(None, "the search did not decide", why, (("entropy", ("search", "entropy")),))
    if result.data.images.test < FEW_IMAGES:
        why = "small differences between accuracies are noise; repeat over several seeds before comparing"
        yield Warned(None, "few test images", why, (("test images", ("data", "images", "test")),))


def warnings_of_data(data: Data) -> Iterator[Warned]:
    """What is known of the data before a search."""
    counted = {} if data.duplicates is None else data.duplicates.model_dump()
    found = {name: count for name, count in counted.items() if count}
    in_two_classes = found.pop("in_two_classes", 0)
    if found:
        why = "accuracies on them tell nothing of new images; remove these copies, or put them into one part"
        figures = tuple((name.replace("_", " "), ("data", "duplicates", name)) for name in found)
        yield Warned(None, "the same images in two parts", why, figures)
    if in_two_classes:
        why = "no network can tell them apart; correct their labels, or remove them"
        figures = (("images", ("data", "duplicates", "in_two_classes")),)
        yield Warned(None, "the same images in two classes", why, figures)
    if data.untested:
        more = ", as others, all of which are in result.json" if len(data.untested) > SHOWN_CLASSES else ""
        shown = range(min(len(data.untested), SHOWN_CLASSES))
        names: tuple[Figure, ...] = tuple(("class", ("data", "untested", i)) for i in shown)
        yield Warned(None, "classes without test images", f"no accuracy speaks of them{more}; add some", names)


def warning_line(warned: Warned, content: Mapping[str, Any]) -> str:
    """A warning in one line, with its figures from the content of a result."""
    figures = ", ".join(f"{words} {_shown(content, path)}" for words, path in warned.figures)
    about = f"{warned.device}: " if warned.device else ""
    return f"warning {about}{warned.what}{f' ({figures})' if figures else ''}: {warned.why}"


def _shown(value: Any, path: tuple[str | int, ...]) -> str:
    for key in path:
        value = value[key]
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _of_budgets(name: str, device: DeviceResult) -> Iterator[Warned]:
    metric = device.refuted_by or device.binding
    used = (("of its budget used", ("devices", name, "utilisation", metric)),)
    if not device.met:
        why = f"the network given is the last that was tried; {metric} breaks its budget"
        yield Warned(name, "a budget is not met", why, used)
    elif device.used < WELL_USED:
        why = "networks that use more came behind in validation, or the space ends there"
        yield Warned(name, f"over a fifth of the {metric} budget left unused", why, used)  # a fifth is 1 - WELL_USED
    if device.margin == "point":
        why = "margin=point compares the estimate with latency budgets: about half of such networks may be over"
        yield Warned(name, "budget held without a margin", why)
    if device.cut:
        why = "recounting or measuring refuted networks that were predicted to be within; the next ones were taken"
        yield Warned(name, "candidates were refuted", why)


def _of_parent(name: str, device: DeviceResult) -> Iterator[Warned]:
    if device.stale:
        why = "the parent run had pruned them on all devices, so the supernet was not trained for them to the end"
        yield Warned(name, f"{len(device.stale)} choices of the network were pruned before", why)


def _of_file(name: str, device: DeviceResult) -> Iterator[Warned]:
    if device.file is None:
        why = "adapt it with espalier-retrain: how well it does at the image size that it runs at is not known"
        yield Warned(name, "not deployable", why)


def _of_classes(name: str, device: DeviceResult, data: Data) -> Iterator[Warned]:
    if data.majority and device.accuracy.finetuned <= data.majority.share:
        why = "always answering with that class is right as often; the balanced accuracy says what the network is worth"
        figures = (*_accuracies(name, "finetuned"), ("majority class", ("data", "majority", "share")))
        yield Warned(name, "no better than the majority class", why, figures)


def _of_accuracy(name: str, device: DeviceResult, *, is_baseline: bool) -> Iterator[Warned]:
    accuracy = device.accuracy
    if accuracy.supernet is None or accuracy.inherited is None or accuracy.random is None:
        return
    validated, tested = device.validation, accuracy.inherited
    if abs(validated.accuracy - tested) > max(GAP, _noise(validated.accuracy, validated.images, accuracy.images)):
        why = "the same network does otherwise on the test images than on those that ranked it: doubt the ranking"
        figures = (("validation", ("devices", name, "validation", "accuracy")), *_accuracies(name, "inherited"))
        yield Warned(name, "wide gap from validation to test", why, figures)
    if accuracy.inherited <= accuracy.random and not is_baseline:
        why = "with inherited weights it is no better than the best of as many random networks within the same budgets"
        yield Warned(name, "random search is as good", why, _accuracies(name, "inherited", "random"))


def _noise(share: float, *images: int) -> float:
    """Three standard errors of the difference between two shares of so many images."""
    return 3 * math.sqrt(share * (1 - share) * sum(1 / max(1, count) for count in images))


def _accuracies(name: str, *kinds: str) -> tuple[Figure, ...]:
    return tuple((kind, ("devices", name, "accuracy", kind)) for kind in kinds)


def _of_profile(name: str, device: DeviceResult) -> Iterator[Warned]:
    profile = device.profile
    if device.measured is not None or "latency_ms" not in device.budgets:
        return
    if profile.error is None:
        yield Warned(name, "latency of unknown error", profile.error_reason or "no reason is recorded")
    elif profile.error.mape > WIDE_ERROR:
        why = "mean absolute error of the profile on networks it was not fitted to"
        yield Warned(name, "profile of wide error", why, (("error", ("devices", name, "profile", "error", "mape")),))
    if device.upper_level is None and device.margin == "upper":
        none = "the profile has none" if profile.bound is None else f"its bound is of single {profile.bound.subject}s"
        why = f"{none}, so its estimate alone was compared with the budget"
        yield Warned(name, "no upper bound", why)
    elif device.upper_subject not in (None, "network"):
        why = f"the bound covers single {device.upper_subject}s and not whole networks"
        yield Warned(name, "bound of parts", why)
    if (
        profile.widening is not None
        and profile.widening > 1
        and device.upper_level is not None
        and device.margin == "upper"
    ):
        why = "networks of such small or large inputs were not among those measured; its bound is widened, by a rule"
        factor: tuple[Figure, ...] = (("factor", ("devices", name, "profile", "widening")),)
        yield Warned(name, "outside the domain of the profile", why, factor)
