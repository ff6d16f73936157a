"""Reports: every number is that of the files, every state of a run has one, and one file is all it takes."""

import json
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import yaml

from search_spaces.errors import InvalidInputError
from tests.report_marks import (
    assert_true_to_files,
    leaves,
    looked_up,
    loose_numbers,
    parsed,
    quoted,
    rows_of,
    shows,
    source_of,
    text_of,
)
from tests.reported_runs import change, draw_nothing, every_state, measured, sampled, unmet
from trainers.analysis.loading import load_run, load_sweep
from trainers.analysis.seeds import stability
from trainers.cli.report_command import run as espalier_report
from trainers.reports.report import run_page, sweep_page, write_report

SECTIONS = ["budgets", "accuracy", "architectures", "timeline", "inside", "trust", "cost", "reproduction", "next"]
STATES = ("interrupted", "failed", "stopped", "killed", "running", "queued", "infeasible")

run_page_of = cache(run_page)  # of runs that no test changes


@dataclass(frozen=True)
class Runs:
    """A sweep folder with two finished seeds, one run with a budget not met, and one of each other state."""

    sweep: Path
    done: Path
    second: Path
    others: dict[str, Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    done, second = sampled(folder), sampled(folder, seed=1)
    others = {"unmet": unmet(done, "unmet"), **every_state(done)}
    return Runs(done.parent, done, second, others)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)


def test_every_number_of_a_report_is_that_of_its_file(runs: Runs) -> None:
    page = run_page_of(runs.done)
    shown = set(assert_true_to_files(page, runs.done))
    result = json.loads((runs.done / "result.json").read_text())
    parts = ("budgets", "predicted", "upper", "recounted", "utilisation", "accuracy")
    for name, device in result["devices"].items():
        due = {field for part in parts for field in leaves(device[part], f"devices.{name}.{part}")}
        assert len(due) > 15 and due <= shown
    assert set(leaves(result["transfer"], "transfer")) & shown
    assert {f"search.{key}" for key in ("train_seconds", "derive_seconds", "steps", "peak_memory_mb")} <= shown
    assert {"hashes.config", "hashes.cost_table", "data.split_hash", "seed", "command"} <= shown


def test_no_number_stands_in_a_report_without_its_origin(runs: Runs) -> None:
    for page in (run_page_of(runs.done), run_page_of(runs.others["failed"]), sweep_page(runs.sweep)):
        assert loose_numbers(parsed(page)) == []


def test_sections_stand_in_their_order(runs: Runs) -> None:
    for run in (runs.done, *runs.others.values()):
        root = parsed(run_page_of(run))
        assert [section.attrib["id"] for section in root.iter("section")] == SECTIONS


def test_the_verdict_comes_first_and_counts_the_devices_within_budget(runs: Runs) -> None:
    for run, met in ((runs.done, 2), (runs.others["unmet"], 1)):
        (heading,) = parsed(run_page_of(run)).iter("h1")
        assert text_of(heading) == f"{met} of 2 devices within budget"


def test_the_table_of_epochs_has_every_metric_with_a_budget_and_no_other(runs: Runs, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs.done, tmp_path / "memory"))
    text = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(text.replace("iot_terminal/gflops", "iot_terminal/peak_memory_mb"))
    table = next(t for t in parsed(run_page(run)).iter("table") if "Expected cost" in text_of(t))
    heads = [text_of(cell) for cell in next(table.iter("tr"))][2:]
    assert heads == ["mid_tablet, ms", "mid_tablet, GFLOPs", "iot_terminal, ms", "iot_terminal, MB"]


def test_a_budget_that_is_not_met_is_reported_with_the_metric(runs: Runs) -> None:
    page = run_page_of(runs.others["unmet"])
    assert_true_to_files(page, runs.others["unmet"])
    assert "a budget is not met" in page and "latency_ms breaks its budget" in page
    assert next(text_of(e) for e in parsed(page).iter("span") if e.attrib.get("class") == "pill bad") == "unmet"


@pytest.mark.parametrize("state", STATES)
def test_a_run_without_a_result_has_a_report_of_what_it_left(runs: Runs, state: str) -> None:
    run = runs.others[state]
    page = run_page_of(run)
    assert_true_to_files(page, run)
    root = parsed(page)
    reported = load_run(run).state
    assert reported.state in [text_of(e) for e in root.iter("span") if "pill" in e.attrib.get("class", "")]
    if reported.reason:
        assert reported.reason in [text_of(e) for e in root.iter("samp")]
    assert "Architecture per device" in page and "No network was derived" in page
    assert [text_of(e) for e in root.iter("h1")] != ["2 of 2 devices within budget"]


