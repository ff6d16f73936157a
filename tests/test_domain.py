"""A bound is widened for networks of inputs that its profile was not fitted to, by hand and in what a command says."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from console import PRICE, Cli, console, done
from priced_profiles import ROOFLINE
from spaces import ROOT

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.domain import Domain, domain_of, input_pixels
from hardware_models.profile import HardwareProfile, load_profile, profile_from_dict
from hardware_models.testing import check_profile
from search_spaces.errors import InvalidInputError
from search_spaces.mobile.space import MobileSpace
from search_spaces.nasbench201.space import NasBench201Space
from search_spaces.operation import Operation

KINDS = ("pointwise", "dense", "depthwise", "linear", "pool", "elementwise")
RATE = {"throughput_gops": 10.0, "overhead_ms": 0.01}


def profile(**domain: Any) -> HardwareProfile:
    latency = {**ROOFLINE["latency"], "kinds": dict.fromkeys(KINDS, RATE)}  # type: ignore[dict-item]
    return profile_from_dict("x", {**ROOFLINE, "latency": latency, "domain": domain})


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [([100, 400], 1.0), ([25], 2.0), ([1600], 2.0), ([25, 400], 2.0), ([200, 3600], 3.0)],  # roots of 4, 4, 4, 9
)
def test_the_bound_grows_with_a_power_of_the_ratio_of_pixels(pixels: list[int], expected: float) -> None:
    assert Domain(pixels=(100, 400), growth=0.5).widening(pixels) == pytest.approx(expected)
    assert Domain(pixels=(100, 400), growth=0.0).widening(pixels) == 1


def test_a_fit_has_the_inputs_of_its_networks_as_its_domain() -> None:
    large, small = (Operation("conv", (3, h, w), (8, h, w), kernel=3) for h, w in ((20, 30), (8, 8)))
    assert domain_of([[large, small], [small, small]]).pixels == (64, 600)


def test_the_inputs_of_a_space_are_those_of_all_its_networks() -> None:
    assert input_pixels(MobileSpace.small()) == (48 * 48, 64 * 64)
    assert input_pixels(NasBench201Space()) == (32 * 32, 32 * 32)


def test_a_table_widens_the_bound_of_a_device_as_far_as_its_space_leaves_the_domain() -> None:
    space = MobileSpace.small()
    inside, outside = profile(pixels=[48 * 48, 64 * 64]), profile(pixels=[4 * 48 * 48, 10**6], growth=0.5)
    table = CostTable(space, [inside, outside])
    assert [device.upper("latency_ms", 8.0) for device in table.devices] == [8 * 1.25, 8 * 1.25 * 2]
    assert [device.upper("gflops", 8.0) for device in table.devices] == [8.0, 8.0]
    assert [device.largest_total("latency_ms", 20.0) for device in table.devices] == [16.0, 8.0]
    assert [device.largest_total("latency_ms", 20.0, margin="point") for device in table.devices] == [20.0, 20.0]
    assert [bool(device.outside) for device in table.devices] == [False, True]
    again = CostTable(space, table.devices)
    assert again.devices == table.devices  # not widened twice
    assert outside.widening == 1  # the profile by itself
    assert table.devices[1].provenance["domain"] == {"pixels": [4 * 48 * 48, 10**6], "growth": 0.5}
    assert table.devices[1].provenance["widening"] == 2


def test_a_budget_that_only_the_widening_breaks_is_infeasible_and_its_share_stays_that_of_the_estimate() -> None:
    space, limits = MobileSpace.small(), {"latency_ms": 1e9}
    problem = BudgetProblem(CostTable(space, [profile(pixels=[4 * 48 * 48, 10**6], growth=0.5)]), "x", limits)
    indices = [0] * len(space.decisions)
    estimate = problem.table.named(indices, 0)["latency_ms"]
    assert problem.held("latency_ms", estimate) == pytest.approx(2.5 * estimate)
    assert problem.utilisation(indices)["latency_ms"] == pytest.approx(2.5 * estimate / 1e9)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"domain": {"pixels": [400, 100]}}, "domain"),
        ({"domain": {"pixels": [0, 100]}}, "domain"),
        ({"domain": {"pixels": [1, 100], "growth": -1.0}}, "domain.growth"),
        ({"domain": {"pixels": [1, 100]}, "bound": None}, "domain"),
        ({"widening": 2.0}, "widening"),
    ],
)
def test_a_domain_that_says_nothing_is_refused_by_its_key(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError, match=f"hardware.x.{field}"):
        profile_from_dict("x", {**ROOFLINE, **changes})


def test_a_bound_over_a_model_that_prices_anything_needs_a_domain() -> None:
    with pytest.raises(AssertionError):
        check_profile(profile_from_dict("x", ROOFLINE))
    check_profile(profile(pixels=[1, 100]))
    pixel3 = load_profile(ROOT / "conf" / "hardware" / "nb201_pixel3.yaml")
    assert pixel3.domain is None
    check_profile(pixel3)  # it refuses what it was not fitted to


@pytest.fixture
def price(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(PRICE, monkeypatch, capsys, tmp_path)


def test_a_price_says_where_its_bound_is_widened(price: Cli) -> None:
    cell = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    text = done(price(f'arch="{cell}"', "space=nasbench201", "hardware=[mid_tablet,nb201_pixel3]", "format=json"))
    found = {each["device"]: each for each in json.loads(text)["devices"]}
    stated = yaml.safe_load((ROOT / "conf" / "hardware" / "mid_tablet.yaml").read_text(encoding="utf-8"))
    widened = (stated["domain"]["pixels"][0] / 32**2) ** stated["domain"]["growth"]
    tablet = found["mid_tablet"]
    assert widened > 1.3 and tablet["outside"] and not found["nb201_pixel3"]["outside"]
    assert tablet["latency_upper_ms"] == pytest.approx(
        tablet["latency_ms"] * stated["bound"]["factor"] * widened, rel=1e-9
    )
