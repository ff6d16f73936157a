"""A search that has finished before: found and shown without importing what searches, which takes many seconds."""

from glob import escape
from pathlib import Path

from search_spaces.errors import InvalidInputError
from trainers.data.known_files import state_of_files
from trainers.runs.config import SearchConfig, is_host
from trainers.runs.folder import RunFolder
from trainers.runs.result import Result
from trainers.runs.state import CHECKPOINTS, FINISHED, RunState, state_of
from trainers.search.callbacks import Report
from trainers.search.verdict import REPORT, report_verdict


def finished_config(config: SearchConfig) -> SearchConfig | None:
    """The configuration of a finished run of it, with what its figures come from, as `identified` gives it.

    None if there is no such run, or if that can only be said by reading the data or asking a board: some file of the
    data may have changed since the run.
    """
    if config.boards:
        return None
    alike = config.run_folder.parent.glob(f"{escape(config.run_key.rpartition('-')[0])}-*")
    states = [state for folder in alike if (state := _finished(folder)) is not None and state.data is not None]
    files = state_of_files(config.data) if states else None
    known = {state.data.content for state in states if state.data is not None and state.data.files == files is not None}
    found = [_with_content(config, content) for content in sorted(known)]
    return next((each for each in found if each is not None and _finished(each.run_folder)), None)


def finished_result(config: SearchConfig) -> Result | None:
    """The result of a finished run that has all its files; none if something is left to be done for it.

    `config` says what its figures come from. Raises: InvalidInputError, naming the field, if the result is malformed.
    """
    path = config.run_folder
    if _finished(path) is None or (path / CHECKPOINTS).exists() or not (path / REPORT).exists():
        return None
    return RunFolder(path, command="").read_result()


def report_finished(result: Result, folder: Path, report: Report) -> None:
    report(f"this search is finished already: {folder}; delete the folder to run it again")
    report_verdict(result, folder, report)


def _finished(folder: Path) -> RunState | None:
    try:
        state = state_of(folder)
    except InvalidInputError:  # there is none, or it is torn
        return None
    return state if state.state in FINISHED else None


def _with_content(config: SearchConfig, content: str) -> SearchConfig | None:
    """The configuration of data of this content on this machine; none if it asks for others."""
    measured_on = {}
    if hosts := [name for name, mapping in config.hardware.items() if is_host(mapping)]:
        from hardware_models.measuring.runner import machine_identity  # needs onnxruntime

        measured_on = dict.fromkeys(hosts, machine_identity())
    wrong = any(config.measured_on.get(name, machine) != machine for name, machine in measured_on.items())
    if wrong or config.data.get("content") not in (None, content):
        return None
    return config.model_copy(update={"data": {**config.data, "content": content}, "measured_on": measured_on})
