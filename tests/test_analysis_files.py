"""Files of a run folder from elsewhere: what is malformed is refused with file and field, and nothing in them runs."""

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from search_spaces.errors import InvalidInputError
from tests import reported_runs
from tests.reported_runs import rewrite
from trainers.analysis import load_run
from trainers.analysis.loading import load_readable
from trainers.analysis.run_files import read_result


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a search of a few steps."""
    return reported_runs.searched(tmp_path_factory.mktemp("runs"), "sweep=seeds")


@pytest.fixture
def folder(searched: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    leave_out = shutil.ignore_patterns("weights", "checkpoints")
    return Path(shutil.copytree(searched, tmp_path / "seeds" / searched.name, ignore=leave_out))


def test_a_configuration_nested_too_deeply_is_refused_by_name(folder: Path) -> None:
    with (folder / "config.yaml").open("a", encoding="utf-8") as file:
        file.write(f"deep: {'[' * 600}{']' * 600}\n")
    with pytest.raises(InvalidInputError, match=r"cannot read .*config\.yaml"):
        load_run(folder)
    assert list(load_readable(folder.parent).unreadable) == [folder.name]


def spoiled_device(**fields: Any) -> Callable[[Any], Any]:
    return lambda content: content["devices"]["mid_tablet"].update(fields)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (spoiled_device(met="yes"), r"devices\.mid_tablet\.met: got 'yes'"),
        (spoiled_device(budgets={"latency_ms": "76"}), r"devices\.mid_tablet\.budgets\.latency_ms: got '76'"),
        (spoiled_device(predicted={"watts": 1.0}), r"devices\.mid_tablet\.predicted\.watts"),
        (spoiled_device(measured=3), r"devices\.mid_tablet\.measured: got 3"),
        (spoiled_device(accuracy={"supernet": 0.5}), r"devices\.mid_tablet\.accuracy\.inherited: got nothing"),
        (spoiled_device(candidates=[]), r"devices\.mid_tablet\.candidates"),
        (lambda content: content["devices"]["mid_tablet"].pop("taken"), r"devices\.mid_tablet\.taken: got nothing"),
        (lambda content: content["search"].pop("entropy"), r"search\.entropy: got nothing"),
        (lambda content: content["code"].pop("changed"), r"code\.changed: got nothing"),
        (lambda content: content.update(schema=9), r"schema: got 9"),
        (lambda content: content.update(transfer={"a": {"b": {}}}), r"transfer\.a\.b\.latency_ms: got nothing"),
    ],
)
def test_a_malformed_result_is_refused_with_its_field(folder: Path, change: Callable[[Any], Any], field: str) -> None:
    rewrite(folder / "result.json", change)
    with pytest.raises(InvalidInputError, match=rf"result\.json is malformed:\s+{field}"):
        load_run(folder)


def ways(content: dict[str, Any], way: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The ways to every field of a result but those of open lists: of files and versions, which `verify` compares."""
    for key, value in content.items():
        yield (*way, key)
        if isinstance(value, dict) and key not in ("files", "versions"):
            yield from ways(value, (*way, key))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from ways(value[0], (*way, key, "0"))


def test_a_result_that_lacks_any_field_that_every_search_writes_is_refused_by_its_way(
    searched: Path, tmp_path: Path
) -> None:
    whole = json.loads((searched / "result.json").read_text(encoding="utf-8"))
    file, silent, tried = tmp_path / "result.json", [], list(ways(whole))
    for way in tried:
        content = deepcopy(whole)
        place = content
        for key in way[:-1]:
            place = place[int(key) if isinstance(place, list) else key]
        del place[way[-1]]
        file.write_text(json.dumps(content), encoding="utf-8")
        name = re.sub(r"\.(\d+)\b", r"[\1]", ".".join(way))
        try:
            read_result(file)
            silent.append((name, "nothing"))
        except InvalidInputError as error:
            if f"{file} is malformed:" not in str(error) or f"\n  {name}: got nothing" not in str(error):
                silent.append((name, str(error)))
    assert silent == []
    assert len(tried) > 200


@pytest.mark.parametrize("field", ["binding", "refuted_by"])
def test_a_metric_without_a_budget_that_a_result_names_is_refused(folder: Path, field: str) -> None:
    rewrite(folder / "result.json", spoiled_device(**{field: "params_m"}))
    with pytest.raises(InvalidInputError, match=rf"mid_tablet\.{field}: got 'params_m'; allowed: latency_ms, gflops"):
        load_run(folder)


def test_what_a_result_has_wrong_is_told_without_advice_for_a_command_line(folder: Path) -> None:
    rewrite(folder / "result.json", lambda content: content["hashes"].update(config=3) or content.pop("seed"))
    with pytest.raises(InvalidInputError) as refused:
        load_run(folder)
    wrong = ["seed: got nothing; every search writes it", "hashes.config: got 3; Input should be a valid string"]
    assert str(refused.value).splitlines()[1:] == [f"  {line}" for line in wrong]


def test_all_that_is_wrong_with_a_result_is_told_at_once(folder: Path) -> None:
    rewrite(folder / "result.json", spoiled_device(met="yes", id=3))
    with pytest.raises(InvalidInputError, match=r"(?s)mid_tablet\.id: got 3.*mid_tablet\.met: got 'yes'"):
        load_run(folder)


