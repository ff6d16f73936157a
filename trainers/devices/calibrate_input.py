"""What a calibration starts from, read and checked as a whole: all that is wrong is told at once, before any fit."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import get_args

from hardware_models.calibration.calibration import problems_of
from hardware_models.calibration.profile_file import Description
from hardware_models.importers.formats import read_table
from hardware_models.measuring.measurements import Measurements, read_layers, read_measurements, refusal
from hardware_models.profile import BYTES_PER_ELEMENT, Precision
from search_spaces.architecture import SPACES
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation
from trainers.devices.calibrate_config import CalibrateConfig
from trainers.devices.measure_plan import Item, random_networks
from trainers.search.plan import check_arguments, make_space

RANDOM_CANDIDATES = 1000  # networks of a space among which to choose


def checked_measurements(config: CalibrateConfig) -> Measurements:
    """The measurements, fit to be calibrated with. Raises: InvalidInputError for all that is wrong at once."""
    problems = list(_taken([config.output_path, config.report_folder], config.overwrite))
    measurements = _read(config, problems)
    if measurements is not None:
        problems += _contradictions(config, measurements)
        problems += _row_problems(config, measurements, config.level)
    if problems or measurements is None:
        raise InvalidInputError("\n".join(problems))
    return measurements


def checked_candidates(config: CalibrateConfig) -> tuple[Mapping[str, Item | Sequence[Operation]], Measurements | None]:
    """Networks to choose from by name, those of a space with their architectures, and what is measured already.

    Raises: InvalidInputError for all that is wrong at once.
    """
    problems = list(_taken([config.output_path], config.overwrite))
    measurements = _read(config, problems)
    if measurements is not None and measurements.subject != "network":
        problems.append(f"{measurements.path} measures single {measurements.subject}s; proposals need whole networks")
    elif measurements is not None:
        problems += _contradictions(config, measurements)
        problems += _row_problems(config, measurements, None)
    candidates: Mapping[str, Item | Sequence[Operation]] = {}
    try:
        candidates = _of_space(config) if config.candidates is None else _of_file(config.candidates)
    except InvalidInputError as error:
        problems.append(str(error))
    if problems:
        raise InvalidInputError("\n".join(problems))
    return candidates, measurements


def precision_of(config: CalibrateConfig, measurements: Measurements | None) -> Precision | None:
    """The precision that the command line or the file states."""
    stated = None if measurements is None else measurements.constants.get("precision")
    return config.precision or next((known for known in BYTES_PER_ELEMENT if known == stated), None)


def describe(config: CalibrateConfig, measurements: Measurements) -> Description:
    """What the configuration and the file say of the device; what neither says is assumed, and said to be."""
    stated, assumed = measurements.constants, []
    precision = precision_of(config, measurements)
    if precision is None:
        assumed.append("fp32: the measurements do not say at which precision they were taken.")
    threads = config.threads or (int(stated["threads"]) if "threads" in stated else None)
    assert config.name is not None
    return Description(
        name=config.name,
        title=config.title or stated.get("machine", config.name),
        runtime=config.runtime or stated.get("runtime", "not stated"),
        threads=threads,
        precision=precision or "fp32",
        assumed=tuple(assumed),
    )


def _read(config: CalibrateConfig, problems: list[str]) -> Measurements | None:
    """The measurements, if they are given and sound; what is wrong with them joins `problems`."""
    if config.measurements_path is None:
        return None
    try:
        if config.format == "measurements":
            return read_measurements(config.measurements_path)
        return read_table(config.measurements_path, config.format, device=config.device)
    except InvalidInputError as error:
        problems.append(str(error))
        return None


def _row_problems(config: CalibrateConfig, measurements: Measurements, level: float | None) -> list[str]:
    precision = precision_of(config, measurements) or "fp32"
    found = problems_of(
        measurements, model=config.model, level=level, precision=precision, unusual_speed=config.unusual_speed
    )
    wrong = list(found)
    return [str(refusal(measurements.path, wrong))] if wrong else []


def _of_space(config: CalibrateConfig) -> dict[str, Item]:
    assert config.space is not None
    check_arguments("space", SPACES, config.space, given=frozenset({"num_classes", "channels"}))
    space = make_space(config.space, num_classes=config.num_classes)
    items = random_networks(space, min(RANDOM_CANDIDATES, space.num_networks), Random(config.seed))
    return {item.name: item for item in items}


def _of_file(name: str) -> dict[str, Sequence[Operation]]:
    layers = read_layers(Path(os.path.expanduser(name)))
    return {name: network.operations for name, network in layers.items()}


def _taken(paths: Sequence[Path], overwrite: bool) -> Iterator[str]:
    """Outputs that exist, and a folder that cannot be written."""
    there = [str(path) for path in paths if os.path.exists(path)]
    if there and not overwrite:
        yield f"output: {' and '.join(there)} exist already; set output, or overwrite=true"
    folder = next(parent for parent in paths[0].absolute().parents if os.path.exists(parent))
    if not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        yield f"output: cannot write into {folder}; set output to a place where you can"


def _contradictions(config: CalibrateConfig, measurements: Measurements) -> Iterator[str]:
    """What the command line says and the file denies."""
    for key in ("runtime", "threads", "precision"):
        given, stated = getattr(config, key), measurements.constants.get(key)
        if given is not None and stated is not None and str(given) != stated:
            yield f"{key}: got {given!r}, but {measurements.path} says {stated!r}; leave it out, or give the right file"
    stated = measurements.constants.get("precision")
    if config.precision is None and stated is not None and precision_of(config, measurements) is None:
        yield f"{measurements.path}: precision is {stated!r}; allowed: {', '.join(get_args(Precision))}"
