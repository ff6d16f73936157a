"""Tables in YAML or JSON: one mapping of names to milliseconds, or to a mapping whose `mean` is milliseconds."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml

from hardware_models.importers.measured_blocks import Block
from hardware_models.measuring.csv_file import CsvFile, refusal
from hardware_models.measuring.foreign_text import lines_of, read_text

Cells = Mapping[str, str]
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # JSON is YAML, and its lines are known


def read_mapping(path: Path, block: type[Block], cells: Callable[[str], Cells]) -> CsvFile | None:
    """A row for each entry: the cells that its name has, and `time`; nothing if the file is no mapping.

    Raises: InvalidInputError, with the line, if it is a damaged one.
    """
    text = read_text(path).replace("\t", " ")
    first = next((line.strip() for line in lines_of(text) if line.strip() and line.strip()[0] != "#"), "")
    if not first.startswith("{") and ":" not in first:
        return None
    records = tuple((line, {**cells(name), "time": time}) for line, name, time in _entries(path, text))
    return CsvFile(path, tuple(name for name in block.model_fields if name != "line"), records)


def _entries(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """The line, the name and the time of each entry, a time that is missing as nothing."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise refusal(path, [f"{line}not one mapping in YAML or JSON: {getattr(error, 'problem', error)}"]) from error
    if not isinstance(root, yaml.MappingNode):
        raise refusal(path, ["line 1: not one mapping of names to milliseconds"])
    for key, value in root.value:
        fields = value.value if isinstance(value, yaml.MappingNode) else [(yaml.ScalarNode("", "mean"), value)]
        mean = next((field for name, field in fields if name.value == "mean"), None)
        yield key.start_mark.line + 1, str(key.value), mean.value if isinstance(mean, yaml.ScalarNode) else ""
