"""Hostile command lines and files: a message that names the key or the field, never a traceback, nothing elsewhere."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from console import Cli, Result, console
from hydra._internal.hydra import Hydra
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tiny_search import MOBILE, SHORT, composed

import trainers.search
from trainers import cli
from trainers.config import SearchConfig
from trainers.prepare import prepare

TINY = (*MOBILE, *SHORT, "strategy.pool_size=32")


def keys(content: dict[str, Any], above: str = "") -> list[str]:
    """Every key of a configuration, with dots, sections too."""
    found = []
    for key, value in content.items():
        found.append(f"{above}{key}")
        if isinstance(value, dict):
            found += keys(value, f"{above}{key}.")
    return found


SMALL = "hardware=[iot_terminal]"  # a configuration that is quick to compose
DEFAULT = composed(SMALL)
KNOWN = st.sampled_from(sorted(keys(DEFAULT)))
GROUPS = st.sampled_from(
    ["space", "hardware", "data", "strategy", "optimizer", "trainer", "logger", "experiment", "debug"]
)
UNKNOWN = st.sampled_from(
    ["trainer.stepz", "nonsense", "space.name.x", "hardware.pixel99.budgets.gflops", "a.b.c", "TRAINER.steps", "0", "é"]
) | st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="="), max_size=12)
OF_HYDRA = st.sampled_from(
    [
        *("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir", "hydra.job.chdir", "hydra"),
        *("hydra.job.env_set.HOME", "hydra.callbacks.sweep._target_", "hydra.mode", "hydra.runtime.output_dir"),
        *("hydra/job_logging", "hydra/hydra_logging", "hydra/output", "hydra.verbose", "hydra/callbacks"),
    ]
)
PATHS = [
    *("../../x", "/elsewhere/x", "~root/x", "~nobody_there/x", "$(touch pwned)", "`touch pwned`", "a\nb", "a b", "."),
    *(
        "..",
        "",
        "x" * 300,
        "/".join(["x" * 200] * 30),
        "a\x00b",
        "ü/日本",
        "a\x1b[2J",
        "//x",
        "nul",
        "-m",
        "con/../..'",
    ),
]
VALUES = st.one_of(
    st.sampled_from(PATHS),
    st.sampled_from(
        [
            *("-1", "0", "1e400", "nan", "inf", "-inf", "999999999999999999999", "true", "null", "'1'", "1.5", "many"),
            *("[]", "{}", "[1,[2,{a:b}]]", "{a:1}", "[", "{", "]", "{a:", "'", '"', "a'b", "[a,,b]", "???", "a,b"),
            *(
                "${oc.env:HOME}",
                "${oc.env:NOT_SET_ANYWHERE}",
                "${seed}",
                "${",
                "${nope}",
                "${oc.decode:'['}",
                "${now:%Y}",
            ),
            *(
                "${hydra:runtime.cwd}",
                "${trainer}",
                "${.}",
                "choice(1",
                "range(3)",
                "glob(*)",
                "interval(0,1)",
                "$HOME",
            ),
        ]
    ),
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=20),
    st.integers().map(str),
    st.floats().map(str),
)
PREFIX = st.sampled_from(["", "", "", "+", "++", "~"])


@st.composite
def arguments(draw: st.DrawFn) -> str:
    key = draw(st.one_of(KNOWN, KNOWN, KNOWN, UNKNOWN, GROUPS, OF_HYDRA))
    prefix, value = draw(PREFIX), draw(VALUES)
    return prefix + key if prefix == "~" and draw(st.booleans()) else f"{prefix}{key}={value}"


def leaves(content: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Every single value of a configuration by its key, with dots."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= leaves(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


def quoted(text: str) -> str:
    """As Hydra's parser takes any text: in quotes, with those in it escaped and backslashes before them doubled."""
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", re.sub(r"(\\+)$", r"\1\1", text)) + "'"


