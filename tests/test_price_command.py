"""`espalier-price`: figures by hand, budgets beside them, and wrong networks refused with the cause."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from console import (
    HEAVY,
    PRICE,
    Cli,
    complaints,
    console,
    done,
    ends_with_examples_and_exit_codes,
    examples,
    imported_by,
    refused,
    spaces_in_help,
)
from spaces import ROOT
from tiny_search import bound_factor

from hardware_models.metrics import METRICS
from search_spaces.architecture import SPACES, architecture_of

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
GENOTYPE = "Genotype(normal=[('sep_conv_3x3', 0)], normal_concat=[2], reduce=[('skip_connect', 0)], reduce_concat=[2])"
OF_CELL = (f'arch="{CELL}"', "space=nasbench201")


@pytest.fixture
def price(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(PRICE, monkeypatch, capsys, tmp_path)


def devices(price: Cli, *arguments: str) -> dict[str, dict[str, Any]]:
    found = json.loads(done(price(*arguments, "format=json")))
    return {each["device"]: each for each in found["devices"]}


def test_a_cell_costs_the_sum_of_its_operations(price: Cli) -> None:
    found = devices(price, *OF_CELL, "hardware=[nb201_pixel3]")["nb201_pixel3"]
    # 15 cells of five convolutions and three additions, one of each in both reductions, at the prices of the profile.
    latency_ms = 0.4916 + (15 * 5 + 2) * 0.4253 + (15 * 3 + 2) * 0.005805
    assert found["latency_ms"] == pytest.approx(latency_ms, rel=1e-9)
    assert found["latency_upper_ms"] == pytest.approx(latency_ms * bound_factor("nb201_pixel3"), rel=1e-9)
    # Stem; five convolutions in each of five cells, weights of a stage four times those of the one before, its maps a
    # quarter; the reductions' two convolutions and shortcut. Norm, pooling and classifier are less than a thousandth.
    cells = 3 * 5 * 5 * 9 * 16 * 16 * 32 * 32
    reductions = 2 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32 + 4 * 16) * 16 * 16 - 4 * 16 * 16 * 16
    assert found["gflops"] == pytest.approx((9 * 3 * 16 * 32 * 32 + cells + reductions) / 1e9, rel=1e-3)


def test_a_line_a_text_file_and_an_architecture_file_of_one_network_cost_the_same(price: Cli, tmp_path: Path) -> None:
    space = SPACES["nasbench201"]()
    Path("cell.txt").write_text(f"{CELL}\n", encoding="utf-8")
    file = tmp_path / "cell.json"
    file.write_text(architecture_of(space, space.parse(CELL)).to_json(), encoding="utf-8")
    line = done(price(*OF_CELL, "format=json"))
    assert done(price("arch=cell.txt", "space=nasbench201", "format=json")) == line
    assert done(price(f"architecture={file}", "format=json")) == line


@pytest.mark.parametrize("margin", ["upper", "point"])
def test_a_budget_is_met_up_to_the_figure_that_it_is_checked_against(price: Cli, margin: str) -> None:
    own = ("hardware=[mid_tablet]", f"margin={margin}", "hardware.mid_tablet.budgets.params_m=1")
    held = devices(price, *OF_CELL, *own)["mid_tablet"]["latency_upper_ms" if margin == "upper" else "latency_ms"]
    for share, is_met in ((1.001, True), (0.999, False)):
        budget = f"hardware.mid_tablet.budgets.latency_ms={share * held}"
        found = devices(price, *OF_CELL, *own, budget)["mid_tablet"]
        assert found["met"] == {"latency_ms": is_met, "gflops": True, "params_m": False}  # 1.29 million


def test_a_device_costs_the_same_alone_and_beside_others_with_units_and_without_budgets(price: Cli) -> None:
    names = ("split_phone_server", "mid_tablet", "three_units")
    without = [f"hardware.three_units.budgets.{metric}=null" for metric in METRICS]
    together = devices(price, *OF_CELL, f"hardware=[{','.join(names)}]", *without)
    assert list(together) == list(names)
    assert together["three_units"]["met"] == {}
    for name in names:
        alone = devices(price, *OF_CELL, f"hardware=[{name}]", *(without if name == "three_units" else ()))[name]
        assert alone == {**together[name], **{metric: pytest.approx(together[name][metric]) for metric in METRICS}}


def test_the_table_and_the_csv_have_the_figures_of_the_json(price: Cli) -> None:
    own = (*OF_CELL, "hardware=[nb201_pixel3,split_phone_server]")
    found, table = devices(price, *own), done(price(*own))
    for row in csv.DictReader(done(price(*own, "format=csv")).splitlines()):
        each = found[row["device"]]
        for metric in (*METRICS, "latency_upper_ms"):
            assert row[metric] == ("" if each[metric] is None else str(each[metric]))
            assert each[metric] is None or f"{each[metric]:.4g}" in table
        assert {m: row[f"{m}_budget"] for m in METRICS if row[f"{m}_budget"]} == {
            metric: str(limit) for metric, limit in each["budgets"].items()
        }
        assert {m: row[f"{m}_met"] == "True" for m in METRICS if row[f"{m}_met"]} == each["met"]
    assert CELL in table and "NOT MET" in table


@pytest.mark.parametrize(
    ("arguments", "key", "words"),
    [
        ((), "architecture", ()),
        ((*OF_CELL, "architecture=x.json"), "architecture", ()),
        (("architecture=x.json",), "architecture", ("x.json",)),
        ((OF_CELL[0],), "space", ("nasbench201", "mobile")),
        ((f'arch="{GENOTYPE}"', "space=nasbench201"), "arch", ("nasbench201", "none~0")),
        ((f'arch="{GENOTYPE}"',), "space", ("darts",)),
        ((f'arch="{GENOTYPE}"', "space=darts"), "arch", ("Genotype",)),
        (('arch="|nor_conv_5x5~0|"', OF_CELL[1]), "arch", ("nor_conv_5x5", "nor_conv_3x3")),
        (('arch="96px | 24: k3e3"', "space=mobile"), "arch", ("96", "128", "px | ")),
        ((*OF_CELL, "space.width=0"), "space.width", ()),
        ((*OF_CELL, "format=yaml"), "format", ("csv",)),
    ],
)
def test_a_wrong_network_is_refused_by_its_key_with_what_is_allowed(
    price: Cli, arguments: tuple[str, ...], key: str, words: tuple[str, ...]
) -> None:
    assert refused(price(*arguments), "espalier-price", *words) == (key,)


def test_a_device_without_a_price_for_the_network_is_refused_by_its_name(price: Cli) -> None:
    line = "128px | 24: k3e3 k3e3 | 40: k3e3 k3e3 | 80: k3e3 k3e3 | 96: k3e3 k3e3 | 160: k3e3 k3e3"
    refused(price(f'arch="{line}"', "space=mobile", "hardware=[nb201_pixel3]"), "espalier-price", "nb201_pixel3")


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_answers_without_a_price_import_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert imported_by("price_command", *arguments, folder=tmp_path)[2] & HEAVY == set()


def test_a_price_needs_no_part_of_training(tmp_path: Path) -> None:
    code, _, packages = imported_by("price_command", *OF_CELL, folder=tmp_path)
    assert code == 0 and packages & {"pytorch_lightning", "onnxruntime", "pandas", "matplotlib"} == set()


def test_every_example_of_the_help_is_a_command_that_is_understood(price: Cli) -> None:
    assert spaces_in_help(PRICE) == {path.stem for path in (ROOT / "conf" / "space").glob("*.yaml")}
    assert ends_with_examples_and_exit_codes(PRICE)
    for file in ("pixel6.json", "cell.txt"):
        Path(file).write_text(CELL, encoding="utf-8")
    for arguments in examples(PRICE):
        reported = complaints(price(*arguments, "num_classes=0"))  # all that is wrong with it
        assert reported == {"num_classes: got 0; Input should be greater than or equal to 2"}
