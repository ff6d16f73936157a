"""From the folder of a finished search or training to the files of its networks, their figures and model cards."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from hardware_models.measuring.measure import versions
from hardware_models.measuring.runner import machine_description
from search_spaces.architecture import build_network, inputs_of, read_architecture
from search_spaces.blocks import without_resize
from search_spaces.errors import EspalierError, InvalidInputError
from search_spaces.space import image_shape
from trainers.data.datasets import DataConfig, ImageData, data_config, load_data, read_images
from trainers.deploy.export_config import ExportConfig
from trainers.deploy.exported import SUFFIXES, describe_file, make_files, program_of, test_program
from trainers.deploy.standalone import load_weights
from trainers.reports.export_source import Finished, Source, finished_run
from trainers.reports.model_card import model_card
from trainers.runs.exports import NAME, Export, ExportedNetwork, Precision
from trainers.runs.files import write_bytes, write_text

Report = Callable[[str], None]


def run_export(config: ExportConfig, report: Report, *, command: str) -> Export:
    """Writes and tests the files of a run's networks, reports them as a table, and returns what it wrote of them.

    Raises: InvalidInputError for a run, a device or data that cannot be exported, before any file is made.
    """
    run = finished_run(config.run_folder, config.devices)
    data = _data_of(run, config.data_root)
    limits: dict[Precision, float] = {
        "fp32": 1 / max(1, run.data.images.test),  # sums in another order may break a tie
        "int8": config.limits.accuracy_drop,
    }
    networks = {}
    for source in run.sources:
        network, sized = _export_network(source, run, data, config, limits)
        card = model_card(source, run.data, network, sized, calibration_images=config.calibration_images)
        write_text(config.output_folder / network.card, card)
        networks[source.name] = network
    is_met = all(file.within_limit for network in networks.values() for file in network.files)
    export = Export(
        schema=1,
        status="done" if is_met else "unmet",
        run=config.run_folder.resolve().name,
        command=command,
        accuracy_drop=limits,
        calibration_images=config.calibration_images,
        threads=config.threads,
        repeats=config.repeats,
        devices=networks,
        machine=machine_description(),
        versions=versions(),
    )
    write_text(config.output_folder / NAME, export.to_json())
    for line in table_lines(export, config.output_folder):
        report(line)
    return export


def _data_of(run: Finished, root: str | None) -> DataConfig:
    """The data of a run, read; they may lie elsewhere now. Raises: InvalidInputError if they are not here."""
    content = {**run.content} | ({} if root is None else {"root": root})
    try:
        data = data_config(content)
        read_images(data)
    except (EspalierError, OSError) as error:
        raise InvalidInputError(
            f"data_root: the data of the run cannot be read: {error}; files are tested on them: give the folder that "
            "they lie in now, as data_root=my_images"
        ) from error
    return data


def _export_network(
    source: Source, run: Finished, config: DataConfig, asked: ExportConfig, limits: Mapping[Precision, float]
) -> tuple[ExportedNetwork, ImageData]:
    """The files of a network, written and tested; and the data at its size."""
    architecture = read_architecture(source.architecture)
    network = build_network(architecture).eval()
    try:
        load_weights(network, source.weights, id=architecture.id)
    except InvalidInputError as error:
        raise InvalidInputError(f"run: {error}; verify it: espalier-report verify {asked.run}") from error
    channels, height, width = image_shape(inputs_of(architecture))
    config = config.model_copy(update={"channels": channels})
    data = load_data(config, image_size=(height, width), joined=run.joined)
    module = without_resize(network)
    reference = test_program(program_of(module, data), data)
    images = [image for image, _ in data.stored("weights", images=asked.calibration_images)]
    written = source.onnx.read_bytes() if source.onnx is not None and source.onnx.is_file() else None
    metadata = {"architecture": architecture.id, "run": source.run}
    files = []
    for format in asked.formats:
        made = make_files(
            module,
            data,
            format,
            asked.precisions,
            images=images,
            written=written,
            metadata=metadata,
            litert_python=asked.litert_python,
        )
        for precision in asked.precisions:
            file = f"{source.name}{'' if precision == 'fp32' else '.' + precision}{SUFFIXES[format]}"
            write_bytes(asked.output_folder / file, made[precision])
            tested = describe_file(
                file,
                made[precision],
                format,
                precision,
                data,
                reference=reference,
                fp32_bytes=len(made["fp32"]),
                accuracy_drop=limits[precision],
                threads=asked.threads,
                repeats=asked.repeats,
                litert_python=asked.litert_python,
            )
            files.append(tested)
    exported = ExportedNetwork(
        architecture=architecture.id,
        accuracy=reference.score.accuracy,
        largest_output=float(reference.outputs_NK.abs().max()),
        card=f"{source.name}.md",
        files=files,
    )
    return exported, data


def table_lines(export: Export, folder: Path) -> list[str]:
    """A row for each file, and where they are."""
    rows = [["file", "accuracy", "change", "balanced", "difference", "bytes", "of fp32", "ms", "within limit"]]
    for network in export.devices.values():
        for file in network.files:
            balanced = "" if file.balanced_accuracy is None else f"{file.balanced_accuracy:.3f}"
            rows.append(
                [
                    *(file.path, f"{file.accuracy:.3f}", f"{file.accuracy_change:+.3f}", balanced),
                    *(f"{file.largest_difference:.2g}", f"{file.bytes:,}", f"{file.share:.2f}"),
                    *(f"{file.latency_ms:.3g}", "yes" if file.within_limit else "NO"),
                ]
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    images = next(iter(export.devices.values())).files[0].images
    beside = f"{images:,} test images; change and difference are to the network in PyTorch; ms of {export.machine}"
    return [*lines, beside, f"result  {os.path.join(folder, NAME)}"]
