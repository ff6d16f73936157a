"""Measurement files: right rows come out, or one error that tells every line that is wrong."""

import csv
import math
from io import StringIO
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wrong_cells import wrong_cells

from hardware_models.measuring.csv_file import MAX_LISTED
from hardware_models.measuring.measurements import LAYER_COLUMNS, Measurements, layers_path, read_measurements
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

CONV, ADD = "conv 8x7x7 -> 4x7x7 k3", "add 4x7x7 -> 4x7x7"
LAYERS = f"network,operation,count\na,{CONV},2\na,{ADD},1\nb,{ADD},1\n"


def read(folder: Path, text: str | bytes, layers: str | bytes | None = LAYERS) -> Measurements:
    path = folder / "bench.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    layers_path(path).unlink(missing_ok=True)
    if layers is not None:
        layers_path(path).write_bytes(layers.encode() if isinstance(layers, str) else layers)
    return read_measurements(path)


def test_networks_are_read_with_their_operations(tmp_path: Path) -> None:
    measured = read(tmp_path, "network,latency_ms\na,12.5\n\nb,.5e1\n")
    assert measured.subject == "network"
    assert [(row.name, row.latency_ms, row.line) for row in measured.rows] == [("a", 12.5, 2), ("b", 5.0, 4)]
    conv, add = Operation("conv", (8, 7, 7), (4, 7, 7), 3), Operation("add", (4, 7, 7), (4, 7, 7))
    assert [row.operations for row in measured.rows] == [(conv, conv, add), (add,)]


def test_operations_are_read_without_a_file_of_layers(tmp_path: Path) -> None:
    measured = read(tmp_path, f"latency_ms,operation\n0.25,{CONV}\n", layers=None)
    assert measured.subject == "operation"
    assert measured.rows[0].operations == (Operation("conv", (8, 7, 7), (4, 7, 7), 3),)


def test_what_all_rows_share_is_reported_once(tmp_path: Path) -> None:
    header = "network,latency_ms,runtime,threads,machine,statistic,date\n"
    measured = read(tmp_path, header + 'a,1,ort,4,"board, 4 cores",mean,2026-01-01\nb,2,ort,4,"board, 4 cores",mean,\n')
    assert measured.constants == {"runtime": "ort", "threads": "4", "machine": "board, 4 cores", "statistic": "mean"}
    assert measured.rows[0].fields["date"] == "2026-01-01"


def test_a_spreadsheets_marks_line_ends_and_spaces_are_taken(tmp_path: Path) -> None:
    measured = read(tmp_path, b"\xef\xbb\xbfnetwork, latency_ms\r\n a ,1.5 \r\n,,\r\n"[:-4])
    assert [(row.name, row.latency_ms) for row in measured.rows] == [("a", 1.5)]


