"""Look-up tables of other projects as measurements that a profile can be calibrated from."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from hardware_models.importers.fbnet import read_fbnet_layers
from hardware_models.importers.look_up_tables import BlockTable
from hardware_models.importers.ofa import read_ofa_blocks
from hardware_models.importers.paddlelite import read_paddlelite
from hardware_models.importers.phones import read_phone_blocks
from hardware_models.measuring.measurements import MeasuredRow, Measurements, Subject, refusal
from search_spaces.errors import InvalidInputError

# phones: blocks with times of several phones; ofa: ProxylessNAS and once-for-all; fbnet: layers beside their skip.
TableFormat = Literal["phones", "ofa", "fbnet", "paddlelite"]
TABLE_FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)


def read_table(path: Path, table_format: TableFormat, *, device: str | None) -> Measurements:
    """The blocks of `device` that consist of operations a space may have; a table of one device needs no name.

    FBNet's table has beside it `<name>_base.json` with what the network of skips takes.
    Raises: InvalidInputError that lists what is wrong with the file, line by line, or names the devices that it has.
    """
    reader, subject = _READERS[table_format]
    table = reader(Path(path), "" if device is None else device)
    rows = tuple(
        MeasuredRow(block.name, block.ms, block.operations, block.line, {})
        for block in table.blocks
        if block.operations
    )
    if not rows:
        raise refusal(Path(path), ["none of its blocks consists of operations that a space may have"])
    return Measurements(Path(path), subject, rows, {} if device is None else {"machine": device})


def _fbnet(path: Path, device: str) -> BlockTable:
    base_path = path.with_name(f"{path.stem}_base.json")
    if not base_path.is_file():
        raise InvalidInputError(f"{path}: FBNet's table needs {base_path.name} beside it, with the network of skips")
    return read_fbnet_layers(path, base_path, device=device).standalone


_READERS: dict[TableFormat, tuple[Callable[[Path, str], BlockTable], Subject]] = {
    "phones": (lambda path, device: read_phone_blocks(path, device=device), "block"),
    "ofa": (lambda path, device: read_ofa_blocks(path, device=device), "block"),
    "fbnet": (_fbnet, "block"),
    "paddlelite": (lambda path, device: read_paddlelite(path), "operation"),
}
