"""The W&B sweep file: what its agent would run is a search that is understood."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_search import CONF, composed
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from trainers.deploy.optimizers import make_optimizer
from trainers.runs import metric_names
from trainers.runs.config import validate

SWEEP = yaml.safe_load((CONF / "wandb_sweep.yaml").read_text(encoding="utf-8"))
ENDS = {name: spec.get("values") or [spec["min"], spec["max"]] for name, spec in SWEEP["parameters"].items()}


def command(arguments: dict[str, Any]) -> list[str]:
    """What the agent runs for these values of the parameters: its own code fills in all but the program."""
    forms = create_sweep_command_args({"args": {name: {"value": value} for name, value in arguments.items()}})
    parts = [SWEEP["program"] if part == "${program}" else part for part in create_sweep_command(SWEEP["command"])]
    filled = [forms["args_no_hyphens"] if part == "${args_no_hyphens}" else [part] for part in parts]
    return list(itertools.chain.from_iterable(filled))


def at(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content[part]
    return content


@pytest.mark.parametrize("pick", [0, -1], ids=["lowest", "highest"])
def test_the_command_of_a_trial_is_a_search_with_the_values_of_the_trial(pick: int) -> None:
    wanted = {name: values[pick] for name, values in ENDS.items()}
    program, *overrides = command(wanted)
    assert program == "espalier-search"
    content = composed(*overrides)
    config = validate(content)
    assert config.logger["name"] == "wandb"
    assert config.sweep == "wandb"
    for section in ("optimizer", "arch_optimizer"):
        make_optimizer(content[section], section)
    found = {name: at(content, "strategy.name" if name == "strategy" else name) for name in wanted}
    assert found == wanted


def test_every_parameter_is_a_key_and_what_the_sweep_raises_is_logged() -> None:
    default = composed()
    for name in SWEEP["parameters"]:
        at(default, name)
    shipped = {path.stem for path in Path(CONF / "strategy").glob("*.yaml")}
    assert set(SWEEP["parameters"]["strategy"]["values"]) <= shipped
    assert SWEEP["metric"] == {"name": metric_names.result("validation_accuracy"), "goal": "maximize"}