def test_lines_are_counted_in_the_file_and_not_in_the_rows(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(tmp_path, 'network,latency_ms,machine\na,1,"two\nlines"\nb,x,"two\nlines"\n')
    assert wrong_cells(caught.value) == [(4, "latency_ms")]


@pytest.mark.parametrize("time", ["-1", "0", "nan", "inf", "1e999", "1e-9", "1e12", "", "ten", "1,5 ms"])
def test_time_that_nothing_takes_is_refused_by_its_line(tmp_path: Path, time: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(tmp_path, f'network,latency_ms\na,1\nb,"{time}"\n')
    assert wrong_cells(caught.value) == [(3, "latency_ms")]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("network\na\n", [(1, "latency_ms")]),
        ("model,latency_ms\na,1\n", [(1, "operation"), (1, "model")]),
        (f"network,operation,latency_ms\na,{CONV},1\n", [(1, "operation")]),
        ("network,latency_ms,colour\na,1,red\n", [(1, "colour")]),
        ("network,latency_ms,latency_ms\na,1,1\n", [(1, "")]),
        ("network,latency_ms\na,1,5\n", [(2, "")]),
        ("network,latency_ms\n,1\n", [(2, "network")]),
        ("network,latency_ms\na,1\nb,2\na,3\n", [(4, "")]),
        ("network,latency_ms\nc,1\n", [(2, "")]),
        ("network,latency_ms,threads\na,1,1\nb,1,2\n", [(3, "threads")]),
        ("network,latency_ms,precision\na,1,fp32\nb,1,\n", [(3, "precision")]),
        ("network,latency_ms,statistic\na,1,mode\n", [(2, "statistic")]),
        ("network,latency_ms,threads\na,1,0\n", [(2, "threads")]),
        ("operation,latency_ms\nconv 8 -> 9,1\n", [(2, "operation")]),
        (f"operation,latency_ms\n{CONV},1\n{CONV} s1,2\n", [(3, "")]),
        ("network,latency_ms\n", []),
        ("", []),
        ('network,latency_ms\na,"1', []),
        (b"network,latency_ms\na,\xff\n", []),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_its_lines(
    tmp_path: Path, text: str | bytes, wrong: list[tuple[int, str]]
) -> None:
    with pytest.raises(InvalidInputError, match=r"bench\.csv") as caught:
        read(tmp_path, text)
    assert wrong_cells(caught.value) == wrong


@pytest.mark.parametrize(
    ("layers", "wrong"),
    [
        (None, []),
        ("", []),
        (f"network,operation\na,{CONV}\n", [(1, "count")]),
        (f"network;operation;count\na;{CONV};1\n", [(1, column) for column in LAYER_COLUMNS] + [(1, "")]),
        (f"network,operation,count\na,{CONV},0\n", [(2, "count")]),
        (f"network,operation,count\na,{CONV},1001\n", [(2, "count")]),
        (f"network,operation,count\na,{CONV},1\na,{CONV},1\n", [(3, "")]),
        ("network,operation,count\na,conv,1\n", [(2, "operation")]),
        (b"\xff", []),
    ],
)
def test_layers_that_cannot_be_used_are_refused_by_their_file_and_line(
    tmp_path: Path, layers: str | bytes | None, wrong: list[tuple[int, str]]
) -> None:
    with pytest.raises(InvalidInputError, match=r"bench\.layers\.csv") as caught:
        read(tmp_path, "network,latency_ms\na,1\n", layers)
    assert wrong_cells(caught.value) == wrong


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"none\.csv"):
        read_measurements(tmp_path / "none.csv")


def test_all_problems_are_reported_at_once_in_their_order_and_many_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"n{i},-{i + 1}\n" for i in range(30))
    with pytest.raises(InvalidInputError, match=f"and {30 - MAX_LISTED} more") as caught:
        read(tmp_path, "network,latency_ms\n" + rows)
    assert wrong_cells(caught.value) == [(line, "latency_ms") for line in range(2, 2 + MAX_LISTED)]


CELL = st.one_of(
    st.sampled_from(
        ["a", "b", CONV, ADD, "", "1", "2.5", "-3", "nan", "inf", "1e400", "0", '"', "'", " ", "\t", "1,5"]
    ),
    st.floats(0.01, 1e6).map(str),
    st.text(max_size=6),
)
HEADER = st.sampled_from(["network", "operation", "latency_ms", "p90_ms", "threads", "machine", "statistic", "x", ""])


@st.composite
def tables(draw: st.DrawFn) -> str:
    """CSV text, from nearly right to nonsense."""
    header = draw(st.one_of(st.just(["network", "latency_ms"]), st.lists(HEADER, max_size=4)))
    rows = draw(st.lists(st.lists(CELL, min_size=max(1, len(header) - 1), max_size=len(header) + 1), max_size=5))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return end.join([",".join(header), *(",".join(row) for row in rows)])


FUZZED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(tables() | st.text(max_size=60), st.sampled_from([LAYERS, ""]) | tables())
@FUZZED
def test_any_text_gives_sound_rows_or_a_clear_error(tmp_path: Path, text: str, layers: str) -> None:
    problem = ""
    try:
        measured = read(tmp_path, text.encode("utf-8", "surrogatepass"), layers.encode("utf-8", "surrogatepass"))
    except InvalidInputError as error:
        problem = str(error)
    if problem:
        assert str(tmp_path) in problem
        return
    for row in measured.rows:
        assert 0 < row.latency_ms < math.inf
        assert row.operations
        assert row.name in text


NAME = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.dictionaries(NAME, st.floats(1e-6, 1e6), min_size=1, max_size=6), st.randoms())
@FUZZED
def test_every_name_and_time_comes_back_as_written(tmp_path: Path, times: dict[str, float], random: Random) -> None:
    rows, layers = StringIO(), StringIO()
    csv.writer(rows).writerows([["latency_ms", "network"], *([repr(ms), name] for name, ms in times.items())])
    csv.writer(layers).writerows([["operation", "network", "count"], *([ADD, name, 2] for name in times)])
    measured = read(tmp_path, rows.getvalue(), layers.getvalue())
    assert [(row.name, row.latency_ms, len(row.operations)) for row in measured.rows] == [
        (name, ms, 2) for name, ms in times.items()
    ]
    wrong = random.choice(list(times))
    with pytest.raises(InvalidInputError, match="latency_ms"):
        read(
            tmp_path,
            rows.getvalue().replace(repr(times[wrong]), random.choice(["-1", "nan", "", "0"])),
            layers.getvalue(),
        )
