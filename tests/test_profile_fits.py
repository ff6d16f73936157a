"""Numbers of profiles are fitted as by hand, and those shipped are those of the measurements."""

import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from priced_profiles import FILES, ROOFLINE
from spaces import ROOT

from hardware_models.calibration.additive_fit import CellPopulation, load_cell_population
from hardware_models.calibration.fitting import (
    conformal_factor,
    error_figures,
    fit_nonnegative,
    fit_with_prior,
)
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_design import roofline_amounts, roofline_columns, roofline_design
from hardware_models.profile import profile_from_dict
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

DATA = Path(os.environ.get("ESPALIER_DATA", ROOT.parent / "shared" / "data"))


def test_the_conformal_factor_is_the_ranked_ratio_and_never_below_one() -> None:
    ratios = np.array([0.5, 1.5, 1.1, 0.9, 1.4, 1.2, 1.3, 0.8, 0.7])  # n = 9: rank ceil(10 * 0.8) = 8 is 1.4
    assert conformal_factor(np.ones(9), ratios, level=0.8) == 1.4
    assert conformal_factor(np.full(9, 10.0), ratios, level=0.8) == 1.0
    with pytest.raises(InvalidInputError, match="at least 19 held-out measurements; got 9"):
        conformal_factor(np.ones(9), ratios, level=0.95)


def test_error_figures_match_hand_counts() -> None:
    figures = error_figures(np.array([1.1, 2.0, 6.0, 4.0]), np.array([1.0, 2.0, 3.0, 5.0]))
    # Relative errors 0.1, 0, 1, 0.2 (within 20 %, up to rounding); ranks 1 2 4 3 against 1 2 3 4.
    assert figures["mape"] == pytest.approx(0.325) and figures["median_ape"] == pytest.approx(0.15)
    assert figures["within_20_share"] == 0.75 and figures["spearman"] == pytest.approx(0.8)


def test_the_robust_fit_survives_a_glitch_near_zero() -> None:
    x_NP = np.array([[1.0, a, b] for a in range(6) for b in range(6)])
    y_N = x_NP @ np.array([3.0, 0.5, 0.0])
    y_N[7] *= 0.001  # a glitch near 0 ms
    # A Huber loss bounds what one of 36 measurements can do, but lets it pull a little; least squares of x @ c / y - 1,
    # which weighs by the measured time, gives 0, 0, 0.0035 here.
    assert fit_nonnegative(x_NP, y_N) == pytest.approx([3.0, 0.5, 0.0], rel=0.03, abs=0.02)


def test_a_prior_decides_what_the_measurements_do_not() -> None:
    # The second column is never seen: it keeps the prior's proportion (3 : 1) to the first, at this device's speed.
    fitted_P = fit_with_prior(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([10.0, 20.0]), np.array([1.0, 3.0]))
    assert fitted_P == pytest.approx([10.0, 30.0], rel=1e-3)


def test_a_fit_to_single_operations_recovers_the_roofline_that_made_the_times() -> None:
    truth = profile_from_dict("x", ROOFLINE)
    shapes = [(c, s, s) for c in (8, 16, 48) for s in (4, 8, 32)]
    measured = [Operation("conv", shape, shape, kernel=k) for shape in shapes for k in (3, 5)]
    measured += [Operation("add", shape, shape) for shape in shapes]
    times = [truth.price(operation)["latency_ms"] for operation in measured]
    columns = roofline_columns(kinds := ["dense", "elementwise"], overhead_per_kind=True)
    design = roofline_design(columns, np.ones(len(columns)))
    features_NP = design.features(roofline_amounts([[op] for op in measured], bytes_per_element=2))
    fitted = design.model(fit_nonnegative(features_NP, np.array(times)), kinds)
    assert set(fitted.kinds) == {"dense", "elementwise"}
    assert fitted.kinds["dense"].throughput_gops == pytest.approx(10, rel=1e-6)
    assert fitted.kinds["dense"].overhead_ms == pytest.approx(0.25, rel=1e-6)
    assert fitted.activation_gb_per_s == pytest.approx(2, rel=1e-6)


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """What tests/benchmarks/fit_profiles.py and its sibling for cells define."""
    folder = ROOT / "tests" / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        networks, cells = (runpy.run_path(str(folder / f"fit_{what}.py")) for what in ("profiles", "cell_profiles"))
    return {**cells, **networks, "FITS": {**networks["FITS"], **cells["FITS"]}}


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
@pytest.mark.parametrize("name", [path.stem for path in FILES if "ncnn" in path.read_text() or "nb201" in path.stem])
def test_the_shipped_numbers_are_those_of_the_measurements(name: str, script: dict[str, Any]) -> None:
    shipped = yaml.safe_load((ROOT / "conf" / "hardware" / f"{name}.yaml").read_text(encoding="utf-8"))
    for keys, number in script["FITS"][name](name).items():
        assert script["shipped_number"](shipped, keys) == pytest.approx(number, rel=0.01), keys


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
def test_the_shipped_population_is_that_of_the_measurements(script: dict[str, Any]) -> None:
    fitted, shipped = script["fit_population"](), load_population().model_dump()
    assert {key: shipped[key] for key in ("settings", "devices", "networks", "source")} == {
        key: fitted[key] for key in ("settings", "devices", "networks", "source")
    }
    for column, spread in fitted["columns"].items():
        assert shipped["columns"][column] == pytest.approx(spread, rel=0.01), column
    for key in ("noise", "slowest_over_typical", "fastest_over_typical"):
        assert shipped[key] == pytest.approx(fitted[key], rel=0.01)


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
def test_the_shipped_cell_population_is_that_of_the_measurements(script: dict[str, Any]) -> None:
    fitted, shipped = CellPopulation.model_validate(script["fit_cell_population"]()), load_cell_population()
    assert (fitted.settings, fitted.source) == (shipped.settings, shipped.source)
    assert shipped.noise == pytest.approx(fitted.noise, rel=0.01)
    assert shipped.prior.mean_P == pytest.approx(fitted.prior.mean_P, rel=0.01)
    assert shipped.prior.covariance_PP == pytest.approx(fitted.prior.covariance_PP, rel=0.02, abs=1e-6)


def test_rewriting_the_numbers_of_a_file_keeps_its_comments(script: dict[str, Any]) -> None:
    text = "a:  # first\n  - {ms: 1.0}  # kept\nb: null\n"
    assert script["with_numbers"](text, {("a", 0, "ms"): 2.34567, ("b",): 7}) == (
        "a:  # first\n  - {ms: 2.346}  # kept\nb: 7\n"
    )
