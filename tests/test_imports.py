"""Imports go one way between rooms, without circles, and each outside package is behind one fence."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each line may import the lines above it, and itself. Rooms on one line do not import each other.
ORDER = (
    ("search_spaces",),
    ("search_spaces.darts", "search_spaces.mobile", "search_spaces.nasbench201", "search_spaces.nni"),
    ("hardware_models",),
    ("trainers.runs",),
    ("trainers.data",),
    ("trainers.deploy",),
    ("trainers.search",),
    ("trainers.analysis", "trainers.loggers", "trainers.sweeps"),
    ("trainers.devices", "trainers.reports", "trainers.tuning"),
    ("trainers.cli",),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
FENCES = {  # package: files and folders that may import it
    "hydra": ["trainers/cli/"],
    "omegaconf": ["trainers/cli/"],
    "wandb": ["trainers/loggers/wandb.py"],
    "wandb_workspaces": ["trainers/loggers/dashboard.py"],
    "tensorboard": ["trainers/loggers/tensorboard.py"],
    "mlflow": ["trainers/loggers/mlflow.py"],
    "optuna": ["trainers/tuning/", "trainers/cli/plugin/"],
    "jinja2": ["trainers/reports/"],
    "pandas": ["trainers/analysis/"],
    "nni": ["trainers/search/searchers/nni_tuner.py", "search_spaces/nni/"],
    "fvcore": ["hardware_models/counting.py"],
    # The runner is sent to boards as it is, so it cannot import from another file. The other quantises with it.
    "onnxruntime": ["hardware_models/measuring/runner.py", "trainers/deploy/onnx_int8.py"],
    "executorch": ["trainers/deploy/executorch_file.py"],
    "torchao": ["trainers/deploy/executorch_file.py"],
    "litert_torch": ["trainers/deploy/litert_worker.py"],
    "ai_edge_litert": ["trainers/deploy/litert_worker.py"],
    "ai_edge_quantizer": ["trainers/deploy/litert_worker.py"],
    "matplotlib": ["trainers/reports/plots.py", "trainers/analysis/"],
    "pytorch_lightning": ["trainers/search/", "trainers/loggers/"],
}
FILES = sorted(
    path for package in ("search_spaces", "hardware_models", "trainers") for path in (ROOT / package).rglob("*.py")
)


def room_of(module: str) -> str:
    """The longest name of a room that a module, or a package, belongs to."""
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if name in LEVEL), parts[0])


def imported_modules(path: Path) -> set[str]:
    """Modules that a file imports anywhere, inside functions and for type checking too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relative to itself"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_the_direction_and_the_fences(path: Path) -> None:
    place, modules = path.relative_to(ROOT), imported_modules(path)
    room = room_of(".".join(place.with_suffix("").parts))
    own = {
        room_of(module)
        for module in modules
        if module.partition(".")[0] in ("search_spaces", "hardware_models", "trainers")
    }
    against = {other for other in own if other != room and LEVEL.get(other, len(ORDER)) >= LEVEL.get(room, -1)}
    assert against == set()
    packages = {module.partition(".")[0] for module in modules}
    assert packages.isdisjoint({"tests", "conf"})
    fenced = {p for p in packages & set(FENCES) if not place.as_posix().startswith(tuple(FENCES[p]))}
    assert fenced == set()


def test_readers_of_other_projects_tables_are_reached_by_name_alone() -> None:
    importers = ROOT / "hardware_models" / "importers"
    others = [path for path in FILES if importers not in path.parents]
    assert [
        path for path in others if any("hardware_models.importers" in name for name in imported_modules(path))
    ] == []


def test_every_folder_of_code_is_a_room() -> None:
    folders = {path.parent.relative_to(ROOT) for path in FILES if "plugin" not in path.parts}
    rooms = {room_of(".".join(folder.parts)) for folder in folders}
    assert rooms - {"trainers"} == set(LEVEL)


def test_a_name_of_a_file_stands_once_in_the_tree() -> None:
    # One of each in the folder of a space; the contracts that a package ships.
    families = {"space.py", "supernet.py", "network.py", "drawing.py", "testing.py"}
    names = [path.name for path in FILES if path.name not in families | {"__init__.py"}]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