@st.composite
def near_misses(draw: st.DrawFn) -> str:
    """A key there is with a value that is nearly of its kind."""
    key, value = draw(st.sampled_from(sorted(leaves(DEFAULT).items(), key=str)))
    numbers = st.sampled_from([-1, 0, 1, 2, 3, 7, 1e-300, 0.5, 1.5, -0.0, 1e300, 2**31, 2**63, 2**64, 10**30])
    match value:
        case bool():
            near = st.sampled_from(["1", "yes", "null", "[true]"])
        case int() | float():
            near = numbers.map(str) | st.integers(-3, 3).map(lambda n: str(value + n)) | st.just(f"[{value}]")
        case list():
            near = st.lists(numbers.map(str), max_size=3).map(lambda some: f"[{','.join(some)}]") | numbers.map(str)
        case _:
            near = st.sampled_from(PATHS).map(quoted) | st.text(max_size=9).map(quoted) | numbers.map(str)
    return f"{key}={draw(near)}"


FLAGS = st.sampled_from(["-m", "-m", "--cfg=job", "--experimental-rerun=x", "--config-dir=nowhere"])
LINES = st.one_of(
    st.lists(near_misses(), min_size=1, max_size=2),
    st.lists(arguments(), min_size=1, max_size=2),
    st.tuples(FLAGS, arguments()).map(list),
)
FUZZ = settings(
    deadline=None,
    derandomize=True,  # the same lines on every machine and day
    database=None,
    phases=[Phase.generate],  # lines are short as they are
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    # Hydra composes the configuration once more to read hydra.mode, which is not set: a third of the time of a command.
    monkeypatch.setattr(Hydra, "get_mode", lambda *arguments, **more: None)
    return console(cli.SEARCH, monkeypatch, capsys, tmp_path, SMALL)


def key_of(argument: str) -> str:
    return argument.partition("=")[0].lstrip("+~")


def names(errors: str, line: list[str]) -> bool:
    """Whether a message names what an argument sets, or the section that it sets it in."""
    keys = {key_of(argument) for argument in line}
    return any(key in errors or key.partition(".")[0] in errors for key in keys)


def told(result: Result, line: list[str], folder: Path) -> int:
    """The exit code, after a look at the message and at what is in the folder of the test."""
    code, _, errors = result
    assert code in (0, 2), errors
    assert "Traceback" not in errors
    assert (code == 0) == (errors == "")
    assert code == 0 or (errors.startswith("espalier-search: ") and names(errors, line)), errors
    runs = folder / "runs"
    assert [p for p in folder.rglob("*") if p != folder / "here" and runs not in (p, *p.parents)] == []
    return code


def test_any_command_line_is_refused_by_name_or_understood_and_touches_nothing_else(
    search: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The configuration is whole and checked; what a search would build of it is the next test's.
    monkeypatch.setattr(trainers.search, "run_search", lambda config, report, *, command: {"status": "done"})
    codes: Counter[int] = Counter()

    @settings(FUZZ, max_examples=1000)
    @given(line=LINES)
    def each(line: list[str]) -> None:
        codes[told(search(*line, *([f"paths.runs={tmp_path}/runs"] if "-m" in line else [])), line, tmp_path)] += 1

    each()
    assert codes.total() >= 1000
    assert min(codes[0], codes[2]) > 200


@pytest.mark.parametrize("override", ["+=", "=", "~=x", "++=1"])
@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["run", "sweep"])
def test_an_override_without_a_key_is_refused(search: Cli, override: str, flags: list[str]) -> None:
    code, _, errors = search(*flags, override)
    assert code == 2
    assert f"{override!r}: names no key; write key=value" in errors


def test_any_value_is_refused_by_name_or_makes_a_search_that_could_begin(
    search: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(config: SearchConfig, report: Any, *, command: str) -> dict[str, str]:
        prepare(config)
        return {"status": "done"}

    monkeypatch.setattr(trainers.search, "run_search", begin)
    codes: Counter[int] = Counter()

    @settings(FUZZ, max_examples=100)
    @given(argument=near_misses())
    def each(argument: str) -> None:
        codes[told(search(argument), [argument], tmp_path)] += 1

    each()
    assert min(codes[0], codes[2]) > 5


@pytest.mark.parametrize("argument", ["trainer.steps=1", "seed=4294967295", "paths.cache='$(touch pwned)'"])
def test_a_few_of_the_accepted_are_searched_to_their_end(search: Cli, tmp_path: Path, argument: str) -> None:
    code, _, errors = search(*TINY, argument, f"paths.runs={quoted(str(tmp_path / 'runs' / '~x y;é'))}")
    assert (code, errors) == (0, "")
    assert len(list((tmp_path / "runs" / "~x y;é").rglob("result.json"))) == 1
    assert list(Path.cwd().iterdir()) == []