@pytest.mark.parametrize("text", ["", '{"schema": 1', "[" * 100_000, '{"schema": NaN}', "\xff"])
def test_a_torn_result_is_refused(folder: Path, text: str) -> None:
    (folder / "result.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInputError, match=r"cannot read .*result\.json"):
        load_run(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("seed"), "seed: got nothing"),
        (lambda config: config["strategy"].pop("name"), r"strategy\.name: got nothing"),
        (lambda config: config["hardware"]["mid_tablet"].pop("budgets"), r"hardware\.mid_tablet\.budgets: got nothing"),
    ],
)
def test_a_malformed_configuration_is_refused_with_its_field(
    folder: Path, change: Callable[[Any], Any], message: str
) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(InvalidInputError, match=rf"config\.yaml is malformed:\s+{message}"):
        load_run(folder)


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.abort []", "seed: 2026-99-99", "a: [", "a: \x01", "[" * 2000]
)
def test_a_configuration_that_is_no_plain_yaml_is_refused_and_runs_nothing(folder: Path, text: str) -> None:
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"cannot read .*config\.yaml"):
        load_run(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,val/acc\n1,0.5\n", r"field \['step'\] missing"),
        ("epoch,step,step\n1,2,3\n", "missing or there twice"),
        ("epoch,step\n1,2,3\n", "line 2 has 3 fields, the header 2"),
        ("epoch,step\n1,x\n", "line 2, field step: got 'x'; allowed: a whole number"),
        ("epoch,step,val/acc\n1,2,nan\n", "line 2, field val/acc: got 'nan'; allowed: a finite number"),
        ("epoch,step,val/acc\n1,,0.5\n", "line 2, field step: got ''"),
        (f"epoch,step\n1,{'9' * 400}\n", "line 2, field step: got '999"),
        ('epoch,step\n1,"2\n', r"cannot read .*metrics\.csv"),
    ],
)
def test_malformed_metrics_are_refused_with_line_and_field(folder: Path, text: str, message: str) -> None:
    (folder / "metrics.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=message):
        load_run(folder)


class Bomb:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def alphas_file(**changes: Any) -> dict[str, Any]:
    whole = {
        "epoch": np.array([1, 2]),
        "step": np.array([10, 20]),
        "weights": np.full((2, 1, 3), 0.5, dtype=np.float32),
        "device": np.array(["phone"]),
        "decision": np.array(["kernel", "kernel", "width"]),
        "choice": np.array(["3", "5", "8"]),
    }
    return {key: value for key, value in (whole | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, "weights"),
        ({"weights": np.zeros((2, 1, 4), dtype=np.float32)}, "weights"),
        ({"weights": np.full((2, 1, 3), 1.5, dtype=np.float32)}, "field weights: allowed: probabilities"),
        ({"weights": np.full((2, 1, 3), np.nan, dtype=np.float32)}, "field weights: allowed: probabilities"),
        ({"epoch": np.array([1.5, 2])}, "epoch"),
        ({"step": np.array([10])}, "step"),
        ({"choice": np.array([3, 5, 8])}, "choice"),
    ],
)
def test_malformed_alphas_are_refused_with_the_field(folder: Path, changes: dict[str, Any], message: str) -> None:
    np.savez(folder / "alphas.npz", **alphas_file(**changes))
    with pytest.raises(InvalidInputError, match=rf"alphas\.npz.*{message}"):
        load_run(folder)


def test_a_probability_rounded_to_a_little_above_one_is_one(folder: Path) -> None:
    above = np.nextafter(np.float32(1), np.float32(2))
    np.savez(folder / "alphas.npz", **alphas_file(weights=np.full((2, 1, 3), above)))
    alphas = load_run(folder).alphas
    assert alphas is not None and alphas.weights.max() == above


def test_alphas_that_would_run_code_are_refused_and_run_nothing(folder: Path) -> None:
    mark = folder / "ran"
    np.savez(folder / "alphas.npz", **alphas_file(device=np.array([Bomb(mark)], dtype=object)))
    with pytest.raises(InvalidInputError, match=r"cannot read .*alphas\.npz"):
        load_run(folder)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_torn_alphas_are_refused(folder: Path, content: bytes) -> None:
    (folder / "alphas.npz").write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"alphas\.npz"):
        load_run(folder)


def test_one_array_is_no_file_of_alphas(folder: Path) -> None:
    with (folder / "alphas.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InvalidInputError, match=r"alphas\.npz"):
        load_run(folder)


@pytest.mark.parametrize(
    "file", ["status.json", "result.json", "config.yaml", "metrics.csv", "prune.csv", "alphas.npz"]
)
def test_a_file_with_bytes_cut_or_changed_loads_or_is_refused(searched: Path, tmp_path: Path, file: str) -> None:
    leave_out = shutil.ignore_patterns("weights", "checkpoints")
    folder = Path(shutil.copytree(searched, tmp_path / "run", ignore=leave_out))
    whole = (searched / file).read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole[: int(generator.integers(len(whole)))] if generator.random() < 0.3 else whole)
        for place in generator.integers(max(1, len(content)), size=3):
            content[place : place + 1] = generator.bytes(1)
        (folder / file).write_bytes(content)
        with contextlib.suppress(InvalidInputError):
            load_run(folder)
