"""Which code ran is known by its commit only as far as its files are those of the commit, and by their hash always."""

import shutil
import subprocess
from pathlib import Path

import pytest

from trainers.runs.code import PACKAGES, ROOT, code_in

FILES = {
    **{f"{package}/__init__.py": "" for package in PACKAGES},
    "trainers/search/search.py": "LOWEST = 1\n",
    "conf/search.yaml": "seed: 0\n",
    "trainers/reports/templates/run.html.j2": "<p>\n",
    "README.md": "words\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the files of a small Espalier."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=e")
    done = subprocess.run(["git", "-C", str(root), *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(root: Path) -> str:
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "all")
    return git(root, "rev-parse", "HEAD")


def test_code_is_its_commit_until_a_file_of_it_changes(root: Path) -> None:
    head = commit(root)
    before = code_in(root)
    assert (before.commit, before.changed) == (head, False)
    (root / "README.md").write_text("other words\n")
    assert code_in(root) == before
    (root / "trainers" / "search.py").write_text("LOWEST = 2\n")
    after = code_in(root)
    assert (after.commit, after.changed) == (head, True)  # as one that no commit has
    assert after.sha256 != before.sha256


def test_installed_code_has_the_hash_of_its_checkout_and_no_commit(root: Path, tmp_path: Path) -> None:
    plugin = root / "trainers" / "cli" / "plugin" / "sweeper.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text("")
    commit(root)
    installed = tmp_path / "installed"
    for package in PACKAGES:
        shutil.copytree(root / package, installed / package, ignore=shutil.ignore_patterns("plugin"))
    (installed / "trainers" / "__pycache__").mkdir()
    (installed / "trainers" / "__pycache__" / "search.pyc").write_bytes(b"compiled")
    code = code_in(installed)
    assert (code.commit, code.changed, code.sha256) == (None, None, code_in(root).sha256)


def test_the_hash_is_that_of_names_and_contents_of_all_files(root: Path) -> None:
    before = code_in(root).sha256
    for name in (name for name in FILES if name != "README.md"):
        (root / name).write_text("other\n")
        changed = code_in(root).sha256
        (root / name).write_text(FILES[name])
        assert code_in(root).sha256 == before != changed, name
        (root / name).rename((root / name).with_stem("renamed"))
        assert code_in(root).sha256 not in (before, changed), name
        (root / name).with_stem("renamed").rename(root / name)


def test_every_package_lies_where_its_files_are_looked_for() -> None:
    assert [package for package in PACKAGES if not any((ROOT / package).glob("*.py"))] == []
