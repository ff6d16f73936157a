"""Imports go one way, and each outside package is behind one fence."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "search_spaces": {"search_spaces"},
    "hardware_models": {"hardware_models", "search_spaces"},
    "trainers": {"trainers", "hardware_models", "search_spaces"},
}
COMMAND_LINE = [
    f"trainers/{name}"
    for name in ("cli.py", "composition.py", "own_files.py", "sweep_start.py", "job.py", "tuning/plugin/")
]
FENCES = {  # package: files and folders that may import it
    "hydra": COMMAND_LINE,
    "omegaconf": COMMAND_LINE,
    "wandb": ["trainers/tracking/wandb_tracker.py"],
    "wandb_workspaces": ["trainers/tracking/dashboard.py"],
    "tensorboard": ["trainers/tracking/tensorboard_tracker.py"],
    "mlflow": ["trainers/tracking/mlflow_tracker.py"],
    "optuna": ["trainers/tuning/"],
    "jinja2": ["trainers/reporting/"],
    "pandas": ["trainers/analysis/"],
    "nni": ["search_spaces/nni_spaces.py", "trainers/nni_baselines.py"],
    "fvcore": ["hardware_models/counting.py"],
    # Sent to boards as it is, so it cannot import from another file.
    "onnxruntime": ["hardware_models/measuring/runner.py"],
    "matplotlib": ["trainers/calibrate_plot.py", "trainers/reporting/plots.py", "trainers/analysis/"],
    "pytorch_lightning": ["trainers/"],
}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imported_packages(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relative to itself"
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_the_direction_and_the_fences(path: Path) -> None:
    place, packages = path.relative_to(ROOT).as_posix(), imported_packages(path)
    assert packages & (set(MAY_IMPORT) | {"tests", "conf"}) <= MAY_IMPORT[place.partition("/")[0]]
    fenced = {package for package in packages & set(FENCES) if not place.startswith(tuple(FENCES[package]))}
    assert fenced == set()


def test_every_package_has_files_to_check() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(MAY_IMPORT)
