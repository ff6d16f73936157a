"""The parts of a search, looked at before anything is loaded: values that can never work are refused by their keys."""

import pytest
import torch
from tiny_search import TINY, composed

from search_spaces.errors import keys_of
from trainers.deploy.optimizers import make_optimizer, make_schedule
from trainers.runs.config import validate
from trainers.search.plan import part_problems


def wrong(*overrides: str) -> tuple[str, ...]:
    """The keys of the parts that are wrong."""
    return keys_of("\n".join(part_problems(validate(composed(*TINY, *overrides)))))


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("optimizer.lr=nan", "optimizer.lr"),
        ("optimizer.lr=fast", "optimizer.lr"),
        ("optimizer.lr=-1", "optimizer"),
        ("optimizer._target_=torch.optim.Nonesuch", "optimizer._target_"),
        ("+optimizer.speed=1", "optimizer"),
        ("optimizer.weight_decay=inf", "optimizer.weight_decay"),
        ("arch_optimizer.betas=[3,x]", "arch_optimizer.betas"),
        ("arch_optimizer.betas=[2,3]", "arch_optimizer"),
        ("arch_optimizer.betas=[0.9]", "arch_optimizer.betas"),
        ("strategy.pool_size=1000000000000", "strategy.pool_size"),
        ("strategy.pool_size=32.5", "strategy.pool_size"),
        ("strategy.name=gdas9", "strategy.name"),
        ("+strategy.temperature=1", "strategy.temperature"),
        ("space.name=resnet", "space.name"),
        ("+space.heads=4", "space.heads"),
        ("space.kernels=[3.5]", "space.kernels[0]"),
        ("space.widths=24", "space.widths"),
        ("data.shares.weights=0.9", "data.shares"),
        ("data.name=imagenet", "data.name"),
        ("data.shift=24", "data"),
        ("hardware.mid_tablet.precision=fp8", "hardware.mid_tablet.precision"),
        ("hardware.mid_tablet.budgets.gflops=inf", "hardware.mid_tablet.budgets.gflops"),
        ("hardware.mid_tablet.latency.model=magic", "hardware.mid_tablet.latency.model"),
        ("~hardware.mid_tablet.latency.model", "hardware.mid_tablet.latency.model"),
        ("hardware.mid_tablet.budgets={latency_ms:null,gflops:null}", "hardware.mid_tablet.budgets"),
    ],
)
def test_a_value_that_can_never_work_is_refused_by_its_key(override: str, key: str) -> None:
    assert wrong(override) == (key,)


def test_all_that_is_wrong_with_several_parts_is_reported_at_once() -> None:
    overrides = ("strategy.pool_size=4", "optimizer.lr=-1", "space.depths=[1.5]", "data.shift=24")
    devices = ("hardware.mid_tablet.precision=fp8", "hardware.iot_terminal.threads=fast")
    assert wrong(*overrides, *devices) == (
        *("space.depths[0]", "strategy.pool_size", "optimizer", "data"),
        *("hardware.mid_tablet.precision", "hardware.iot_terminal.threads"),
    )


@pytest.mark.parametrize(
    ("space", "arguments"),
    [
        ("mobile", "kernels=[] depths=[0] widths=[] resolutions=[100000000] expansions=[101] squeeze_excite=[]"),
        ("nasbench201", "width=65537 num_cells=1000"),
    ],
)
def test_all_that_is_wrong_with_a_space_is_reported_at_once(space: str, arguments: str) -> None:
    given = [f"space.{each}" for each in arguments.split()]
    (problem,) = part_problems(validate(composed(f"space={space}", *given)))
    assert set(keys_of(problem)) == {each.partition("=")[0] for each in given}


def test_a_schedule_is_as_long_as_the_search_unless_its_length_is_given() -> None:
    def last_rate(**arguments: object) -> float:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        content = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", **arguments}
        schedule = make_schedule(content, steps=8)(optimizer)
        for _ in range(8):
            optimizer.step()
            schedule.step()
        return float(optimizer.param_groups[0]["lr"])

    assert last_rate() == pytest.approx(0.0, abs=1e-9)
    assert last_rate(T_max=16) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"_target_": "torch.optim.SGD", "lr": 1, "momentum": 0.9, "nesterov": True, "fused": True, "foreach": None},
        {"_target_": "torch.optim.Adafactor", "eps": [None, 0.001]},
        {"_target_": "torch.optim.RMSprop", "lr": 0.1, "centered": True},
    ],
)
def test_values_that_an_optimizer_takes_are_passed_on(arguments: dict[str, object]) -> None:
    made = make_optimizer(arguments, "optimizer")([torch.nn.Parameter(torch.zeros(1))])
    for name, value in arguments.items():
        if name != "_target_":
            assert made.defaults[name] == (tuple(value) if isinstance(value, list) else value)
