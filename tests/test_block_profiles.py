"""Profiles fitted to tables of blocks: their numbers come from the table, and they price the `mobile` space."""

import os
import runpy
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hardware_models.profile import load_profile
from search_spaces.architecture import make_space

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ESPALIER_DATA", ROOT.parent / "shared" / "data"))
NAMES = ("pixel1", "pixel4", "pixel6", "xiaomi_11")
needs_data = pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no tables at {DATA}; set ESPALIER_DATA")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What tests/benchmarks/fit_block_profiles.py defines."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    return runpy.run_path(str(ROOT / "tests" / "benchmarks" / "fit_block_profiles.py"))


@needs_data
@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_numbers_of_a_phone_are_those_of_its_table(name: str, script: dict[str, Any]) -> None:
    shipped = yaml.safe_load((ROOT / "conf" / "hardware" / f"{name}.yaml").read_text(encoding="utf-8"))
    for keys, number in script["fit_phone"](name).items():
        ours = script["shipped_number"](shipped, keys)
        assert ours is None if number is None else ours == pytest.approx(number, rel=0.01), keys


@needs_data
def test_no_held_out_block_shares_its_channels_with_a_fitted_one(script: dict[str, Any]) -> None:
    blocks = script["fitted_blocks"]("pixel6")
    fold_N = script["folds"](blocks)
    assert sorted(set(fold_N)) == list(range(10)) and np.bincount(fold_N).min() > 400
    pairs = [{script["channels"](b)[1] for b, f in zip(blocks, fold_N, strict=True) if f == fold} for fold in range(10)]
    assert sum(map(len, pairs)) == len(set.union(*pairs))


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_of_the_mobile_space_has_a_price_above_zero(name: str) -> None:
    profile = load_profile(ROOT / "conf" / "hardware" / f"{name}.yaml")
    content = yaml.safe_load((ROOT / "conf" / "space" / "mobile.yaml").read_text(encoding="utf-8"))
    space = make_space(content, num_classes=10, channels=3, image_size=(224, 224))
    choices = {decision.name: decision.choices for decision in space.decisions}
    operations = {
        operation
        for site in space.sites
        for values in product(*(choices[name] for name in site.scope))
        for operation in site.operations(dict(zip(site.scope, values, strict=True)))
    }
    assert {op.kind for op in operations} == {"conv", "linear", "global_pool", "scale", "add"}
    assert all(0 < profile.price(operation)["latency_ms"] < 1000 for operation in operations)
