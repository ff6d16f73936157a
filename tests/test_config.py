"""The configuration: every YAML file is used and usable, wrong keys are named together, the run key says what ran."""

import ast
import copy
from collections.abc import Iterator
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from tiny_search import CONF, composed

from hardware_models.profile import profile_from_dict
from search_spaces.architecture import make_space
from search_spaces.errors import InvalidInputError
from trainers.data.datasets import DataConfig, data_config
from trainers.data.image_set import DATASETS
from trainers.deploy.optimizers import make_optimizer
from trainers.runs.config import (
    ASKED_IF_SET,
    PathsConfig,
    SearchConfig,
    TrainerConfig,
    fingerprint_fields,
    is_host,
    validate,
)
from trainers.search.plan import part_problems

FILES = sorted(path.relative_to(CONF).with_suffix("").parts for path in CONF.glob("*/*.yaml"))
DEVICES = [file[-1] for file in FILES if file[0] == "hardware"]
# Where a run lies, how many threads compute it, who logs it: the result does not depend on them.
NOT_IN_FINGERPRINT = (
    *("paths.runs", "paths.data", "paths.cache", "data.root", "sweep", "tags", "logger.name"),
    *("trainer.threads", "trainer.checkpoint_seconds"),
)
WORDS = {  # allowed, and not the default
    ("trainer", "keep"): "supernet",
    ("trainer", "keep_weights"): "best_k",
    ("trainer", "accelerator"): "gpu",
    ("trainer", "precision"): "bf16-mixed",
}
# Not one value; which of their keys count is tested elsewhere.
SECTIONS_OR_NULL = {"trial", "boards", "plugins", "callbacks", *ASKED_IF_SET}


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    return composed()


