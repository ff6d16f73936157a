"""A search that is resumed with something else than it began with: refused where it computes, told where it is code."""

import json
import re
from pathlib import Path

import pytest
from interrupted_search import append, interrupted, one_thread, search_config, start, wait  # noqa: F401  # a fixture

import trainers.search.provenance
import trainers.search.training
from hardware_models.budgets.cost_table import CostTable
from trainers.runs.code import Code, running_code
from trainers.runs.state import state_of
from trainers.search.provenance import versions


def test_a_checkpoint_of_other_prices_is_refused_by_what_changed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = search_config(tmp_path)
    interrupted(config, after_epoch=1)

    def raise_prices() -> None:
        CostTable.digest = property(lambda table: "other")  # type: ignore[assignment, method-assign]

    assert wait(start(config, before=raise_prices)) == 1
    assert re.search(r"cannot be resumed: cost_table was [0-9a-f]{64}, is other; put back", capfd.readouterr().err)
    assert state_of(config.run_folder).state == "failed"


def test_a_search_that_is_resumed_under_other_code_says_so_and_lists_both(tmp_path: Path) -> None:
    config, said, other = search_config(tmp_path), tmp_path / "said", Code("0.2.0", None, None, "other")
    interrupted(config, after_epoch=2)

    def change_code() -> None:
        trainers.search.provenance.code_of = lambda content: other

    assert wait(start(config, before=change_code, report=lambda line: append(said, line))) == 0
    (line,) = (line for line in said.read_text(encoding="utf-8").splitlines() if line.startswith("resumed"))
    assert line.endswith(" of 7, with other files of Espalier than before: no uninterrupted run gives its result")
    result = json.loads((config.run_folder / "result.json").read_bytes())
    assert (result["code"], result["earlier_code"]) == (vars(other), [vars(running_code())])
    report = (config.run_folder / "report.html").read_text(encoding="utf-8")
    assert "Espalier changed during the search" in report and "Espalier before" in report
    assert "times are not those of an uninterrupted run; results are" not in report


@pytest.mark.parametrize("package", ["torch", "pytorch-lightning", "numpy", "scipy"])
def test_a_checkpoint_of_another_version_of_what_computes_is_refused(
    tmp_path: Path, package: str, capfd: pytest.CaptureFixture[str]
) -> None:
    config, now = search_config(tmp_path), versions()
    interrupted(config, after_epoch=1)

    def change_version() -> None:
        trainers.search.training.versions = lambda: now | {package: "0.0.1"}

    assert wait(start(config, before=change_version)) == 1
    assert f"cannot be resumed: {package} was {now[package]}, is 0.0.1; put back" in capfd.readouterr().err


@pytest.mark.parametrize("linked", ["checkpoints", "."], ids=["its checkpoints", "the run"])
def test_a_run_is_resumed_through_a_link_to_all_of_it_and_to_no_part(
    tmp_path: Path, linked: str, capfd: pytest.CaptureFixture[str]
) -> None:
    config, elsewhere = search_config(tmp_path), tmp_path / "larger disk"
    interrupted(config, after_epoch=1)
    place = config.run_folder / linked
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    before = sorted(elsewhere.iterdir())
    if linked == ".":
        assert wait(start(config)) == 0
        assert state_of(elsewhere).state == "done"
        return
    assert wait(start(config)) == 1
    assert f"{place} is a link out of its run; put a folder there" in capfd.readouterr().err
    assert state_of(config.run_folder).state == "failed"
    assert sorted(elsewhere.iterdir()) == before
