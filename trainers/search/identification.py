"""What the figures of a search come from besides its configuration: the content of its data, machines that measure.

Both become part of the configuration, and so of the run's key: a finished run is returned only for what it was asked.
"""

from hardware_models.measuring.board_address import BoardAddress
from hardware_models.measuring.measure import ThisMachine
from search_spaces.errors import InvalidInputError
from trainers.data.datasets import DataConfig, content_of, data_config
from trainers.data.storage import Report, silent
from trainers.runs.config import SearchConfig, is_host
from trainers.search.computing import accelerator_here
from trainers.search.machines import machine_of

Known = dict[DataConfig | BoardAddress, str]  # what has been read or reached for another job already


def identified(config: SearchConfig, known: Known | None = None, report: Report = silent) -> SearchConfig:
    """The configuration with `data.content`, `measured_on` and the accelerator as they are now.

    What it has already is checked.

    Raises: DataError for data that cannot be read; BoardError; InvalidInputError if either is not as the configuration
    says, as when a run's own config.yaml is searched again elsewhere.
    """
    known = {} if known is None else known
    data = data_config(config.data)
    if data not in known:
        known[data] = content_of(data, report)
    found = {name: ThisMachine().identity for name, mapping in config.hardware.items() if is_host(mapping)}
    for name, board in config.boards.items():
        if board not in known:
            with machine_of(board) as machine:
                known[board] = machine.identity
        found[name] = known[board]
    for name, machine_identity in found.items():
        asked = config.measured_on.get(name, machine_identity)
        if asked != machine_identity:
            raise InvalidInputError(
                f"measured_on.{name}: got {asked}, found {machine_identity}; leave it out to measure there now"
            )
    trainer = config.trainer.model_copy(update={"accelerator": accelerator_here(config.trainer.accelerator)})
    content = {**config.data, "content": known[data]}
    return config.model_copy(update={"data": content, "measured_on": found, "trainer": trainer})
