"""Hostile command lines, drawn: unknown keys, values of other types and out of range, paths that lead elsewhere."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

FUZZ = settings(
    deadline=None,
    derandomize=True,  # the same lines on every machine and day
    database=None,
    phases=[Phase.generate],  # lines are short as they are
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
GROUPS = ("space", "hardware", "data", "strategy", "optimizer", "trainer", "logger", "experiment", "debug")
FLAGS = ("--cfg=job", "--experimental-rerun=x", "--config-dir=nowhere")
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
ELSEWHERE = "/elsewhere_of_espalier"  # where only root could write, and where nothing is
PATHS = (
    *("../../x", f"{ELSEWHERE}/x", "~root/x", "~nobody_there/x", "$(touch pwned)", "`touch pwned`", "a\nb", "a b"),
    *(".", "..", "", "x" * 300, "/".join(["x" * 200] * 30), "a\x00b", "ü/日本", "a\x1b[2J", "//x", "nul", "-m"),
    "con/../..'",
)
NUMBERS = ("-1", "0", "1e400", "nan", "inf", "-inf", "999999999999999999999", "true", "null", "'1'", "1.5", "many")
BRACKETS = ("[]", "{}", "[1,[2,{a:b}]]", "{a:1}", "[", "{", "]", "{a:", "'", '"', "a'b", "[a,,b]", "???", "a,b")
REFERENCES = (
    *("${oc.env:HOME}", "${oc.env:NOT_SET_ANYWHERE}", "${seed}", "${", "${nope}", "${oc.decode:'['}", "${now:%Y}"),
    *("${hydra:runtime.cwd}", "${trainer}", "${.}", "choice(1", "range(3)", "glob(*)", "interval(0,1)", "$HOME"),
)
VALUES = st.one_of(
    st.sampled_from(PATHS),
    st.sampled_from([*NUMBERS, *BRACKETS, *REFERENCES]),
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=20),
    st.integers().map(str),
    st.floats().map(str),
)
PREFIX = st.sampled_from(["", "", "", "+", "++", "~"])


def composed_by(app: str, *overrides: str) -> dict[str, Any]:
    """The configuration of the command whose file in conf is `app`, as plain values."""
    GlobalHydra.instance().clear()
    with initialize_config_module("conf", version_base="1.3"):
        content = OmegaConf.to_container(compose(app, overrides=list(overrides)), resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def keys(content: Mapping[str, Any], above: str = "") -> list[str]:
    """Every key of a configuration, with dots, sections too."""
    found = []
    for key, value in content.items():
        found.append(f"{above}{key}")
        if isinstance(value, dict):
            found += keys(value, f"{above}{key}.")
    return found


def leaves(content: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Every single value of a configuration by its key, with dots."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= leaves(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


@st.composite
def one_of_each(draw: st.DrawFn, keys: Iterable[str]) -> str:
    """A key, each section as likely as any other: the profile of a device has more keys than all the rest."""
    sections: dict[str, list[str]] = {}
    for key in sorted(keys):
        sections.setdefault(key.partition(".")[0], []).append(key)
    return draw(st.sampled_from(sections[draw(st.sampled_from(sorted(sections)))]))


def key_of(argument: str) -> str:
    return argument.partition("=")[0].lstrip("+~")


def quoted(text: str) -> str:
    """As Hydra's parser takes any text: in quotes, with those in it escaped and backslashes before them doubled."""
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", re.sub(r"(\\+)$", r"\1\1", text)) + "'"


@st.composite
def arguments(draw: st.DrawFn, content: Mapping[str, Any], groups: Sequence[str] = GROUPS) -> str:
    """Any key with any value, of Hydra's own too."""
    known = one_of_each(keys(content))
    key = draw(st.one_of(known, known, known, UNKNOWN, st.sampled_from(groups), OF_HYDRA))
    prefix, value = draw(PREFIX), draw(VALUES)
    return prefix + key if prefix == "~" and draw(st.booleans()) else f"{prefix}{key}={value}"


@st.composite
def near_misses(draw: st.DrawFn, content: Mapping[str, Any]) -> str:
    """A key there is with a value that is nearly of its kind, or with its own."""
    found = leaves(content)
    key = draw(one_of_each(found))
    value = found[key]
    numbers = st.sampled_from([-1, 0, 1, 2, 3, 7, 1e-300, 0.5, 1.5, -0.0, 1e300, 2**31, 2**63, 2**64, 10**30])
    match value:
        case None:
            same = "null"
            near = st.sampled_from(PATHS).map(quoted) | numbers.map(str)
        case bool():
            same = str(value).lower()
            near = st.sampled_from(["1", "yes", "null", "[true]"])
        case int() | float():
            same = str(value)
            near = numbers.map(str) | st.integers(-3, 3).map(lambda n: str(value + n)) | st.just(f"[{value}]")
        case list():
            same = "[" + ",".join(map(str, value)) + "]"
            near = st.lists(numbers.map(str), max_size=3).map(lambda some: f"[{','.join(some)}]") | numbers.map(str)
        case _:
            same = quoted(value)
            near = st.sampled_from(PATHS).map(quoted) | st.text(max_size=9).map(quoted) | numbers.map(str)
    return f"{key}={draw(near | st.just(same))}"


def lines(
    content: Mapping[str, Any], *, groups: Sequence[str] = GROUPS, flags: Sequence[str] = FLAGS
) -> st.SearchStrategy[list[str]]:
    """Arguments of a command whose whole configuration is `content`."""
    any_of, near = arguments(content, groups), near_misses(content)
    return st.one_of(
        st.lists(near, min_size=1, max_size=2),
        st.lists(any_of, min_size=1, max_size=2),
        st.tuples(st.sampled_from(flags), any_of).map(list),
    )
