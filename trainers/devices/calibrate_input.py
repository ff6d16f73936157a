"""What a calibration or a proposal starts from, read and checked before any fit."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from hardware_models.calibration.calibration import check_rows
from hardware_models.calibration.model_fit import MODEL_FITS
from hardware_models.calibration.profile_file import Description
from hardware_models.measuring.measurements import IMPORTERS, Measurements, read_layers
from hardware_models.profile import BYTES_PER_ELEMENT, Precision
from search_spaces.errors import InvalidInputError
from trainers.devices.command_config import CalibrateConfig
from trainers.devices.measure_plan import Item, random_networks, space_of

RANDOM_CANDIDATES = 1000  # networks of a space among which to choose


def checked_measurements(config: CalibrateConfig) -> Measurements:
    """The measurements that a profile is fitted to. Raises: InvalidInputError for what cannot be used."""
    _check_outputs([config.output_path, config.report_folder], overwrite=config.overwrite)
    if config.model is not None and config.model not in MODEL_FITS:
        raise InvalidInputError(f"model: got {config.model!r}; allowed: {', '.join(MODEL_FITS)}")
    measurements = _read(config)
    assert measurements is not None  # checked with the configuration
    return measurements


def checked_candidates(config: CalibrateConfig) -> tuple[list[Item], Measurements | None]:
    """Networks to choose from in random order, those of a space with their architectures, and what is measured already.

    Raises: InvalidInputError for what cannot be used.
    """
    _check_outputs([config.output_path], overwrite=config.overwrite)
    measurements = _read(config)
    if measurements is not None:
        if measurements.subject != "network":
            raise InvalidInputError(
                f"measurements: {measurements.path} has {measurements.subject}s; proposals need whole networks"
            )
        precision = precision_of(config, measurements) or "fp32"
        check_rows(measurements, precision=precision, unusual_speed=config.unusual_speed)
    if config.candidates is not None:
        layers = read_layers(Path(os.path.expanduser(config.candidates)))
        items = [Item(name, None, operations) for name, operations in layers.items()]
        return Random(config.seed).sample(items, len(items)), measurements
    space = space_of(config)
    return random_networks(space, min(RANDOM_CANDIDATES, space.num_networks), Random(config.seed)), measurements


def precision_of(config: CalibrateConfig, measurements: Measurements | None) -> Precision | None:
    """The precision that the command line or the file states."""
    stated = None if measurements is None else measurements.constants.get("precision")
    return config.precision or next((known for known in BYTES_PER_ELEMENT if known == stated), None)


def describe(config: CalibrateConfig, measurements: Measurements) -> Description:
    """What the configuration and the file say of the device; what neither says is assumed, and said to be."""
    stated, precision = measurements.constants, precision_of(config, measurements)
    versions = dict.fromkeys(row.fields["versions"] for row in measurements.rows if row.fields.get("versions"))
    assumed = ("fp32: the measurements do not say at which precision they were taken.",)
    assert config.name is not None
    return Description(
        name=config.name,
        title=config.title or stated.get("machine", config.name),
        runtime=config.runtime or stated.get("runtime", "not stated"),
        runtime_version="; ".join(versions) or None,
        threads=config.threads or (int(stated["threads"]) if "threads" in stated else None),
        precision=precision or "fp32",
        assumed=() if precision else assumed,
    )


def _read(config: CalibrateConfig) -> Measurements | None:
    """The measurements, if they are given, in agreement with what the configuration says of them."""
    if config.measurements_path is None:
        return None
    if config.format not in IMPORTERS:
        raise InvalidInputError(f"format: got {config.format!r}; allowed: {', '.join(IMPORTERS)}")
    measurements = IMPORTERS[config.format](config.measurements_path, device=config.device)
    problems = list(_contradictions(config, measurements))
    if problems:
        raise InvalidInputError("\n".join(problems))
    return measurements


def _contradictions(config: CalibrateConfig, measurements: Measurements) -> Iterator[str]:
    """What the command line says and the file denies."""
    for key in ("runtime", "threads", "precision"):
        given, stated = getattr(config, key), measurements.constants.get(key)
        if given is not None and stated is not None and str(given) != stated:
            yield f"{key}: got {given!r}, but {measurements.path} says {stated!r}; leave it out, or give the right file"
    stated = measurements.constants.get("precision")
    if config.precision is None and stated not in (None, *BYTES_PER_ELEMENT):
        yield f"precision: {measurements.path} says {stated!r}; allowed: {', '.join(BYTES_PER_ELEMENT)}"


def _check_outputs(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Raises: InvalidInputError for outputs that exist."""
    there = [str(path) for path in paths if os.path.exists(path)]
    if there and not overwrite:
        raise InvalidInputError(f"output: {' and '.join(there)} exist already; set output, or overwrite=true")
