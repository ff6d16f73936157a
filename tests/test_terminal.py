"""Commands at a terminal: what TAB completes, readers that have gone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_search import TINY

COMMAND = Path(sys.executable).parent / "espalier-search"


# What TAB does: bash has the line, the cursor, the words and the one that is being written, and calls the function.
TAB = """
eval "$($1 -sc install=bash)"
COMP_LINE=$2 COMP_POINT=${#2}
read -r -a COMP_WORDS <<<"$2"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
registered=($(complete -p "$1"))
for ((at = 0; at < ${#registered[@]}; at++)); do
  if [[ ${registered[at]} == -F ]]; then "${registered[at + 1]}" "$1" "${COMP_WORDS[COMP_CWORD]}"; fi
done
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash: apt-get install bash")
@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("espalier-search trainer.st", ["trainer.steps="]),
        ("espalier-tune strategy=ran", ["strategy=random"]),
        ("espalier-compare cpu_s", ["cpu_seconds="]),
        ("espalier-measure architec", ["architecture="]),
        ("espalier-export limits.acc", ["limits.accuracy_drop="]),
        ("espalier-price architec", ["architecture="]),
        ("espalier-retrain label", ["label_smoothing="]),
        ("espalier-search tags=[\x01] trainer.st", []),
    ],
)
def test_tab_in_bash_completes_keys_and_choices(line: str, completions: list[str], tmp_path: Path) -> None:
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    tab = ["bash", "--norc", "-c", TAB, "tab", line.split()[0], line]
    pressed = subprocess.run(tab, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PATH": path})
    assert (pressed.returncode, pressed.stderr) == (0, "")
    assert sorted(pressed.stdout.split()) == completions
    assert list(tmp_path.iterdir()) == []


# Pipes


@pytest.mark.parametrize("arguments", [("-sc", "install=bash"), ("--info", "config"), ("--help",)], ids=" ".join)
def test_a_reader_that_has_gone_is_no_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_search_whose_lines_cannot_be_written_goes_on(tmp_path: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [COMMAND, *TINY, f"paths.runs={tmp_path}/runs"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(list(tmp_path.glob("runs/search/*/result.json"))) == 1
