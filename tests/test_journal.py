"""The file that measurements go into: rows survive any end, and times of different conditions never mix."""

from pathlib import Path

import pytest

from hardware_models.measuring.journal import open_journal
from hardware_models.measuring.measurements import COLUMNS, layers_path, read_measurements
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation
from trainers.devices.measurement import write_layers

CONDITIONS = {"machine": "a board, 4 cores", "runtime": "onnxruntime", "precision": "fp32", "threads": "1"}
CONDITIONS |= {"versions": "onnxruntime 1.0", "statistic": "median"}
ADD, CONV = Operation("add", (4, 7, 7), (4, 7, 7)), Operation("conv", (4, 7, 7), (8, 7, 7))
HEADER = ",".join(["operation", *COLUMNS]) + "\n"


def append(path: Path, *names: str, **changed: str) -> frozenset[str]:
    """Adds a row for each name and returns those that were there before."""
    with open_journal(path, "operation", {**CONDITIONS, **changed}) as journal:
        for name in names:
            journal.append(name, {**CONDITIONS, **changed, "latency_ms": "1.5"})
        return journal.done


def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.csv"
    with open_journal(path, "operation", CONDITIONS) as journal:
        journal.append(ADD.notation, {**CONDITIONS, "latency_ms": "1.5"})
        assert [(row.name, row.latency_ms) for row in read_measurements(path).rows] == [(ADD.notation, 1.5)]


def test_a_continued_file_knows_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    assert append(path, ADD.notation) == frozenset()
    assert append(path, CONV.notation) == {ADD.notation}
    assert [row.name for row in read_measurements(path).rows] == [ADD.notation, CONV.notation]


def test_every_cut_of_a_file_is_repaired_to_its_last_whole_row(tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    append(path, ADD.notation, CONV.notation)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        whole = content[:size].count(b"\n") - 1
        assert append(path) == frozenset([ADD.notation, CONV.notation][: max(whole, 0)])
        assert path.read_bytes() == b"".join(content.splitlines(keepends=True)[: max(whole, 0) + 1])


@pytest.mark.parametrize("column", CONDITIONS)
def test_times_of_other_conditions_are_kept_out(tmp_path: Path, column: str) -> None:
    path = tmp_path / "bench.csv"
    append(path, ADD.notation)
    before = path.read_bytes()
    with pytest.raises(InvalidInputError) as caught:
        append(path, CONV.notation, **{column: "another"})
    assert caught.value.fields == (column,)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"a letter to somebody\n",
        b"no line end",
        b"\xff\xfe\x00",
        HEADER.replace("operation", "network").encode(),
        HEADER.encode() + b"add 4x7x7 -> 4x7x7,-1,,,,,,,,,,,,\n",
        HEADER.encode() + b"\xff\n",
    ],
)
def test_a_file_that_is_something_else_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bench.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError):
        append(path, ADD.notation)
    assert path.read_bytes() == content


def test_two_commands_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    with (
        open_journal(path, "operation", CONDITIONS),
        pytest.raises(InvalidInputError, match="in use"),
        open_journal(path, "operation", CONDITIONS),
    ):
        pass


def test_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError):
        append(tmp_path / "file" / "bench.csv")


def test_layers_are_counted_and_added_to_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    write_layers(path, {"a": [ADD, CONV, ADD]})
    write_layers(path, {"b": [CONV], "a": [ADD, CONV, ADD]})
    rows = [f"a,{ADD.notation},2", f"a,{CONV.notation},1", f"b,{CONV.notation},1"]
    assert layers_path(path).read_text().splitlines() == ["network,operation,count", *rows]
    assert [file.name for file in tmp_path.iterdir()] == ["bench.layers.csv"]


def test_one_name_for_two_networks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    write_layers(path, {"a": [ADD]})
    with pytest.raises(InvalidInputError, match="for a; "):
        write_layers(path, {"a": [CONV]})
    assert layers_path(path).read_text().count("add") == 1


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "network,operation,count\na,add,many\n", "network,operation,count\na\n"]
)
def test_layers_that_are_something_else_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.csv"
    layers_path(path).write_text(text)
    with pytest.raises(InvalidInputError, match=r"bench\.layers\.csv"):
        write_layers(path, {"a": [ADD]})
