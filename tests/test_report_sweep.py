"""The report of a sweep tells every job of it: those without a run folder, and those whose files are malformed."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.report_marks import loose_numbers, parsed, rows_of, text_of
from tests.reported_runs import change, draw_nothing, ended, sampled, unmet
from tests.test_status import write_run
from trainers.reports.report import sweep_page, write_report
from trainers.sweeps.records import Job
from trainers.sweeps.sweep import VARIABLE, begin_sweep, end_sweep

COMMAND = "espalier-search -m 'seed=range(5)' sweep=tiny"


@pytest.fixture(autouse=True)
def no_sweep_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    draw_nothing(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sampled(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run alone in its sweep, to change."""
    return Path(shutil.copytree(finished, tmp_path / "tiny" / finished.name))


def begin(folder: Path, *, folders: Sequence[str | None], refused: str = "no such space") -> None:
    """A sweep of jobs with these run folders; one without is refused."""
    jobs = [Job(overrides=[f"seed={n}"], folder=f, refused=None if f else refused) for n, f in enumerate(folders)]
    begin_sweep(folder, command=COMMAND, launcher="joblib", jobs=jobs)


def states_and_reasons(page: str) -> dict[str, str]:
    """State by run, its name followed by its reason, as the table of runs has them."""
    return {row[0]: row[3] for row in rows_of(page, "runs")}


def heading(page: str) -> str:
    return text_of(next(parsed(page).iter("h1")))


def next_commands(page: str) -> list[str]:
    (section,) = (s for s in parsed(page).iter("section") if s.attrib["id"] == "next")
    return [text_of(element) for element in section.iter("code")]


def test_every_job_of_a_sweep_is_reported_and_counted_also_without_a_folder(run: Path) -> None:
    begin(run.parent, folders=[run.name, None, "key2", "key3"], refused="seed: got -1; allowed: 0 or more")
    write_run(run.parent / "key2", "failed", error="<b>no</b> space left")
    end_sweep()
    page = sweep_page(run.parent)
    assert states_and_reasons(page) == {
        f"seed=0{run.name}": "done",
        "seed=1job 1seed: got -1; allowed: 0 or more": "refused",
        "seed=2key2<b>no</b> space left": "failed",
        "seed=3job 3its sweep ended first, or it could not write its run folder": "never began",
    }
    assert heading(page) == "1 of 4 runs done" and loose_numbers(parsed(page)) == []


def test_jobs_of_a_sweep_that_goes_on_are_reported_and_its_command_is_not_yet_to_be_repeated(run: Path) -> None:
    begin(run.parent, folders=[run.name, "key1"])
    page = sweep_page(run.parent)
    assert states_and_reasons(page) == {f"seed=0{run.name}": "done", "seed=1job 1": "queued"}
    assert next_commands(page) == [f"espalier-status {run.parent}"]
    end_sweep()


def test_runs_and_searches_are_named_by_what_was_swept_and_folders_are_where_links_lead(
    run: Path,
) -> None:
    whole = (run / "config.yaml").read_text(encoding="utf-8")
    for lr, seed in ((0.1, 1), (0.03, 0), (0.03, 1)):
        copy = Path(shutil.copytree(run, run.parent / f"mobile-pool-seed{seed}-lr{lr}"))
        text = whole.replace("\n  lr: 0.1\n", f"\n  lr: {lr}\n", 1).replace("\nseed: 0\n", f"\nseed: {seed}\n")
        (copy / "config.yaml").write_text(text, encoding="utf-8")
    page = sweep_page(run.parent)
    links = {text_of(link): link.attrib["href"] for link in parsed(page).iter("a") if "report" in link.attrib["href"]}
    assert links == {
        "lr=0.1 seed=0": f"{run.name}/report.html",
        **{
            f"lr={lr} seed={s}": f"mobile-pool-seed{s}-lr{lr}/report.html" for lr, s in ((0.1, 1), (0.03, 0), (0.03, 1))
        },
    }
    assert {row[0] for section in ("strategies", "stability") for row in rows_of(page, section)} == {
        "lr=0.1",
        "lr=0.03",
    }
    for words in ("The runs differ in optimizer.lr, seed.", "Search lr=0.1", "Search lr=0.03"):
        assert words in " ".join(text_of(parsed(page)).split())
    assert loose_numbers(parsed(page)) == []


