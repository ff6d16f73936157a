"""Files from elsewhere are data: they lead to no other file, steer no terminal, take no more than they hold."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hardware_models.field_errors import shown
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import MOST_BYTES
from tests.reported_runs import change, searched
from trainers.analysis.run_files import ALPHA_BYTES, read_alphas, read_config
from trainers.cli.command import say, tell
from trainers.cli.report_command import run as espalier_report
from trainers.cli.status import main as espalier_status
from trainers.loggers.base import RunLogger, RunRecord
from trainers.reports.publish import publish_result
from trainers.reports.report import run_page, sweep_page, write_report
from trainers.search.checkpoints import remove_checkpoints

WEIGHTS = "weights/iot_terminal.safetensors"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("runs"), "seed=0")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to change."""
    return Path(shutil.copytree(finished, tmp_path / "runs" / finished.name))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with what its user would show to nobody, and would not lose."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("mine.ckpt", "epoch-000001-0123456789abcdef.ckpt", "iot_terminal.safetensors"):
        (folder / name).write_text("secret")
    return folder


# Links


def link(path: Path, to: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def publish(run: Path) -> None:
    publish_result(RunLogger(None, RunRecord("key", "sweep", "search", (), {}, run), print), run)


@pytest.mark.parametrize(
    ("place", "to"), [(WEIGHTS, "iot_terminal.safetensors"), ("report.html", "mine.ckpt"), ("weights", "")]
)
def test_a_link_out_of_a_run_is_not_logged(run: Path, elsewhere: Path, place: str, to: str) -> None:
    link(run / place, elsewhere / to)
    with pytest.raises(InvalidInputError, match=r" is a link out of its run"):
        publish(run)


@pytest.mark.parametrize("place", [WEIGHTS, "metrics.csv"])
def test_a_file_that_is_not_that_of_its_result_is_not_logged(run: Path, place: str) -> None:
    link(run / place, run / "status.json")
    with pytest.raises(InvalidInputError, match=f"{place} is not what its hash in result.json says"):
        publish(run)


def test_a_run_as_it_was_written_is_logged(run: Path) -> None:
    publish(run)


def test_checkpoints_behind_a_link_are_not_removed(run: Path, elsewhere: Path) -> None:
    link(run / "checkpoints", elsewhere)
    before = sorted(elsewhere.iterdir())
    remove_checkpoints(run / "checkpoints")
    assert sorted(elsewhere.iterdir()) == before


def test_of_a_folder_of_checkpoints_only_checkpoints_are_removed(elsewhere: Path) -> None:
    remove_checkpoints(elsewhere)
    assert {path.name for path in elsewhere.iterdir()} == {"mine.ckpt", "iot_terminal.safetensors"}


# Files without an end

ARCHITECTURE = "architectures/iot_terminal.json"
KINDS = ("a pipe", "a device", "a large file")


def replaced(path: Path, kind: str) -> None:
    """Puts in place of a file what is never read to its end."""
    path.unlink()
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(MOST_BYTES + 1)


def refusal(name: str, kind: str) -> str:
    return f"{name}: it is {'larger than any file of a run' if kind == 'a large file' else 'no regular file'}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_or_sweep_with_a_file_without_an_end_is_a_row_of_its_status(
    run: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "status.json" if kind == "a pipe" else "result.json"
    (run.parent / "sweep.json").touch()
    for path in (run / name, run.parent / "sweep.json"):
        replaced(path, kind)
    monkeypatch.setattr("sys.argv", ["espalier-status", "--json", str(run.parent)])
    with pytest.raises(SystemExit) as end:
        espalier_status()
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert end.value.code == 1 and [row["state"] for row in rows] == ["unreadable"] * 2
    assert refusal(name, kind) in rows[0]["reason"] and refusal("sweep.json", kind) in rows[1]["reason"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["config.yaml", "prune.csv", ARCHITECTURE])
def test_a_file_without_an_end_is_reported_in_place_of_a_report(
    run: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced(run / name, kind)
    assert espalier_report([str(run)]) == 2
    assert refusal(name, kind) in capsys.readouterr().err
    assert espalier_report([str(run.parent)]) == 0
    assert refusal(name, kind) in (run.parent / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_alphas_without_an_end_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "alphas.npz").touch()
    replaced(tmp_path / "alphas.npz", kind)
    with pytest.raises(InvalidInputError, match=r"alphas\.npz: it is no regular file"):
        read_alphas(tmp_path / "alphas.npz")


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize(("name", "kind"), list(zip(["lineage.json", ARCHITECTURE, WEIGHTS], KINDS, strict=True)))
def test_a_check_of_a_run_with_a_file_without_an_end_fails_by_its_name(
    run: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced(run / name, "a pipe" if name == WEIGHTS else kind)
    assert espalier_report(["verify", str(run)]) == 1
    assert name in failed_checks(capsys.readouterr().out)


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_a_lineage_nested_without_an_end_fails_by_its_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "lineage.json").write_text("[" * 200_000)
    assert espalier_report(["verify", str(run)]) == 1
    assert "lineage.json" in failed_checks(capsys.readouterr().out)


def failed_checks(output: str) -> str:
    return "\n".join(line for line in output.splitlines() if line.startswith("FAILED"))


# Characters that are none to be seen

STEERS = "\x1b]52;c;cm0gLXJm\x07\x1b[2J\x00\x9b1A\u202e"


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """What has been printed, which must hold no character that steers a terminal."""
    reported = "".join(capsys.readouterr())
    assert all(map(str.isprintable, reported.split("\n"))), repr(reported)
    return reported


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_a_check_of_a_run_steers_no_terminal_and_no_value_passes_for_a_check(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = json.loads((run / "result.json").read_text())
    versions = {**result["versions"], "torch": f"{STEERS}\nok           file weights"}
    change(run / "result.json", versions=versions, files={"\x1b[2J.csv": STEERS})
    assert espalier_report(["verify", str(run)]) == 1
    reported = printed(capsys)
    assert "cm0gLXJm" in reported
    assert "\n             ok           file weights" in reported


def test_a_refused_report_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "\x1b[2J").mkdir()
    assert espalier_report([str(tmp_path / "\x1b[2J")]) == 2
    printed(capsys)


def test_what_jobs_tell_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tell(f"  network         {STEERS}")
    say("espalier-search", f"runs/a is being run by process 1 on {STEERS};\n  wait for it")
    assert "\n  wait for it\n" in printed(capsys)


def test_a_report_holds_no_control_character(run: Path) -> None:
    change(run / "status.json", command=STEERS, host=STEERS)
    for page in (run_page(run), sweep_page(run.parent)):
        assert all(map(str.isprintable, page.split("\n")))
        assert "cm0gLXJm" in page


# Texts that are none


def test_a_text_that_cannot_be_written_is_refused_by_its_file(run: Path) -> None:
    change(run / "status.json", command="\ud800")
    with pytest.raises(InvalidInputError, match=r"status\.json"):
        write_report(run)


# Files that hold more than they are


def head(kind: str, *shape: int) -> bytes:
    """The beginning of a file of an array, which says what follows."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_alphas_that_unpack_to_more_than_any_run_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "alphas.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("weights.npy", "w") as file:
        file.write(head("|u1", 1, 1, ALPHA_BYTES))
        for _ in range(ALPHA_BYTES // 2**20):
            file.write(bytes(2**20))
    assert path.stat().st_size < ALPHA_BYTES / 500
    with pytest.raises(InvalidInputError, match=r"alphas\.npz: unpacked"):
        read_alphas(path)


def test_alphas_of_any_number_of_empty_words_are_refused(tmp_path: Path) -> None:
    shapes = {"epoch": ("<i8", 0), "step": ("<i8", 0), "device": ("<U1", 0), "weights": ("<f4", 0, 0, 10**12)}
    with zipfile.ZipFile(tmp_path / "alphas.npz", "w") as archive:
        for name, shape in {**shapes, "decision": ("<U0", 10**12), "choice": ("<U0", 10**12)}.items():
            archive.writestr(f"{name}.npy", head(*shape))
    with pytest.raises(InvalidInputError, match=r"alphas\.npz: it has more values than bytes"):
        read_alphas(tmp_path / "alphas.npz")


def test_a_configuration_whose_aliases_multiply_is_refused(tmp_path: Path) -> None:
    lists = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(["a0: &a0 [x]", *lists, "space: *a9"]))
    with pytest.raises(InvalidInputError, match=r"cannot read .*config\.yaml: aliases are not read"):
        read_config(path)


def test_of_a_large_value_only_the_beginning_is_written() -> None:
    value: object = "x"
    for _ in range(12):
        value = [value] * 10
    assert len(shown(value)) < 2000