def test_an_interrupted_run_tells_the_command_that_goes_on(runs: Runs) -> None:
    root = parsed(run_page_of(runs.others["interrupted"]))
    (section,) = (s for s in root.iter("section") if s.attrib["id"] == "next")
    assert [text_of(e) for e in section.iter("code")] == ["espalier-search -m 'seed=range(2)' sweep=tiny"]


def test_a_run_that_has_left_only_its_state_has_a_report(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "sweep" / "waits"
    run.mkdir(parents=True)
    shutil.copy(runs.others["queued"] / "status.json", run)
    page = run_page(run)
    assert_true_to_files(page, run)
    assert "it waits, or ended before it wrote one" in page and loose_numbers(parsed(page)) == []
    assert "not known yet" in sweep_page(run.parent)


def test_the_next_seed_is_proposed_of_a_single_command(runs: Runs, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs.done, tmp_path / "single"))
    change(run / "status.json", command="espalier-search seed=0")
    assert "espalier-search seed=0 seed=1" in run_page(run)
    assert "sweep=tiny seed=1" not in run_page_of(runs.done)  # of a command of many runs, it would start all again


def test_predicted_recounted_and_measured_figures_stand_apart(runs: Runs, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs.done, tmp_path / "measured"))
    result = json.loads((run / "result.json").read_text())
    result["devices"]["mid_tablet"] |= {"measured": {**measured(4.321), "p90_ms": 5.5}, "measured_reason": None}
    (run / "result.json").write_text(json.dumps(result))
    page = run_page(run)
    assert "devices.mid_tablet.measured.latency_ms" in assert_true_to_files(page, run)
    table = next(parsed(page).iter("table"))
    headings = [text_of(e) for e in table.iter("th")][2:8]
    assert headings == ["budget", "predicted", "upper bound", "recounted", "measured", "used"]
    latency = next(row for row in table.iter("tr") if "latency, ms" in text_of(row))
    cells = [text_of(cell) for cell in latency.iter("td")][1:]
    assert cells[3:5] == ["n/a", "4.321"] and "not measured" not in cells


def test_hostile_text_stays_text(runs: Runs, tmp_path: Path) -> None:
    hostile = "</style><script>alert('x')</script>\" onload=\"alert(1)"
    run = Path(shutil.copytree(runs.done, tmp_path / "hostile"))
    result = json.loads((run / "result.json").read_text())
    result["devices"]["mid_tablet"]["profile"] |= {"title": hostile, "source": hostile, "measured": [hostile]}
    result["devices"]["mid_tablet"]["notation"] = hostile
    (run / "result.json").write_text(json.dumps(result))
    change(run / "status.json", command=hostile)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "tags": [hostile]}))
    failed = runs.others["failed"]
    own = run_page(run)
    for page in (own, run_page_of(failed), sweep_page(failed.parent)):
        root = parsed(page)
        assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]
        assert {e.tag for e in root.iter() if str(e.tag).endswith(("script", "img", "iframe", "object"))} == set()
    assert hostile in [text_of(e) for e in parsed(own).iter("code")]


@pytest.mark.parametrize("name", ["<img src=x>", "../../elsewhere", ""])
def test_a_device_whose_files_would_lie_elsewhere_is_refused(runs: Runs, tmp_path: Path, name: str) -> None:
    run = Path(shutil.copytree(runs.done, tmp_path / "hostile"))
    result = json.loads((run / "result.json").read_text())
    devices = {(name if key == "iot_terminal" else key): device for key, device in result["devices"].items()}
    change(run / "result.json", devices=devices)
    with pytest.raises(InvalidInputError, match=rf"devices\.{re.escape(name)}"):
        write_report(run)


