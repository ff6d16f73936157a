"""A report tells what a run came of: its code, hashes and versions, with or without a result."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.report_marks import assert_true_to_files, loose_numbers, parsed, text_of
from tests.reported_runs import change, draw_nothing, ended, measured, sampled
from trainers.reports import report
from trainers.reports.report import run_page, sweep_page


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run, to change."""
    draw_nothing(monkeypatch)
    return sampled(tmp_path)


def reproduction(page: str) -> str:
    (section,) = (s for s in parsed(page).iter("section") if s.attrib["id"] == "reproduction")
    return text_of(section)


@pytest.mark.parametrize(("changed", "words"), [(True, ", its files changed since"), (False, ""), (None, "")])
def test_the_code_that_searched_is_reported_and_that_it_was_not_that_of_its_commit(
    done: Path, changed: bool | None, words: str
) -> None:
    commit = None if changed is None else "0123abcd"
    code = {"version": "0.1.0", "commit": commit, "changed": changed, "sha256": "4567cdef"}
    change(done / "result.json", code=code)
    page = run_page(done)
    assert {"code.version", "code.sha256"} <= set(assert_true_to_files(page, done))
    reported = commit or "not known: not run from a checkout with git"
    assert f"0.1.0, commit {reported}{words}; hash of its files 4567cdef" in [
        text_of(e) for e in parsed(page).iter("dd")
    ]
    assert page.count("Espalier changed since its commit") == 2 * bool(changed)  # at the top, and under Trust


def test_plugins_are_reported_with_their_modules_versions_and_hashes(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "plug-in" not in reproduction(run_page(done))
    monkeypatch.setattr(report, "require_plugins", lambda content, recorded: None)
    plugins = {"ladder": {"version": None, "sha256": "4567cdef"}, "of_others": {"version": "2.1", "sha256": "89ab"}}
    code = {"version": "0.1.0", "commit": None, "changed": None, "sha256": "0123", "plugins": plugins}
    change(done / "result.json", code=code)
    config = yaml.safe_load((done / "config.yaml").read_text(encoding="utf-8"))
    (done / "config.yaml").write_text(yaml.safe_dump(config | {"plugins": ["ladder.space"]}), encoding="utf-8")
    page = run_page(done)
    fields = {f"code.plugins.{name}.sha256" for name in plugins} | {"code.plugins.of_others.version", "plugins.0"}
    assert fields <= set(assert_true_to_files(page, done))
    terms = [text_of(e) for e in parsed(page).iter("dt")]
    assert {"plug-in ladder", "plug-in of_others"} <= set(terms) and loose_numbers(parsed(page)) == []


@pytest.mark.parametrize(
    ("margin", "timed", "reported"),
    [
        ("upper", None, "checked against the upper bound, which covers 90.0 % of"),
        ("point", None, "checked against the estimate;"),
        ("upper", measured(3.0), "checked against the measurement."),
    ],
)
def test_only_a_bound_is_said_to_cover_networks(
    done: Path, margin: str, timed: dict[str, Any] | None, reported: str
) -> None:
    result = json.loads((done / "result.json").read_text(encoding="utf-8"))
    devices = {name: device | {"margin": margin, "measured": timed} for name, device in result["devices"].items()}
    change(done / "result.json", devices=devices)
    page = " ".join(text_of(parsed(run_page(done))).split())
    assert reported in page
    assert ("covers 90.0 %" in page) == (reported.endswith("of"))


@pytest.mark.parametrize("state", ["interrupted", "infeasible"])
def test_a_run_without_a_result_tells_the_code_and_hashes_that_it_started_from(done: Path, state: str) -> None:
    run = ended(done, state, state, error="ended by SIGTERM")
    page = run_page(run)
    shown = set(assert_true_to_files(page, run))
    assert {f"hashes.{name}" for name in ("config", "cost_table", "data_split")} <= shown
    assert {"code.version", "code.sha256", "versions.torch", "versions.scipy"} <= shown
    assert "verify" not in reproduction(page)  # it refuses a run without a result
    assert "espalier-report verify recounts and checks what stands here" in reproduction(run_page(done))


def test_a_run_that_ended_before_it_knew_what_it_starts_from_says_so(done: Path) -> None:
    nothing: dict[str, dict[str, str]] = {"hashes": {}, "code": {}, "versions": {}}
    run = ended(done, "early", "interrupted", error="ended by SIGTERM", **nothing)
    page = run_page(run)
    assert_true_to_files(page, run)
    assert "none was recorded" in reproduction(page)
    assert "not recorded" in sweep_page(run.parent)


def test_a_pruning_log_without_a_row_is_reported_from_none(done: Path) -> None:
    run = ended(done, "early", "interrupted", error="ended by SIGTERM")
    (run / "prune.csv").write_text((run / "prune.csv").read_text().splitlines()[0] + "\n")
    assert "No choice had been pruned." in run_page(run)
    (run / "prune.csv").unlink()
    assert "No pruning log was written." in run_page(run)
