"""Certificates: the first network that recount and measurement do not refute is taken, and refuted ones are cut."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from tiny_search import CONF, bound_factor, networks_of, small_problem, small_space
from torch import nn

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import METRICS, CostTable
from hardware_models.measuring.measure import Measurement, time_module
from hardware_models.profile import load_profile, profile_from_dict
from trainers.deploy.standalone import Score
from trainers.search.candidates import Candidate
from trainers.search.certificate import COUNTED_TO, Certificate, Verdict, certify, learn, verify_and_cut

SPACE = small_space()
NETWORKS = [tuple(int(k) for k in network) for network in networks_of(SPACE)]
Network = tuple[int, ...]
NO_MATTER = Score(0.5, 1.0, 10)


def gflops(network: Network) -> float:
    return sum(op.macs for op in SPACE.operations(SPACE.choices(network))) / 1e9


BY_SIZE = sorted(NETWORKS, key=lambda network: (gflops(network), network))
SMALL, MIDDLE, LARGE = BY_SIZE[0], BY_SIZE[32], BY_SIZE[-1]


def build(indices: Network) -> nn.Module:
    return SPACE.network(SPACE.choices(indices)).eval()


def candidates(*networks: Network) -> list[Candidate]:
    return [Candidate(network, 0.5, NO_MATTER) for network in networks]


class Supply:
    """What is tried when candidates run out, in turn; it keeps what it was asked with."""

    def __init__(self, *networks: Network) -> None:
        self.networks = list(networks)
        self.asked: list[tuple[BudgetProblem, list[Network]]] = []

    def __call__(self, problem: BudgetProblem, refuted: Sequence[Network]) -> Candidate | None:
        self.asked.append((problem, list(refuted)))
        return candidates(self.networks.pop(0))[0] if self.networks else None


def mistaken(limit_gflops: float) -> BudgetProblem:
    """A problem that takes networks for ten times smaller than they are, as a table that lacks operations would."""
    problem = small_problem(SPACE, {"gflops": limit_gflops})
    problem.limits_M[METRICS.index("gflops")] *= 10
    return problem


Clock = Callable[[nn.Module], Measurement]
timed = partial(time_module, inputs=SPACE.inputs)


def verify(
    problem: BudgetProblem,
    networks: Sequence[Network],
    supply: Supply,
    *,
    clock: Clock | None = None,
    max_cuts: int = 10,
) -> Verdict:
    def prove(indices: Network) -> Certificate:
        return certify(problem, SPACE, build(indices), indices, clock=clock)

    return verify_and_cut(problem, candidates(*networks), prove, fallback=supply, max_cuts=max_cuts)


def test_the_first_candidate_that_holds_is_taken_and_no_other_looked_at() -> None:
    supply = Supply()
    verdict = verify(small_problem(SPACE, {"gflops": gflops(LARGE)}), [MIDDLE, SMALL], supply)
    assert verdict.candidate.indices == MIDDLE
    assert verdict.met
    assert verdict.refuted == ()
    assert supply.asked == []


def test_a_network_whose_recount_breaks_a_budget_is_cut_and_the_next_taken() -> None:
    supply = Supply()
    problem = mistaken(gflops(LARGE) * 0.999)
    assert problem.is_feasible(np.array([LARGE])).all()
    verdict = verify(problem, [LARGE, SMALL, MIDDLE], supply)
    assert verdict.candidate.indices == SMALL
    assert verdict.met
    [(cut, certificate)] = verdict.refuted
    assert cut.indices == LARGE
    assert certificate.refuted_by == "gflops"
    assert certificate.recounted["gflops"] == pytest.approx(gflops(LARGE), rel=1e-9)
    assert certificate.held.origins == {"gflops": "recounted"}
    assert certificate.held.utilisation == {"gflops": pytest.approx(1 / 0.999, rel=1e-9)}
    assert supply.asked == []


def test_a_cost_equal_to_its_budget_holds_and_uses_no_more_than_all_of_it() -> None:
    verdict = verify(small_problem(SPACE, {"gflops": gflops(LARGE) * (1 - COUNTED_TO / 2)}), [LARGE], Supply())
    assert verdict.met
    assert verdict.certificate.held.utilisation == {"gflops": 1.0}


def test_when_candidates_run_out_others_are_asked_for_that_were_not_refuted() -> None:
    supply = Supply(MIDDLE, SMALL)
    verdict = verify(mistaken(gflops(SMALL)), [LARGE, BY_SIZE[-2]], supply)
    assert verdict.candidate.indices == SMALL
    assert verdict.met
    assert [refuted for _, refuted in supply.asked] == [[LARGE, BY_SIZE[-2]], [LARGE, BY_SIZE[-2], MIDDLE]]
    assert [candidate.indices for candidate, _ in verdict.refuted] == [LARGE, BY_SIZE[-2], MIDDLE]


def test_when_all_are_refuted_the_budget_is_not_met_and_the_verdict_says_which() -> None:
    verdict = verify(mistaken(gflops(SMALL) * 0.5), [LARGE, MIDDLE], Supply())
    assert not verdict.met
    assert verdict.certificate.refuted_by == "gflops"
    assert verdict.candidate.indices == MIDDLE
    assert [candidate.indices for candidate, _ in verdict.refuted] == [LARGE]


def test_cutting_ends_after_the_number_of_cuts_allowed() -> None:
    verdict = verify(mistaken(gflops(SMALL) * 0.5), [LARGE, MIDDLE, SMALL], Supply(), max_cuts=2)
    assert not verdict.met
    assert verdict.candidate.indices == MIDDLE


def test_figures_of_each_origin_stand_apart() -> None:
    problem = small_problem(SPACE, {"latency_ms": 1000.0})
    certificate = certify(problem, SPACE, build(MIDDLE), MIDDLE)
    network = build(MIDDLE)
    # What a deployed network keeps: a batch norm is folded into the bias of the convolution before it.
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    parameters = sum(p.numel() for p in network.parameters()) - sum(norm.num_features for norm in norms)
    assert certificate.recounted["params_m"] == pytest.approx(parameters / 1e6, rel=1e-12)
    assert certificate.recounted["gflops"] == pytest.approx(gflops(MIDDLE), rel=1e-9)
    assert certificate.measured is None
    assert set(certificate.predicted) == set(certificate.upper) == set(METRICS)
    # The bound of the profile is a factor on its estimate of latency, and nothing on what is counted.
    factor = bound_factor("mid_tablet", least_pixels=32 * 32)
    assert certificate.upper["latency_ms"] == pytest.approx(certificate.predicted["latency_ms"] * factor, rel=1e-9)
    for metric in ("gflops", "params_m", "peak_memory_mb"):
        assert certificate.upper[metric] == certificate.predicted[metric]


@pytest.mark.parametrize("metric", ["gflops", "params_m", "peak_memory_mb"])
def test_the_recount_agrees_with_the_prediction_in_every_counted_metric(metric: str) -> None:
    problem = small_problem(SPACE, {"latency_ms": 1000.0})
    for network in (SMALL, MIDDLE, LARGE):
        certificate = certify(problem, SPACE, build(network), network)
        assert certificate.recounted[metric] == pytest.approx(certificate.predicted[metric], rel=1e-9)


@pytest.mark.parametrize("metric", ["params_m", "peak_memory_mb", "latency_ms"])
def test_a_budget_in_any_metric_refutes(metric: str) -> None:
    predicted = certify(small_problem(SPACE, {"gflops": 1.0}), SPACE, build(SMALL), SMALL)
    problem = small_problem(SPACE, {metric: predicted.upper[metric] * 0.99, "gflops": 1.0})
    assert certify(problem, SPACE, build(SMALL), SMALL).refuted_by == metric


def test_a_network_that_is_not_the_one_it_is_said_to_be_is_refuted() -> None:
    problem = small_problem(SPACE, {"gflops": gflops(SMALL)})
    assert certify(problem, SPACE, build(SMALL), SMALL).refuted_by is None
    assert certify(problem, SPACE, build(LARGE), SMALL).refuted_by == "gflops"


CALIBRATOR = {"points": [[1e-6, 1e-12], [1.0, 1.0]]}  # the square of the sum


def believed(limit_ms: float, *, calibrator: dict[str, Any] | None) -> BudgetProblem:
    """A latency budget of a device that predicts a hundredth of it for `MIDDLE`, whatever the calibrator."""
    plain = load_profile(CONF / "hardware" / "iot_terminal.yaml").model_dump(mode="json", exclude={"name"})
    table = CostTable(SPACE, [profile_from_dict("x", {**plain, "calibrator": calibrator})])
    total = limit_ms / 100 if calibrator is None else (limit_ms / 100) ** 0.5
    table.summed[0, 0] *= total / table.named(MIDDLE, 0)["latency_ms"]
    return BudgetProblem(table, "x", {"latency_ms": limit_ms})


@pytest.mark.parametrize("calibrator", [None, CALIBRATOR])
def test_a_measurement_that_refutes_a_network_far_below_its_limit_rules_it_and_all_larger_ones_out(
    calibrator: dict[str, Any] | None,
) -> None:
    # A microsecond, less than any network takes. Scaled by limit over measured alone, the limit let them all pass.
    problem = believed(1e-3, calibrator=calibrator)
    totals_S = problem.table.of(np.array(NETWORKS), 0)[:, 0]
    refuted_total = problem.table.named(MIDDLE, 0)["latency_ms"]
    supply = Supply()
    verdict = verify(problem, [MIDDLE], supply, clock=timed)
    measured = verdict.certificate.measured
    assert not verdict.met and measured is not None
    [(tightened, _)] = supply.asked
    share = 1e-3 / measured.p50_ms
    expected = refuted_total * (share if calibrator is None else share**0.5)
    assert tightened.limits == problem.limits
    assert tightened.limits_M[0] == pytest.approx(expected, rel=1e-9)
    assert problem.is_feasible(np.array(NETWORKS)).all()
    assert not tightened.is_feasible(np.array(NETWORKS)[totals_S >= refuted_total]).any()


@pytest.mark.parametrize("calibrator", [None, CALIBRATOR])
def test_a_measurement_just_above_the_limit_rules_its_network_out_and_no_smaller_one(
    calibrator: dict[str, Any] | None,
) -> None:
    problem = believed(1.0, calibrator=calibrator)
    certificate = certify(problem, SPACE, build(MIDDLE), MIDDLE, clock=timed)
    assert certificate.measured is not None
    just_above = replace(certificate.measured, p50_ms=1.0 + 2 * COUNTED_TO)
    refuted = replace(certificate.held, broken="latency_ms")
    tightened = learn(problem, replace(certificate, measured=just_above, held=refuted))
    totals_S = problem.table.of(np.array(NETWORKS), 0)[:, 0]
    smaller_S = totals_S < problem.table.named(MIDDLE, 0)["latency_ms"] * (1 - 1e-9)
    assert 0 < smaller_S.sum() < len(NETWORKS)
    assert tightened.is_feasible(np.array(NETWORKS)).tolist() == smaller_S.tolist()


def test_what_one_measurement_taught_the_next_does_not_undo() -> None:
    problem = believed(1e-3, calibrator=None)
    supply = Supply(SMALL, LARGE, MIDDLE)
    verify(problem, [BY_SIZE[-2]], supply, clock=timed)
    limits = [float(asked.limits_M[0]) for asked, _ in supply.asked]
    assert limits == sorted(limits, reverse=True)
    assert limits[1] < problem.table.named(SMALL, 0)["latency_ms"]


@pytest.mark.parametrize("calibrator", [None, CALIBRATOR])
def test_the_certificate_tells_the_use_of_the_budget_that_its_figures_have(calibrator: dict[str, Any] | None) -> None:
    # Shares were once taken of predictions that the calibrator had already changed, as if they were sums.
    problem = believed(1e-3, calibrator=calibrator)
    certificate = certify(problem, SPACE, build(MIDDLE), MIDDLE)
    assert certificate.predicted["latency_ms"] == pytest.approx(1e-5, rel=1e-9)
    assert certificate.held.utilisation == {
        "latency_ms": pytest.approx(certificate.upper["latency_ms"] / 1e-3, rel=1e-9)
    }


def test_a_measurement_within_the_budget_counts_and_not_the_bound_above_the_estimate() -> None:
    # Ten seconds, more than any of these networks takes; the table is made to say as much, and its bound more.
    problem = small_problem(SPACE, {"latency_ms": 1e4})
    problem.table.summed[0, 0] *= 1e4 / problem.table.named(SMALL, 0)["latency_ms"]
    certificate = certify(problem, SPACE, build(SMALL), SMALL, clock=timed)
    assert certificate.upper["latency_ms"] > 1e4
    assert certificate.refuted_by is None
    assert certificate.measured is not None
    assert certificate.held.figures == {"latency_ms": certificate.measured.p50_ms}
    assert certificate.held.origins == {"latency_ms": "measured"}
    assert certificate.held.utilisation == {"latency_ms": certificate.measured.p50_ms / 1e4}
    predicted = certify(problem, SPACE, build(SMALL), SMALL)
    assert (predicted.refuted_by, predicted.held.origins) == ("latency_ms", {"latency_ms": "upper"})
    assert predicted.held.utilisation == {"latency_ms": pytest.approx(predicted.upper["latency_ms"] / 1e4)}


def test_a_latency_without_a_bound_has_no_upper_figure() -> None:
    plain = load_profile(CONF / "hardware" / "mid_tablet.yaml").model_dump(mode="json", exclude={"name"})
    table = CostTable(SPACE, [profile_from_dict("x", {**plain, "bound": None, "domain": None})])
    problem = BudgetProblem(table, "x", {"latency_ms": 1e4, "gflops": 1.0})
    certificate = certify(problem, SPACE, build(SMALL), SMALL)
    assert "latency_ms" not in certificate.upper
    assert certificate.upper["gflops"] == certificate.predicted["gflops"]
    assert certificate.held.origins == {"latency_ms": "predicted", "gflops": "recounted"}