def test_a_report_loads_nothing(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # plots and all
    for page in (run_page(runs.done), sweep_page(runs.sweep)):
        for element in parsed(page).iter():
            for key, value in element.attrib.items():
                if key.rpartition("}")[2] in ("src", "href", "data", "action", "srcset"):
                    local = value.startswith(("#", "data:")) or re.fullmatch(r"[\w%.-]+/report\.html", value)
                    assert local, (element.tag, key, value)
        assert "@import" not in page and not re.search(r"url\((?!#)", page)


def test_a_sweep_report_tells_every_run_with_its_state_and_reason(runs: Runs) -> None:
    page = sweep_page(runs.sweep)
    table = next(parsed(page).iter("table"))
    reported = {}
    for row in list(table.iter("tr"))[1:]:
        cells = [text_of(cell) for cell in row]
        reported[cells[0]] = cells[3]
    expected = {}
    for folder in sorted(runs.sweep.iterdir()):
        state = load_run(folder).state
        expected[folder.name + (state.reason or "")] = state.state
    # Before the name of the folder stands what tells the run from the others.
    assert {name: state for words, state in reported.items() for name in expected if words.endswith(name)} == expected
    assert len(reported) == len(expected)
    assert sorted(reported.values()) == sorted(
        ["done", "done", "unmet", "infeasible", "interrupted", "interrupted", "failed", "stopped", "running", "queued"]
    )
    assert text_of(next(parsed(page).iter("h1"))) == "2 of 10 runs done"


def test_numbers_of_a_sweep_report_are_those_of_its_runs(runs: Runs) -> None:
    count = 0
    contents: dict[str, Any] = {}
    for source, field, text, value in quoted(sweep_page(runs.sweep)):
        if source not in contents:
            run, _, file = source.partition("/")
            contents[source] = source_of(runs.sweep / run, file)
        recorded = looked_up(contents[source], field)
        assert shows(text, recorded), (source, field, text)
        assert value is None or json.loads(value) == recorded
        count += 1
    assert count > 60


def test_means_and_deviations_over_seeds_are_those_of_the_results(runs: Runs, tmp_path: Path) -> None:
    for run in (runs.done, runs.second):
        shutil.copytree(run, tmp_path / run.name)
    rows = rows_of(sweep_page(tmp_path), "strategies")
    results = [json.loads((run / "result.json").read_text())["devices"] for run in (runs.done, runs.second)]
    for row, device in zip(rows, ("mid_tablet", "iot_terminal"), strict=True):
        assert row[:3] == ["pool", device, "2"]
        for cell, kind in zip(row[3:4] + row[5:8], ("finetuned", "inherited", "random", "supernet"), strict=True):
            values = [result[device]["accuracy"][kind] for result in results]
            assert cell == f"{mean(values):.3f} ± {stdev(values):.3f}"
        latencies = [result[device]["predicted"]["latency_ms"] for result in results]
        mean_words = f"{mean(latencies):#.4g}"
        assert row[8] == f"{mean_words} ± {stdev(latencies):.{len(mean_words.partition('.')[2])}f}"
    alone = tmp_path / "alone"
    shutil.copytree(runs.done, alone / runs.done.name)
    assert "one seed" in rows_of(sweep_page(alone), "strategies")[0][3]


def test_stability_and_transfer_of_a_sweep_are_reported(runs: Runs, tmp_path: Path) -> None:
    for run in (runs.done, runs.second):
        shutil.copytree(run, tmp_path / run.name)
    page = sweep_page(tmp_path)
    scores = stability(load_sweep(tmp_path)).scores
    shown = {row[1]: row[4] for row in rows_of(page, "stability")}
    assert shown == {row.device: f"{100 * row.agreement:.1f} %" for row in scores.itertuples()}
    results = [json.loads((run / "result.json").read_text()) for run in (runs.done, runs.second)]
    cell = rows_of(page, "transfer")[0][2]  # the tablet's network on the terminal
    pairs = [result["transfer"]["mid_tablet"]["iot_terminal"] for result in results]
    latency_ms = mean(pair["latency_ms"] for pair in pairs)
    assert cell == f"{latency_ms:#.4g} ms{sum(pair['within'] for pair in pairs)} of 2 within"


def test_a_sweep_without_a_finished_run_has_a_report(runs: Runs, tmp_path: Path) -> None:
    for name in ("queued", "failed", "infeasible"):
        shutil.copytree(runs.others[name], tmp_path / name)
    page = sweep_page(tmp_path)
    assert loose_numbers(parsed(page)) == []
    assert "No run has a result yet" in page and "0 of 3 runs done" in text_of(next(parsed(page).iter("h1")))


def test_the_command_writes_the_file_and_says_where(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert espalier_report([str(runs.done)]) == 0
    assert capsys.readouterr().out.strip() == str(runs.done / "report.html")
    parsed((runs.done / "report.html").read_text(encoding="utf-8"))


def test_a_folder_that_is_neither_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([str(tmp_path)], [str(tmp_path / "none")], ["verify", str(tmp_path)], ["a", "b"]):
        assert espalier_report(words) == 2
        assert capsys.readouterr().err.startswith("espalier-report: ")
