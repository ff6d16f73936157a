"""`espalier-measure`: what it measures ends in a file that is read back, wrong input in one clear error."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from boards import INSTALLED, REASON, loopback_server
from console import (
    HEAVY,
    MEASURE,
    Cli,
    Result,
    complaints,
    console,
    done,
    ends_with_examples_and_exit_codes,
    examples,
    imported_by,
    spaces_in_help,
)
from console import refused as reported_once
from spaces import ROOT

import trainers.devices.measurement
from hardware_models.measuring.measure import Machine, Measurement
from hardware_models.measuring.measurements import MeasuredRow, layers_path, read_measurements
from search_spaces.architecture import SPACES, architecture_of, build_network, read_architecture
from search_spaces.errors import keys_of
from search_spaces.space import SearchSpace
from trainers.cli.overrides import as_meant
from trainers.devices.measure_plan import distinct_operations

CELLS = ("space=nasbench201", "space.width=4", "space.num_cells=1", "space.image_size=8")
QUICK = ("warmup=1", "repeats=3")


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(MEASURE, monkeypatch, capsys, tmp_path)


def refused(result: Result, *words: str, code: int = 2) -> None:
    """One message that says these words, its exit code, and nothing measured."""
    reported_once(result, "espalier-measure", *words, code=code)
    assert list(Path.cwd().rglob("*")) == []


def cells_space() -> SearchSpace:
    """The space that `CELLS` names."""
    return SPACES["nasbench201"](width=4, num_cells=1, image_size=8, num_classes=10)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network and operation takes a made-up time, as if it had been measured."""

    def measured(*subject: object, threads: int, machine: Machine, **settings: object) -> Measurement:
        return Measurement(1.5, 2.0, 1.0, 3, threads, "onnxruntime", machine.versions, machine.description)

    for name in ("time_module", "time_operation"):
        monkeypatch.setattr(trainers.devices.measurement, name, measured)


@pytest.fixture
def architecture(tmp_path: Path) -> Path:
    space, path = cells_space(), tmp_path / "net.json"
    path.write_text(architecture_of(space, space.choices([3, 2, 4, 1, 0, 3])).to_json())
    return path


# Answers without a measurement


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_answers_without_a_measurement_import_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    _, _, packages = imported_by("measure_command", *arguments, folder=tmp_path)
    assert packages & HEAVY == set()


def test_help_names_every_space_and_ends_with_examples_and_exit_codes() -> None:
    assert spaces_in_help(MEASURE) == {path.stem for path in (ROOT / "conf" / "space").glob("*.yaml")}
    assert ends_with_examples_and_exit_codes(MEASURE)


def test_every_example_of_the_help_is_a_command_that_is_understood(measure: Cli) -> None:
    Path("runs/sweep/run/architectures").mkdir(parents=True)
    for file in ("pixel6.json", "run.log", "runs/sweep/run/architectures/pixel6.json"):  # that they speak of
        Path(file).touch()
    for arguments in examples(MEASURE):
        reported = complaints(measure(*arguments, "repeats=0"))  # all that is wrong with it
        assert reported == {"repeats: got 0; Input should be greater than or equal to 1"}


# Wrong configurations


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ("", "architecture"),
        ("networks=3", "space"),
        ("space=mobile", "architecture"),
        ("space=mobile networks=3 operations=true", "operations"),
        ("space=mobile networks=3 limit=4", "limit"),
        ("architecture=none/*.json", "architecture"),
        ("architecture=[]", "architecture"),
        ("space=mobile networks=3 threads=many repeats=1.5 warmup=-1 seed=-1", "threads repeats warmup seed"),
        ("space=mobile networks=3 output=bench.txt", "output"),
        ("space=mobile networks=3 board.port=22", "board.host"),
        ("space=mobile networks=3 board.host=-V board.port=70000", "board.host board.port"),
        ("space=mobile networks=3 board.host=a board.identity=none", "board.identity"),
        ("space=mobile networks=3 log.machine=Pixel", "log.machine"),
        ("space=nasbench201 networks=100000", "networks"),
        ("limit=3 board.port=3", "architecture limit board.host"),
    ],
)
def test_a_wrong_configuration_is_refused_by_its_keys(measure: Cli, arguments: str, keys: str) -> None:
    result = measure(*shlex.split(arguments))
    refused(result)
    assert sorted(keys_of(result[2].removeprefix("espalier-measure: "))) == sorted(keys.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("space=resnet networks=3", ("space", "resnet", "mobile")),
        ("space=mobile networks=3 space.depths=[0]", ("space.depths",)),
        ("space=mobile networks=3 space.colour=1", ("space.colour",)),
        ("space=mobile networks=3 output=/proc/bench.csv", ("/proc/bench.csv",)),
        ("repeat=3", ("repeat",)),
    ],
)
def test_what_cannot_be_used_is_refused(measure: Cli, arguments: str, words: tuple[str, ...]) -> None:
    refused(measure(*shlex.split(arguments)), *words)


# Measurements on this machine