def test_each_budget_of_a_sweep_is_reported_with_what_is_held_against_it_and_which_binds(run: Path) -> None:
    unmet(run, "unmet")
    rows = rows_of(sweep_page(run.parent), "budgets")
    (broken,) = (row for row in rows if row[-5] == "over budget")
    assert broken[-2:] == ["latency, ms", "125.0 %"] and "no budget" not in broken
    devices = json.loads((run / "result.json").read_text())["devices"]
    for name, row in zip(devices, rows, strict=False):
        device = devices[name]
        shown = [f"{device['budgets'][metric]:.9g}" for metric in ("latency_ms", "gflops")]
        assert row[-6:-4] == [name, "within budget"]
        assert [cell.partition(" of ")[2] for cell in row[-4:-2]] == shown
        assert row[-1] == f"{100 * device['utilisation'][device['binding']]:.1f} %"


def test_where_runs_of_a_sweep_come_of_other_things_is_reported_with_the_runs(run: Path) -> None:
    copy = Path(shutil.copytree(run, run.parent / "other"))
    result = json.loads((run / "result.json").read_text())
    seed = (copy / "config.yaml").read_text(encoding="utf-8").replace("\nseed: 0\n", "\nseed: 1\n")
    (copy / "config.yaml").write_text(seed, encoding="utf-8")
    change(copy / "result.json", versions={**result["versions"], "torch": "1.2.3"})
    page = sweep_page(run.parent)
    (section,) = (s for s in parsed(page).iter("section") if s.attrib["id"] == "reproduction")
    terms = [text_of(e) for e in section.iter("dt")]
    reported = dict(zip(terms, (text_of(e) for e in section.iter("dd")), strict=True))
    assert reported["torch"] == f"{result['versions']['torch']} of seed=01.2.3 of seed=1"
    assert reported["cost table"] == result["hashes"]["cost_table"] and reported["numpy"] == result["versions"]["numpy"]
    assert reported["split of the data"] == result["hashes"]["data_split"]
    assert reported["hash of its files"] == result["code"]["sha256"]
    assert run.name in text_of(section) and loose_numbers(parsed(page)) == []


def test_runs_and_searches_stand_in_the_order_of_the_numbers_in_their_labels(run: Path) -> None:
    whole = (run / "config.yaml").read_text(encoding="utf-8")
    for name, steps in (("a", 120), ("b", 40), ("c", 8)):
        copy = Path(shutil.copytree(run, run.parent / name))
        text = whole.replace("\n  steps: 200\n", f"\n  steps: {steps}\n", 1)
        (copy / "config.yaml").write_text(text, encoding="utf-8")
    page = sweep_page(run.parent)
    assert [row[0][:9] for row in rows_of(page, "runs")] == ["steps=8c", "steps=40b", "steps=120", "steps=200"]
    searches = [row[0] for row in rows_of(page, "strategies")]
    assert list(dict.fromkeys(searches)) == [f"steps={steps}" for steps in (8, 40, 120, 200)]


def test_what_is_open_is_finished_by_the_command_of_the_sweep_and_not_of_its_runs(run: Path) -> None:
    folders = [ended(run, name, "failed", error="torn") for name in ("a", "b")]
    for folder in folders:
        change(folder / "status.json", command=f"espalier-search run={folder.name}")
    begin(run.parent, folders=[run.name, *(folder.name for folder in folders)])
    end_sweep()
    assert next_commands(sweep_page(run.parent)) == [COMMAND, f"espalier-status {run.parent}"]
    (run.parent / "sweep.json").unlink()  # as versions without it left a sweep
    alone = [f"espalier-search run={folder.name}" for folder in folders]
    assert next_commands(sweep_page(run.parent)) == [*alone, f"espalier-status {run.parent}"]


