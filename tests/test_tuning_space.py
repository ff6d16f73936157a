"""The search space of a study: what overrides of Hydra mean, and how many points it has."""

import math

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins.espalier_optuna import distribution_of
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from trainers.tuning.studies import num_points


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("x=interval(0,1.5)", FloatDistribution(0, 1.5)),
        ("x=tag(log,interval(0.003,0.3))", FloatDistribution(0.003, 0.3, log=True)),
        ("x=int(interval(1,8))", IntDistribution(1, 8)),
        ("x=tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("x=range(1,9)", IntDistribution(1, 8)),  # as range of Python, without its end
        ("x=range(1,9,3)", IntDistribution(1, 7, step=3)),
        ("x=range(9,1,-4)", IntDistribution(5, 9, step=4)),
        ("x=range(0.5,2.5,0.5)", FloatDistribution(0.5, 2.0, step=0.5)),
        ("x=a,b,a", CategoricalDistribution(["a", "b"])),
        ("x=choice([1,2],{k:1},true,'a b')", CategoricalDistribution(["[1,2]", "{k:1}", "True", "a\\ b"])),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_override_of_hydra_means_this_distribution(override: str, expected: BaseDistribution) -> None:
    assert distribution_of(OverridesParser.create().parse_override(override)) == expected


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("x=interval(2,1)", "start"),
        ("x=tag(log,interval(0,1))", "logarithm"),
        ("x=tag(log,range(1,9,2))", "logarithm"),
        ("x=tag(lgo,interval(1,2))", "lgo"),
        ("x=range(3,3)", "empty"),
    ],
)
def test_an_override_that_means_no_distribution_is_refused(override: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        distribution_of(OverridesParser.create().parse_override(override))


@pytest.mark.parametrize(
    ("overrides", "points"),
    [
        (["x=a,b,c", "n=range(1,9,3)"], 9),
        (["x=range(0.0,1.0,0.1)"], 10),
        (["x=tag(log,int(interval(1,64)))", "n=7,8"], 128),
        (["x=interval(2,2)", "n=range(1,3)"], 2),
        (["x=interval(0,1)", "n=1,2"], math.inf),
        (["x=tag(log,interval(0.003,0.3))"], math.inf),
    ],
    ids=str,
)
def test_a_space_has_as_many_points(overrides: list[str], points: float) -> None:
    space = {text[0]: distribution_of(OverridesParser.create().parse_override(text)) for text in overrides}
    assert num_points(space) == points
