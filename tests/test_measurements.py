"""Measurement files: right rows come out, or one error that tells every line that is wrong."""

import csv
import math
import re
from io import StringIO
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardware_models.measuring.csv_file import MAX_LISTED
from hardware_models.measuring.layers import layers_path
from hardware_models.measuring.measurements import Measurements, read_measurements
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


def test_what_all_rows_share_is_told_once(tmp_path: Path) -> None:
    header = "network,latency_ms,runtime,threads,machine,statistic,date\n"
    measured = read(tmp_path, header + 'a,1,ort,4,"board, 4 cores",mean,2026-01-01\nb,2,ort,4,"board, 4 cores",mean,\n')
    assert measured.constants == {"runtime": "ort", "threads": "4", "machine": "board, 4 cores", "statistic": "mean"}
    assert measured.rows[0].fields["date"] == "2026-01-01"


def test_a_spreadsheets_marks_line_ends_and_spaces_are_taken(tmp_path: Path) -> None:
    measured = read(tmp_path, b"\xef\xbb\xbfnetwork, latency_ms\r\n a ,1.5 \r\n,,\r\n"[:-4])
    assert [(row.name, row.latency_ms) for row in measured.rows] == [("a", 1.5)]


def test_lines_are_counted_in_the_file_and_not_in_the_rows(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="line 4: latency_ms: got 'x'"):
        read(tmp_path, 'network,latency_ms,machine\na,1,"two\nlines"\nb,x,"two\nlines"\n')


@pytest.mark.parametrize("time", ["-1", "0", "nan", "inf", "1e999", "", "ten", "1,5 ms"])
def test_time_that_is_no_positive_number_is_refused_by_its_line(tmp_path: Path, time: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"line 3: latency_ms: got '{re.escape(time)}'; allowed"):
        read(tmp_path, f'network,latency_ms\na,1\nb,"{time}"\n')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("network\na\n", "line 1: column 'latency_ms' is missing"),
        ("model,latency_ms\na,1\n", "line 1: one column must be 'network' or 'operation', got neither"),
        (
            f"network,operation,latency_ms\na,{CONV},1\n",
            "line 1: one column must be 'network' or 'operation', got both",
        ),
        ("network,latency_ms,colour\na,1,red\n", "line 1: unknown columns ['colour']"),
        ("network,latency_ms,latency_ms\na,1,1\n", "line 1: column 'latency_ms' stands twice"),
        ("network;latency_ms\na;1\n", "line 1: columns are separated by commas, got a semicolon"),
        ("network\tlatency_ms\na\t1\n", "line 1: columns are separated by commas, got a tab"),
        ("network,latency_ms\na,1,5\n", "line 2: 3 values for 2 columns"),
        ("network,latency_ms\n,1\n", "line 2: no network is named"),
        ("network,latency_ms\na,1\nb,2\na,3\n", "line 4: 'a' stands already in line 2"),
        ("network,latency_ms\nc,1\n", "line 2: network 'c' has no operations in bench.layers.csv"),
        ("network,latency_ms,threads\na,1,1\nb,1,2\n", "line 3: threads is '2', in line 2 '1'"),
        ("network,latency_ms,precision\na,1,fp32\nb,1,\n", "line 3: precision is ''"),
        ("network,latency_ms,statistic\na,1,mode\n", "line 2: statistic: got 'mode'"),
        ("network,latency_ms,threads\na,1,0\n", "line 2: threads: got '0'"),
        ("operation,latency_ms\nconv 8 -> 9,1\n", "line 2: not an operation"),
        (f"operation,latency_ms\n{CONV},1\n{CONV} s1,2\n", f"line 3: '{CONV} s1' is '{CONV}'"),
        ("network,latency_ms\n", "has a header and no rows"),
        ("", "is empty"),
        ('network,latency_ms\na,"1', "not readable as CSV"),
        (b"network,latency_ms\na,\xff\n", "line 2: not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_its_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(words)):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (None, "with columns network,operation,count"),
        ("", "is empty"),
        (f"network,operation\na,{CONV}\n", "line 1: columns must be network,operation,count"),
        (f"network;operation;count\na;{CONV};1\n", "line 1: columns are separated by commas"),
        (f"network,operation,count\na,{CONV},0\n", "line 2: count: got '0'"),
        (f"network,operation,count\na,{CONV},1001\n", "line 2: count: got '1001'"),
        (f"network,operation,count\na,{CONV},1\na,{CONV},1\n", "line 3: 'a, conv .*' stands already in line 2"),
        ("network,operation,count\na,conv,1\n", "line 2: operation: got 'conv'; allowed: not an operation"),
        (b"\xff", "line 1: not UTF-8"),
    ],
)
def test_layers_that_cannot_be_used_are_refused_by_their_file_and_line(
    tmp_path: Path, layers: str | bytes | None, words: str
) -> None:
    with pytest.raises(InvalidInputError, match=rf"bench\.layers\.csv(.|\n)*{words}"):
        read(tmp_path, "network,latency_ms\na,1\n", layers)


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot read measurements from .*none\.csv: No such file"):
        read_measurements(tmp_path / "none.csv")


def test_all_problems_are_told_at_once_in_their_order_and_many_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"n{i},-{i + 1}\n" for i in range(30))
    layers = "network,operation,count\n" + "".join(f"n{i},{ADD},1\n" for i in range(30))
    with pytest.raises(InvalidInputError) as caught:
        read(tmp_path, "network,latency_ms\n" + rows, layers)
    lines = str(caught.value).splitlines()
    assert [int(re.findall(r"\d+", line)[0]) for line in lines[1:-1]] == list(range(2, 2 + MAX_LISTED))
    assert lines[-1].strip() == f"and {30 - MAX_LISTED} more"


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


FUZZED = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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
