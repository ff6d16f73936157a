"""One network trained again: found finished, resumed or begun; its best seed exported, all of it written."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
import yaml

from search_spaces.architecture import build_network, build_space
from search_spaces.blocks import without_resize
from search_spaces.errors import EspalierError
from trainers.deploy.onnx_file import file_record, onnx_file, score_file
from trainers.deploy.retrain_job import Job
from trainers.deploy.retrain_plan import Plan, Report, prepare
from trainers.deploy.retrain_result import RESULT, SCHEMA, RetrainResult, SeedResult, best_of, finished_in, spread
from trainers.deploy.retrain_state import STATE, State
from trainers.deploy.retrain_training import Training
from trainers.deploy.standalone import load_weights
from trainers.runs.exit_status import status_of
from trainers.runs.files import write_bytes, write_text
from trainers.runs.folder import RunFolder
from trainers.runs.plugins import code_of
from trainers.runs.result_parts import Validation
from trainers.runs.versions import file_hashes, versions

ONNX, ARCHITECTURE = "network.onnx", "architecture.json"
FROM_PYTHON = "retrain() from Python, with the configuration in config.yaml"


def retrain(job: Job, report: Report, *, command: str = FROM_PYTHON) -> RetrainResult:
    """The result of a job: found finished in its run folder, or trained, or trained to its end.

    Raises: InvalidInputError before any work; RunInUseError if another process is at it; RunFolderError; DivergedError;
    KeyboardInterrupt, with its number, on a signal.
    """
    found = finished_in(job.run_folder)
    if found is None:
        plan = prepare(job, report)
        folder = RunFolder(job.run_folder, command=command)
        folder.take()
        try:
            found = finished_in(job.run_folder)  # another process may have ended it meanwhile
            if found is None:
                found = _attempt(plan, folder, report)
                report_result(found, job.run_folder, report)
                return found
        finally:
            folder.release()
    report(f"this training is finished already: {job.run_folder}; delete the folder to run it again")
    report_result(found, job.run_folder, report)
    return found


def _attempt(plan: Plan, folder: RunFolder, report: Report) -> RetrainResult:
    content = plan.job.config.model_dump(mode="json")
    threads = torch.get_num_threads()
    try:
        folder.start(
            {"hashes": {"data_split": plan.data.splits.hash}, "code": vars(code_of(content)), "versions": versions()}
        )
        write_text(folder.path / "config.yaml", yaml.safe_dump(content, sort_keys=False))
        write_text(folder.path / ARCHITECTURE, plan.job.architecture.to_json())
        result = _write_result(plan, Training(plan, folder, report).run(), folder)
        folder.close(result.status)
    except BaseException as error:
        status = status_of(error)
        with suppress(EspalierError):  # what fails here does not hide the error that ended it
            if status.state == "failed":
                folder.log_exception()
            folder.close(status.state, status.reason)
        raise
    finally:
        torch.set_num_threads(threads)
    (folder.path / STATE).unlink(missing_ok=True)
    return result


def _write_result(plan: Plan, state: State, folder: RunFolder) -> RetrainResult:
    """Exports the best network, scores its file, and writes the result."""
    path, architecture = folder.path, plan.job.architecture
    seeds, space = [SeedResult(**each) for each in state.finished], build_space(architecture)
    best = best_of(seeds)
    network = without_resize(build_network(architecture))
    load_weights(network, path / best.weights, id=architecture.id)
    content = onnx_file(network, plan.data, {"architecture": architecture.id, "run": plan.job.run_key})
    write_bytes(path / ONNX, content)
    deployed = score_file(content, plan.data, "test", threads=torch.get_num_threads())
    operations = space.operations(architecture.choices)
    names = [ARCHITECTURE, "config.yaml", "metrics.csv", ONNX, *(each.weights for each in seeds)]
    result = RetrainResult(
        schema=SCHEMA,
        status="done",
        command=folder.command,
        attempts=folder.attempt,
        space=space.name,
        notation=space.notation(architecture.choices),
        id=architecture.id,
        input_size=list(plan.data.image_size),
        gflops=sum(each.macs for each in operations) / 1e9,
        params_m=sum(each.params for each in operations) / 1e6,
        data=plan.data.record(),
        asked=dict(plan.job.asked),
        steps=plan.steps,
        seeds=seeds,
        validation_accuracy=spread([each.validation.accuracy for each in seeds]),
        test_accuracy=spread([each.test.accuracy for each in seeds]),
        best_seed=best.seed,
        file=file_record(Path(ONNX), content, plan.data),
        deployed=Validation(**asdict(deployed)),
        files=file_hashes(path, names),
        versions=versions(),
        threads=state.threads,
        processors=state.processors,
        code=code_of(plan.job.config.model_dump(mode="json")),
    )
    write_text(path / RESULT, result.to_json())
    return result


def report_result(result: RetrainResult, folder: Path, report: Report) -> None:
    """The last lines: accuracies over the seeds, and the file."""
    for name, found in (("validation", result.validation_accuracy), ("test", result.test_accuracy)):
        beside = "" if found.deviation is None else f" ± {found.deviation:.4f} ({len(result.seeds)} seeds)"
        report(f"{name:11} {found.mean:.4f}{beside}")
    report(f"file        {folder / result.file.path} (seed {result.best_seed}, the best by validation)")
    report(f"deployed    {result.deployed.accuracy:.4f} ({result.deployed.images:,} test images as they are stored)")
    report(f"result      {folder / RESULT}")
