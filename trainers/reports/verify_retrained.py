"""Everything that the result of a training rests on, made again from the files of its folder and compared."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import yaml

from search_spaces.architecture import Architecture, build_network, build_space, read_architecture
from search_spaces.blocks import without_resize
from search_spaces.errors import EspalierError
from search_spaces.regular_files import text_of
from search_spaces.space import image_shape
from trainers.analysis.run_files import read_table
from trainers.data.datasets import ImageData, content_of, data_config, load_data
from trainers.deploy.onnx_file import file_record, score_file
from trainers.deploy.retrain_config import RetrainConfig, validate
from trainers.deploy.retrain_result import RESULT, RetrainResult, best_of, lost_files, spread
from trainers.deploy.standalone import load_weights, score
from trainers.reports.check import Check, compare
from trainers.runs import metric_names
from trainers.runs.files import read_as
from trainers.runs.plugins import require_plugins
from trainers.runs.state import state_of
from trainers.runs.versions import file_hashes

ARCHITECTURE, METRICS = "architecture.json", "metrics.csv"
# Raised where a file, which may come from elsewhere, holds what no training writes.
UNFIT = (EspalierError, OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
NOT_CHECKED = (
    Check("time of training", "not checked", "no other file has it", ("seeds.*.train_seconds",)),
    Check("the process that trained", "not checked", "no other file has it", ("threads", "processors", "versions")),
    Check("origin of the data", "not checked", "the same images may lie elsewhere", ("data.origin",)),
)


def verify_retrained(folder: Path) -> list[Check]:
    """All checks of a finished training. Raises: InvalidInputError if its plug-ins are not here."""
    try:
        result, state = read_as(folder / RESULT, RetrainResult), state_of(folder)
    except EspalierError as error:
        return [Check("files of the run", "FAILED", str(error))]
    content = yaml.safe_load(text_of(folder / "config.yaml"))
    require_plugins(content if isinstance(content, dict) else {}, state.code.get("plugins", {}))
    checks = list(_files(folder, result))
    recorded = {"status": result.status, "command": result.command, "attempts": result.attempts}
    found = {"status": state.state, "command": state.command, "attempts": state.attempt}
    checks.append(compare("status", recorded, found, field=""))
    try:
        for check in _remade(folder, result, validate(content)):
            checks.append(check)
    except UNFIT as error:
        checks.append(Check("network and data", "FAILED", f"{type(error).__name__}: {error}"))
    return [*checks, *NOT_CHECKED]


def _files(folder: Path, result: RetrainResult) -> Iterator[Check]:
    own = [ARCHITECTURE, "config.yaml", METRICS, result.file.path, *(seed.weights for seed in result.seeds)]
    yield compare("files", sorted(result.files), sorted(own), field="files")
    lost = lost_files(folder, result)
    for name in own:
        if name in lost or not (folder / name).resolve().is_relative_to(folder.resolve()):
            yield Check(f"file {name}", "FAILED", "it is missing, or outside of the run", (f"files.{name}",))
        else:
            yield compare(f"file {name}", {name: result.files.get(name)}, file_hashes(folder, [name]), field="files")


def _remade(folder: Path, result: RetrainResult, config: RetrainConfig) -> Iterator[Check]:
    architecture = read_architecture(folder / ARCHITECTURE)
    _, height, width = image_shape(build_space(architecture).inputs_of(architecture.choices))
    yield compare("network", *_of_network(result, architecture, (height, width)), field="")
    yield compare("seeds", [each.seed for each in result.seeds], config.all_seeds, field="seeds")
    rows = read_table(folder / METRICS, required=(metric_names.SEED, metric_names.EPOCH)).to_dict("records")
    last = {int(row[metric_names.SEED]): row for row in rows}
    for k, seed in enumerate(result.seeds):
        own = {"train_loss": seed.train_loss, "validation": seed.validation.model_dump(include={"accuracy", "loss"})}
        row = last[seed.seed]
        validation = {"accuracy": row[metric_names.VALIDATION_ACCURACY], "loss": row[metric_names.VALIDATION_LOSS]}
        remade = {"train_loss": row[metric_names.TRAIN_LOSS], "validation": validation}
        yield compare(f"seed {seed.seed}: last epoch", own, remade, field=f"seeds.{k}")
    yield compare("steps", result.steps, rows[-1][metric_names.STEP], field="steps")
    yield from _of_seeds(result)
    try:
        asked = data_config({**config.data, "content": None})
        asked = asked.model_copy(update={"content": content_of(asked)})
        data = load_data(asked, image_size=(height, width), joined=config.joined)
    except (EspalierError, OSError) as error:
        yield Check("data and accuracies", "not checked", f"the data cannot be read here: {error}", ("data",))
        return
    yield compare("content of the data", result.asked["data"]["content"], asked.content, field="asked.data.content")
    recorded = result.data.model_dump(exclude={"origin"}, exclude_none=True)
    yield compare("data", recorded, data.record().model_dump(include=set(recorded)), field="data")
    yield from _tested(folder, result, architecture, data, config.batch_size)


def _of_network(
    result: RetrainResult, architecture: Architecture, size: tuple[int, int]
) -> tuple[dict[str, object], dict[str, object]]:
    """What is recorded of the network, and what its architecture file says."""
    space = build_space(architecture)
    operations = space.operations(architecture.choices)
    found: dict[str, object] = {
        "space": space.name,
        "notation": space.notation(architecture.choices),
        "id": architecture.id,
        "input_size": list(size),
        "gflops": sum(each.macs for each in operations) / 1e9,
        "params_m": sum(each.params for each in operations) / 1e6,
    }
    return result.model_dump(include=set(found)), found


def _of_seeds(result: RetrainResult) -> Iterator[Check]:
    """Mean and deviation over the seeds, and which of them is the best."""
    for kind in ("validation", "test"):
        found = spread([getattr(each, kind).accuracy for each in result.seeds])
        recorded = getattr(result, f"{kind}_accuracy")
        yield compare(f"{kind} accuracy", recorded.model_dump(), found.model_dump(), field=f"{kind}_accuracy")
    yield compare("best seed", result.best_seed, best_of(result.seeds).seed, field="best_seed")


def _tested(
    folder: Path, result: RetrainResult, architecture: Architecture, data: ImageData, batch_size: int
) -> Iterator[Check]:
    """Each seed's weights scored again, and the file on the images as they are stored, to within one image."""
    for k, seed in enumerate(result.seeds):
        network = without_resize(build_network(architecture))
        load_weights(network, folder / seed.weights, id=architecture.id)
        for split in ("validation", "test"):
            found = score(network, data, split, images=None, batch_size=batch_size)
            recorded = getattr(seed, split).model_dump()
            yield _scores(f"seed {seed.seed}: {split}", recorded, asdict(found), field=f"seeds.{k}.{split}")
    file, content = result.file, (folder / result.file.path).read_bytes()
    made = file_record(Path(file.path), content, data)
    yield compare("file", file.model_dump(), made.model_dump(), field="file")
    found = score_file(content, data, "test", threads=torch.get_num_threads())
    yield _scores("deployed", result.deployed.model_dump(), asdict(found), field="deployed")


def _scores(what: str, recorded: dict[str, float], found: dict[str, float], *, field: str) -> Check:
    """Another machine may round a tie another way: then one image, and with it the balanced accuracy, may differ."""
    if 0 < abs(recorded["accuracy"] - found["accuracy"]) * found["images"] <= 1.5:
        found |= {key: recorded[key] for key in ("accuracy", "balanced_accuracy")}
    return compare(what, recorded, found, field=field, tolerance=1e-4)