def leaves(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all values; an empty mapping has none."""
    if not isinstance(content, dict):
        yield path
        return
    for key, value in content.items():
        yield from leaves(value, (*path, key))


def at(content: dict[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


def changed(content: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy with one value replaced, or added."""
    content = copy.deepcopy(content)
    at(content, path[:-1])[path[-1]] = value
    return content


def another(value: Any) -> Any:
    """A value near this one, of its type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 0.9 + 0.001
        case "upper":  # one of two words, and no other
            return "point"
        case str():
            return value + "x"
        case list():
            return [*value, *(value[-1:] or ["x"])]
        case _:
            return 1


@pytest.mark.parametrize("file", [file for file in FILES if file[0] != "hardware"], ids="/".join)
def test_every_yaml_file_makes_a_configuration_whose_every_key_is_read(file: tuple[str, ...]) -> None:
    check_every_key(composed(f"{'/'.join(file[:-1])}={file[-1]}"))


def test_every_profile_makes_a_configuration_whose_every_key_is_read() -> None:
    content = composed(f"hardware=[{','.join(DEVICES)}]")
    assert set(content["hardware"]) == set(DEVICES) and len(DEVICES) > 20
    check_every_key(content)


def check_every_key(content: dict[str, Any]) -> None:
    config = validate(content)
    assert part_problems(config) == []
    assert set(content["data"]) <= set(DataConfig.model_fields)
    assert data_config(config.data).name == config.data["name"]
    assert make_space(config.space, num_classes=10, channels=1, image_size=(224, 224)).name == config.space["name"]
    for key in ("optimizer", "arch_optimizer"):
        assert make_optimizer(content[key], key)([torch.nn.Parameter(torch.zeros(1))]).param_groups
    for device, mapping in config.hardware.items():
        # The host's missing fields come from measuring it; what stands in its file is checked with another's beside it.
        measured = composed("hardware=[mid_tablet]")["hardware"]["mid_tablet"] if is_host(mapping) else {}
        own = {key: value for key, value in mapping.items() if not (is_host(mapping) and key == "latency")}
        assert profile_from_dict(device, {**measured, **own}).budgets


@cache
def attributes_read() -> set[str]:
    sources = [path for path in (CONF.parent / "trainers").rglob("*.py") if path.name != "config.py"]
    nodes = (node for path in sources for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("schema", [TrainerConfig, PathsConfig, SearchConfig, DataConfig])
def test_every_key_of_a_schema_is_read_outside_of_its_checks(schema: type[BaseModel]) -> None:
    read = attributes_read()
    in_yaml = {"data"} if schema is PathsConfig else set()  # data groups refer to paths.data
    in_run_folder = {"runs", "sweep"}  # which trainers.runs.config makes the run folder of
    assert "${paths.data}" in (CONF / "data" / "fashion_mnist.yaml").read_text(encoding="utf-8")
    assert set(schema.model_fields) - in_yaml - in_run_folder <= read


def test_the_default_configuration_lacks_no_key_that_a_user_may_set(default: dict[str, Any]) -> None:
    assert set(default) == set(SearchConfig.model_fields) - {"measured_on", "parent"}  # which are found out
    assert set(default["trainer"]) == set(TrainerConfig.model_fields)
    assert set(default["paths"]) == set(PathsConfig.model_fields)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "data").glob("*.yaml")))
def test_a_data_file_lacks_no_key_that_a_user_may_set(name: str) -> None:
    # Of a reader, which keys are for it alone.
    of_argument = {"root": {"root"}, "words": {"words"}, "storage": {"memory_mb", "cache"}}
    taken = signature(DATASETS[name]).parameters
    optional = set().union(*(keys for argument, keys in of_argument.items() if argument not in taken))
    assert set(composed(f"data={name}")["data"]) == set(DataConfig.model_fields) - optional - {"content"}  # found out


def test_all_wrong_keys_are_named_at_once(default: dict[str, Any]) -> None:
    wrong = {
        **{"seed": -1, "sweep": "../elsewhere", "trainer.steps": 0, "trainer.batch_size": "64", "trainer.stepz": 5},
        **{"trainer.clip_norm": float("nan"), "paths.runs": "", "hardware": {}, "plugins": ["nowhere"]},
        **{"optimizer": {"_target_": "os.system"}, "arch_optimizer": {}, "space": {"name": 3}},
    }
    content = default
    for key, value in wrong.items():
        content = changed(content, tuple(key.split(".")), value)
    with pytest.raises(InvalidInputError) as caught:
        validate(content)
    assert sorted(caught.value.fields) == sorted(wrong)


WRONG: dict[str, tuple[Any, ...]] = {
    "trainer.steps": (0, -1, 1.5, "many", True, None, 10_000_001),
    "trainer.batch_size": (1, 0, 65_537, [64]),
    "trainer.warmup_share": (-0.1, 1.1, float("nan"), "half"),
    "trainer.clip_norm": (0, -1, float("inf"), None),
    "trainer.candidates": (0, 4097),
    "trainer.prune_from": (0.95,),  # it ends at 0.9
    "trainer.threads": (0, "all"),
    "trainer.epochs": (1,),
    "margin": ("lower", "UPPER", "", None, True, 1.1),
    "seed": (-1, 2**32, 0.5, "0", None, True),
    "sweep": ("", "a/b", "..", ".", "-m", "a b", "x" * 81, None, 7.5, -7, True),
    "paths.runs": ("", None, 3),
    "hardware": ({}, [], None, {"phone": 3}, {"../../elsewhere": {}}, {"a b": {}}),
    "optimizer": ({"_target_": "SGD"}, {"_target_": "torch.optim.lr_scheduler.StepLR"}, {"_target_": 1}),
    "callbacks": ([{"_target_": "subprocess.run"}],),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_value_is_an_error_that_names_its_key(default: dict[str, Any], key: str) -> None:
    for value in WRONG[key]:
        with pytest.raises(InvalidInputError) as caught:
            validate(changed(default, tuple(key.split(".")), value))
        section = "trainer" if key == "trainer.prune_from" else key
        assert all(line.strip().startswith(section) for line in str(caught.value).splitlines()[1:]), value


@pytest.mark.parametrize("key", ["seed", "trainer", "optimizer", "paths.runs", "trainer.max_cuts"])
def test_a_missing_key_is_an_error(default: dict[str, Any], key: str) -> None:
    content = copy.deepcopy(default)
    *path, last = key.split(".")
    del at(content, tuple(path))[last]
    with pytest.raises(InvalidInputError) as caught:
        validate(content)
    assert caught.value.fields == (key,)


def test_a_board_measures_one_unit_with_onnxruntime_in_fp32(default: dict[str, Any]) -> None:
    profile = {"runtime": "onnxruntime", "precision": "fp32", "latency": {"model": "roofline"}}
    hardware = {
        **{
            "good": profile,
            "host": profile | {"latency": {"model": "host"}},
            "units": profile | {"units": {"cpu": {}}},
        },
        **{"int8": profile | {"precision": "int8"}, "nowhere": profile, "key": profile},
    }
    boards = {name: {"host": "pi"} for name in (*hardware, "unknown")}
    boards |= {"nowhere": {"port": 22}, "key": {"host": "pi", "identity": "no_such_file"}}
    with pytest.raises(InvalidInputError) as caught:
        validate({**default, "hardware": hardware, "boards": boards})
    wrong = {f"boards.{name}" for name in ("host", "units", "int8", "unknown", "nowhere.host", "key.identity")}
    assert set(caught.value.fields) == wrong


def test_the_run_key_changes_with_every_value_that_the_result_depends_on_and_with_no_other() -> None:
    default = composed("data=fashion_mnist")  # the bundled set has no root
    key = validate(default).run_key
    unchanged = [
        ".".join(path)
        for path in leaves(default)
        if path[0] not in SECTIONS_OR_NULL
        and validate(changed(default, path, WORDS.get(path) or another(at(default, path)))).run_key == key
    ]
    assert sorted(unchanged) == sorted(NOT_IN_FINGERPRINT)


def test_a_part_of_the_strategy_is_in_the_run_key_only_where_it_is_chosen(default: dict[str, Any]) -> None:
    key = validate(default).run_key
    without = {name: value for name, value in default.items() if name not in ("relaxation", "constraint")}
    assert validate(without).run_key == key
    assert validate({**default, "constraint": {"name": "dual", "step_size": 0.05}}).run_key != key


def test_which_boards_measure_is_science_and_where_they_are_reached_is_not() -> None:
    content = {
        "seed": 0,
        "trainer": {"steps": 9, "threads": 2},
        "paths": {"runs": "here"},
        "boards": {"b": {}, "a": {}},
    }
    assert fingerprint_fields(content) == {"seed": 0, "trainer": {"steps": 9}, "boards": ["a", "b"]}
    assert fingerprint_fields({"x": 1, "boards": None}) == {"x": 1}


def test_the_run_key_depends_on_the_order_of_devices_and_of_no_other_keys(default: dict[str, Any]) -> None:
    reordered = {
        key: dict(reversed(section.items())) if isinstance(section, dict) and key != "hardware" else section
        for key, section in reversed(default.items())
    }
    assert validate(reordered).run_key == validate(default).run_key
    in_turn = {**default, "hardware": dict(reversed(default["hardware"].items()))}  # in which they are trained
    assert validate(in_turn).run_key != validate(default).run_key


def test_the_run_key_changes_with_what_the_file_of_a_table_holds(default: dict[str, Any], tmp_path: Path) -> None:
    def key(content: str) -> str:
        file = tmp_path / "table.csv"
        file.write_text(content, encoding="utf-8")
        device = {**default["hardware"]["iot_terminal"], "latency": {"model": "table", "file": str(file)}}
        return validate({**default, "hardware": {"mine": device}}).run_key

    assert key("operation,latency_ms\n") == key("operation,latency_ms\n") != key("operation,latency_ms\nadd,1\n")


def test_the_run_folder_says_space_strategy_and_seed(default: dict[str, Any]) -> None:
    config = validate(changed(changed(default, ("seed",), 3), ("sweep",), 2024))
    assert config.run_folder.parent == Path("runs/2024")
    assert config.run_folder.name.startswith("mobile-pool-seed3-")
    assert validate(default).run_key == "mobile-pool-seed0-e8895190"  # changes with the shipped profiles


def test_a_search_on_the_cpu_has_the_run_key_of_earlier_versions_and_every_other_one_its_own(
    default: dict[str, Any],
) -> None:
    def key(**changes: Any) -> str:
        return validate({**default, "trainer": {**default["trainer"], **changes}}).run_key

    earlier = {k: v for k, v in default["trainer"].items() if k not in ("accelerator", "devices", "precision")}
    on_cpu = {validate({**default, "trainer": earlier}).run_key, key(accelerator="auto"), key(accelerator="cpu")}
    assert on_cpu == {validate(default).run_key}
    others = {key(accelerator="gpu"), key(devices=2), key(devices=3), key(precision="bf16-mixed")}
    assert len(on_cpu | others) == 5


@pytest.mark.parametrize(
    ("name", "value"), [("devices", 0), ("devices", "auto"), ("accelerator", "tpu"), ("precision", 16)]
)
def test_what_no_search_computes_on_is_refused_by_its_key(default: dict[str, Any], name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        validate({**default, "trainer": {**default["trainer"], name: value}})
    assert caught.value.fields == (f"trainer.{name}",)