def test_architecture_files_are_measured_and_read_back(measure: Cli, architecture: Path) -> None:
    output = done(measure(f"architecture={architecture.parent}/*.json", *QUICK, "output=new/bench.csv"))
    assert re.match(r"1 network on .*; 1 thread, 3 runs each\n", output)  # "1 networks", "1 threads" once
    [row] = read_measurements(Path("new/bench.csv")).rows
    known = read_architecture(architecture)
    assert row.name == f"net-{known.id[:8]}"
    assert sum(operation.macs for operation in row.operations) == pytest.approx(
        sum(operation.macs for operation in cells_space().operations(known.choices))
    )
    fields = row.fields
    assert (fields["repeats"], fields["warmup"], fields["threads"]) == ("3", "1", "1")
    assert (fields["runtime"], fields["precision"], fields["statistic"]) == ("onnxruntime", "fp32", "median")
    assert "cores" in fields["machine"]
    assert re.fullmatch(r"onnxruntime \S+, python \S+, torch \S+", fields["versions"])
    assert re.search(rf"^1/1 .* ms .* {row.name}  0 s left$", output, re.MULTILINE)


@pytest.mark.usefixtures("at_once")
def test_random_networks_are_the_same_for_a_seed_and_their_files_are_kept(measure: Cli) -> None:
    done(measure(*CELLS, *QUICK, "networks=2"))
    rows = read_measurements(Path("bench.csv")).rows
    assert len({row.name for row in rows}) == 2
    for row in rows:
        known = read_architecture(Path("bench.architectures") / f"{row.name}.json")
        assert sum(p.numel() for p in build_network(known).parameters()) > 0
    done(measure(*CELLS, *QUICK, "networks=1", "output=again.csv"))
    assert {row.name for row in read_measurements(Path("again.csv")).rows} < {row.name for row in rows}
    assert {row.fields["part"] for row in rows} == {"random"}
    done(measure(*CELLS, *QUICK, "networks=1", "output=other.csv", "seed=1"))
    assert {row.name for row in read_measurements(Path("other.csv")).rows}.isdisjoint(row.name for row in rows)


@pytest.mark.usefixtures("at_once")
def test_operations_of_a_space_are_measured_each_once(measure: Cli) -> None:
    done(measure(*CELLS, *QUICK, "operations=true"))
    measured = read_measurements(Path("bench.csv"))
    assert measured.subject == "operation"
    assert {row.operations[0] for row in measured.rows} == set(distinct_operations(cells_space()))
    assert not layers_path(Path("bench.csv")).exists()