def cut(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:40]) and None


def wordy_objective(run: Path) -> None:
    objective = json.loads((run / "result.json").read_text())["objective"]
    change(run / "result.json", objective={**objective, "validation_accuracy": "high"})


def wordy_data(run: Path) -> None:
    data = json.loads((run / "result.json").read_text())["data"]
    change(run / "result.json", data={**data, "images": {**data["images"], "test": "many"}})


def other_device(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    search, transfer = result["search"], result["transfer"]
    alone = (result["devices"], transfer, *transfer.values(), search["choices_alive"], search["worst_surviving_share"])
    for named in alone:
        del named["iot_terminal"]
    figures = {key: value for key, value in result["objective"].items() if "iot_terminal" not in key}
    change(run / "result.json", **result | {"objective": figures})


def other_network(run: Path) -> None:
    shutil.copy(run / "architectures" / "iot_terminal.json", run / "architectures" / "mid_tablet.json")
    cut("architectures/iot_terminal.json")(run)


def no_accuracy(run: Path) -> None:
    (run / "metrics.csv").write_text("epoch,step\n1,6\n2,12\n")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut("status.json"), "status.json"),
        (cut("result.json"), "result.json"),
        (cut("config.yaml"), "config.yaml"),
        (cut("alphas.npz"), "alphas.npz"),
        (cut("architectures/mid_tablet.json"), "mid_tablet.json"),
        (wordy_objective, "objective.validation_accuracy: got 'high'"),
        (wordy_data, "data.images.test: got 'many'"),
        (other_device, "result.json has devices ['mid_tablet']"),
        (other_network, "mid_tablet.json: field 'id'"),
        (no_accuracy, "metrics.csv"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_file_costs_one_row_and_not_the_report(
    run: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoiled = Path(shutil.copytree(run, run.parent / "spoiled"))
    spoil(spoiled)
    page = write_report(run.parent).read_text(encoding="utf-8")
    reported = states_and_reasons(page)
    assert sorted(reported.values()) == ["done", "unreadable"] and reported[run.name] == "done"
    (words,) = (words for words, state in reported.items() if state == "unreadable")
    assert words.startswith("spoiled") and reason in words
    assert heading(page) == "1 of 2 runs done" and loose_numbers(parsed(page)) == []


def test_a_torn_record_of_the_sweep_is_a_row_too(run: Path) -> None:
    (run.parent / "sweep.json").write_text("{")
    reported = states_and_reasons(sweep_page(run.parent))
    assert reported.pop(run.name) == "done" and list(reported.values()) == ["unreadable"]


def test_warnings_of_a_sweep_are_those_of_its_runs_each_reason_counted_by_itself(run: Path) -> None:
    other = Path(shutil.copytree(run, run.parent / "other"))
    for folder, entropy, reason in ((run, 0.9, "never measured"), (other, 0.2, "measured elsewhere")):
        result = json.loads((folder / "result.json").read_text())
        result["devices"]["mid_tablet"]["profile"] |= {"error": None, "error_reason": reason}
        change(folder / "result.json", **result | {"search": {**result["search"], "entropy": entropy}})
    (section,) = (s for s in parsed(sweep_page(run.parent)).iter("section") if s.attrib["id"] == "trust")
    reported = {text_of(item) for item in section.iter("li")}
    once = " · raised 1 time, in 1 run"
    assert {
        f"latency of unknown error{once}{reason}" for reason in ("never measured", "measured elsewhere")
    } <= reported
    assert any(words.startswith(f"the search did not decide{once}") for words in reported)
