"""Searches and problems small enough for tests: seconds to run, few enough networks to look at each."""

import copy
from collections.abc import Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable, Indices
from hardware_models.profile import load_profile
from search_spaces.mobile.space import MobileSpace
from trainers.runs.config import SearchConfig, validate
from trainers.search.identification import identified

CONF = Path(__file__).parent.parent / "conf"
RUNS = "paths.runs="
SHORT = (
    "data.limit=400",
    "trainer.steps=6",
    "trainer.batch_size=16",
    "trainer.candidates=4",
    "trainer.recalibration_images=16",
    "trainer.validation_images=32",
    "trainer.finetune_steps=1",
    "trainer.prune_events=2",
    "trainer.deploy=false",  # an export takes longer than all else
)
MOBILE_SPACE = (
    "space=mobile",
    "space.widths=[[8],[16],[16,24],[24],[24,32]]",
    "space.depths=[1,2]",
    "space.kernels=[3,5]",
    "space.expansions=[2,3]",
    "space.squeeze_excite=['off']",
    "space.resolutions=[32,48]",
    "space.strides=[2,2,2,2,1,1]",
    "data.image_size=[48,48]",  # as deployed: on smaller maps both kernels would compute the same
)
MOBILE = (*MOBILE_SPACE, "hardware=[mid_tablet,iot_terminal]")
TINY = (*MOBILE, *SHORT, "strategy.pool_size=32")  # a whole search, of seconds
CELL_SPACE = (
    "space=nasbench201",
    "space.width=4",
    "space.num_cells=1",
    "space.image_size=16",
    "data.image_size=[16,16]",
)
# Prices of larger cells serve as well as any.
CELLS = (*CELL_SPACE, "hardware=[nb201_pixel3,mid_tablet]", "hardware.nb201_pixel3.latency.shapes=null")


def composed(*overrides: str, app: str = "search") -> dict[str, Any]:
    """The configuration of a command with these overrides, as plain values; `app` names its file in conf.

    Hydra takes half a second. It is not asked again for the same overrides with runs in another folder.
    """
    own = tuple(override for override in overrides if not override.startswith(RUNS))
    content = copy.deepcopy(_composed(own, app))
    for override in overrides:
        if override.startswith(RUNS):
            content["paths"]["runs"] = override.removeprefix(RUNS)
    return content


@cache
def _composed(overrides: tuple[str, ...], app: str) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    with initialize_config_module("conf", version_base="1.3"):
        content = OmegaConf.to_container(compose(app, overrides=list(overrides)), resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def tiny_config(runs: Path, *overrides: str) -> SearchConfig:
    """The configuration of a search of a few steps, as it is run; its run folder is below `runs`."""
    return identified(validate(composed(*SHORT, *overrides, f"paths.runs={runs}")))


def small_space() -> MobileSpace:
    """64 networks: a kernel in each of five blocks, and the width of the third stage."""
    widths = [[8], [16], [16, 24], [24], [24]]
    return MobileSpace(
        widths=widths,
        depths=[1],
        kernels=[3, 5],
        expansions=[2],
        squeeze_excite=["off"],
        resolutions=[32],
        strides=[2, 2, 2, 2, 1, 1],
        num_classes=4,
    )


def networks_of(space: MobileSpace) -> Indices:
    """Every network (S, n)."""
    return np.array(list(product(*(range(len(decision.choices)) for decision in space.decisions))))


def small_problem(space: MobileSpace, limits: Mapping[str, float], *, device: str = "mid_tablet") -> BudgetProblem:
    """Budgets of a shipped device over `space`."""
    table = CostTable(space, [load_profile(CONF / "hardware" / f"{device}.yaml")])
    return BudgetProblem(table, device, limits)


def binding_problem(space: MobileSpace, *, share: float = 0.5) -> BudgetProblem:
    """A GFLOP budget that about `share` of the networks meet."""
    gflops = sorted(sum(op.macs for op in space.operations(space.choices(n))) / 1e9 for n in networks_of(space))
    return small_problem(space, {"gflops": gflops[int(share * len(gflops))] * (1 + 1e-9)})


def bound_factor(device: str, *, least_pixels: int | None = None) -> float:
    """The factor of the bound on latency that a shipped profile's file states, for networks of so small inputs."""
    path = Path(__file__).resolve().parents[1] / "conf" / "hardware" / f"{device}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    factor = content["bound"]["factor"]
    if least_pixels is not None:
        factor *= (content["domain"]["pixels"][0] / least_pixels) ** content["domain"]["growth"]
    assert factor > 1
    return float(factor)