@pytest.mark.usefixtures("at_once")
def test_what_is_measured_is_not_measured_again(measure: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    done(measure(*CELLS, *QUICK, "networks=1"))
    before = Path("bench.csv").read_text()
    output = done(measure(*CELLS, *QUICK, "networks=2"))
    assert "1 of them are in bench.csv already" in output
    assert "1/1" in output
    assert Path("bench.csv").read_text().startswith(before)
    monkeypatch.setattr(trainers.devices.measurement, "time_module", None)  # measuring again would fail
    done(measure(*CELLS, *QUICK, "networks=2"))
    assert len(read_measurements(Path("bench.csv")).rows) == 2


@pytest.mark.usefixtures("at_once")
def test_times_of_another_number_of_threads_are_kept_out(measure: Cli) -> None:
    done(measure(*CELLS, *QUICK, "networks=1"))
    code, _, errors = measure(*CELLS, *QUICK, "networks=2", "threads=2")
    assert code == 2
    assert keys_of(errors.removeprefix("espalier-measure: ")) == ("threads",)


@pytest.mark.slow
def test_a_signal_keeps_the_rows_and_tells_the_command_that_continues(tmp_path: Path) -> None:
    arguments = [*CELLS, "operations=true", "repeats=50", "output=a b.csv"]
    script = [sys.executable, "-c", "from trainers.cli.measure_command import main; main()", *arguments]
    rows: tuple[MeasuredRow, ...] = ()
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        assert signalled(script, number, tmp_path) == (
            code,
            "espalier-measure: interrupted; what was measured is kept; this continues:\n"
            f"  {shlex.join(['espalier-measure', *arguments])}\n",
        )
        kept = read_measurements(tmp_path / "a b.csv").rows
        assert kept[: len(rows)] == rows and len(rows) < len(kept) < 12
        rows = kept
    subprocess.run(script, cwd=tmp_path, check=True, capture_output=True)
    finished = read_measurements(tmp_path / "a b.csv").rows
    assert finished[: len(rows)] == rows
    assert len(finished) == len(distinct_operations(cells_space()))


def signalled(script: list[str], number: signal.Signals, folder: Path) -> tuple[int, str]:
    """Exit code and errors of a measurement that gets a signal once it has written two rows."""
    process = subprocess.Popen(
        script,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A shell that starts jobs in the background has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("2/"):
                break
        process.send_signal(number)
        _, errors = process.communicate()
    finally:
        process.kill()
    return process.returncode, errors


# A board


@pytest.mark.skipif(not INSTALLED, reason=REASON)
def test_a_board_is_measured_over_ssh_and_interrupted_work_continues_there(measure: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "sshd"
    folder.mkdir()
    with loopback_server(folder) as server:
        address = server.address
        board = [
            *(f"board.host={address.host}", f"board.port={address.port}", f"board.identity={address.identity}"),
            *(f"board.ssh_config={address.ssh_config}", f"board.python={address.python}"),
        ]
        done(measure(*CELLS, *QUICK, "networks=1", *board))
        file = Path("bench.csv")
        file.write_bytes(file.read_bytes() + b"nasbench201-half,1")  # as a crash leaves it
        output = done(measure(*CELLS, *QUICK, "networks=2", *board))
        assert "1 of them are in bench.csv already" in output
        rows = read_measurements(file).rows
        assert len(rows) == 2
        assert all("cores" in row.fields["machine"] for row in rows)
    code, _, errors = measure(*CELLS, *QUICK, "networks=3", *board)
    assert code == 1
    assert "onnection refused" in errors
    assert len(read_measurements(file).rows) == 2


# Logs of a phone

LOG = (
    "Num threads: [4]\ncount=9 first=9 curr=9 min=9 max=9 avg=9000 std=1\n"
    "count=50 first=9 curr=9 min=4000 max=9000 avg=5000 std=1{more}\n"
    "Inference timings in us: Init: 8, First inference: 9, Warmup (avg): 9000, Inference (avg): 5000\n"
)


def phone(*logs: Path) -> tuple[str, str, str]:
    return f"log.path=[{','.join(map(str, logs))}]", "log.machine='Pixel 6, big cores'", "log.precision=fp32"


def test_log_of_a_phone_becomes_a_row_of_its_network(measure: Cli, architecture: Path, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text(LOG.format(more=" p5=4100 median=4500 p95=8000"))
    output = done(measure(f"architecture={architecture}", *phone(log)))
    assert "4.5 ms (median)" in output
    measured = read_measurements(Path("bench.csv"))
    assert [row.latency_ms for row in measured.rows] == [4.5]
    assert measured.rows[0].operations
    assert measured.constants == {
        **{"runtime": "TFLite", "threads": "4", "precision": "fp32"},
        **{"machine": "Pixel 6, big cores", "statistic": "median"},
    }
    assert "stays as it is" in done(measure(f"architecture={architecture}", *phone(log)))
    assert len(read_measurements(Path("bench.csv")).rows) == 1


def test_a_delegate_that_ran_nothing_is_not_in_the_row(measure: Cli, architecture: Path, tmp_path: Path) -> None:
    log, unused = (
        tmp_path / "run.log",
        "Though NNAPI delegate is explicitly applied, the model graph will not be executed",
    )
    log.write_text(f"Use NNAPI: [1]\n{unused} by the delegate.\n" + LOG.format(more=""), encoding="utf-16")
    assert "warning  NNAPI" in done(measure(f"architecture={architecture}", *phone(log)))
    assert read_measurements(Path("bench.csv")).constants["runtime"] == "TFLite"


def test_mean_of_a_log_is_marked_and_never_mixed_with_medians(measure: Cli, architecture: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    first.write_text(LOG.format(more=""))
    second.write_text(LOG.format(more=" p5=4100 median=4500 p95=8000"))
    done(measure(f"architecture={architecture}", *phone(first)))
    measured = read_measurements(Path("bench.csv"))
    assert (measured.rows[0].latency_ms, measured.constants["statistic"]) == (5.0, "mean")
    code, _, errors = measure(f"architecture={architecture}", *phone(second))
    assert code == 2
    assert keys_of(errors.removeprefix("espalier-measure: ")) == ("statistic",)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ("log.machine=null", "log.machine"),
        ("log.precision=null", "log.precision"),  # a quantised network's log once was recorded as one in fp32
        ("log.precision=fp8", "log.precision"),
        ("architecture=null", "architecture log.path"),
        ("board.host=pi", "board.host"),
        ("log.path=[a.log,b.log]", "log.path log.path"),
        ("log.path=none.log", "log.path"),
    ],
)
def test_a_log_that_cannot_be_taken_over_is_refused_by_its_keys(
    measure: Cli, architecture: Path, tmp_path: Path, arguments: str, keys: str
) -> None:
    log = tmp_path / "run.log"
    log.write_text(LOG.format(more=""))
    result = measure(f"architecture={architecture}", *phone(log), arguments)
    refused(result)
    assert sorted(keys_of(result[2].removeprefix("espalier-measure: "))) == sorted(keys.split())
    log.write_text("nothing")
    refused(measure(f"architecture={architecture}", *phone(log)), "run.log")


def test_home_is_expanded_where_hydra_cannot_read_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_meant("board.identity=~/.ssh/key") == f"board.identity={tmp_path}/.ssh/key"
    assert as_meant("~hardware.odd") == "~hardware.odd"
    assert as_meant("a=b~/c") == "a=b~/c"
