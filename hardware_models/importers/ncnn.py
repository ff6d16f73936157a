"""What ncnn's `benchncnn` prints: times of whole networks that it names, whose layers `ncnn_networks.yaml` lists.

Lines `loop_count = 8`, `num_threads = 4`, `powersave = 0`, `gpu_device = -1`, `cooling_down = 1`, of which old versions
have fewer; then `mobilenet_v2  min =    5.10  max =    5.32  avg =    5.17`, in milliseconds. Before and after them may
stand what a shell and Vulkan write.
Source: Tencent/ncnn, benchmark/benchncnn.cpp and benchmark/README.md (BSD-3-Clause).
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml

from hardware_models.measuring.csv_file import parsed, refusal
from hardware_models.measuring.foreign_text import lines_of, read_text
from hardware_models.measuring.measurements import MeasuredRow, Measurements, without_devices
from search_spaces.operation import Operation

Line = tuple[int, str]
_SETTING = re.compile(r"(loop_count|num_threads|powersave|gpu_device|cooling_down) = (-?[0-9]+)")
_ROW = re.compile(r"(\S+) +min = *([0-9]+\.[0-9]+) +max = *([0-9]+\.[0-9]+) +avg = *([0-9]+\.[0-9]+)")
_ANY_TIME = re.compile(r"\b(?:min|max|avg) *=")
_HYPHEN = re.compile(r"-(?=int8|ssd|yolo$)")  # as old versions write these names
_ROUNDING_MS = 0.011  # two decimals are printed


def import_ncnn(path: Path, *, device: str | None) -> Measurements:
    """The mean times of the networks in floating point whose layers are known; a file is of one run.

    Quantised networks are left out, because a profile is of one precision.
    """
    without_devices(device)
    lines = [(number, text.strip()) for number, text in enumerate(lines_of(read_text(path)), start=1)]
    problems = list(_problems(lines))
    if problems:
        raise refusal(path, problems)
    times = {
        _HYPHEN.sub("_", row[1]): (number, float(row[4])) for number, text in lines if (row := _ROW.fullmatch(text))
    }
    known = ncnn_networks()
    rows = tuple(
        MeasuredRow(name, ms, known[name], number, {}) for name, (number, ms) in times.items() if name in known
    )
    if not rows:
        got = ", ".join(times) or "no line as 'resnet18  min = 9.10  max = 9.35  avg = 9.20'"
        raise refusal(path, [f"got {got}; allowed: what benchncnn prints of {', '.join(known)}"])
    return Measurements(path, "network", rows, _constants(lines))


@cache
def ncnn_networks() -> Mapping[str, tuple[Operation, ...]]:
    """Layers of the networks of ncnn's benchmark, each as often as it runs, with those of squeeze-excite."""
    content = yaml.safe_load((files("hardware_models.importers") / "ncnn_networks.yaml").read_text(encoding="utf-8"))
    return {
        name: tuple(parsed(notation) for notation, count in layers.items() for _ in range(count))
        for name, layers in content.items()
    }


def _problems(lines: Sequence[Line]) -> Iterator[str]:
    """Lines that have times but not all, other lines between the first time and the last, and what stands twice."""
    rows = [number for number, text in lines if _ROW.fullmatch(text)]
    settings = Counter(found[1] for _, text in lines if (found := _SETTING.fullmatch(text)))
    names = Counter(_HYPHEN.sub("_", found[1]) for _, text in lines if (found := _ROW.fullmatch(text)))
    for number, text in lines:
        row, setting = _ROW.fullmatch(text), _SETTING.fullmatch(text)
        if row and not float(row[2]) - _ROUNDING_MS <= float(row[4]) <= float(row[3]) + _ROUNDING_MS:
            yield f"line {number}: avg {row[4]} lies outside min {row[2]} to max {row[3]}; is it damaged?"
        elif row and float(row[4]) <= 0:
            yield f"line {number}: {row[1]} took {row[4]} ms; was its .param file missing?"
        elif (setting and settings[setting[1]] > 1) or (row and names[_HYPHEN.sub("_", row[1])] > 1):
            yield f"line {number}: {text.split()[0]} stands more than once; give each run a file of its own"
        elif not row and (_ANY_TIME.search(text) or (text and rows and rows[0] < number < rows[-1])):
            yield f"line {number}: {text[:80]!r} is no line of benchncnn's times; is it damaged?"


def _constants(lines: Sequence[Line]) -> dict[str, str]:
    settings = {found[1]: found[2] for _, text in lines if (found := _SETTING.fullmatch(text))}
    gpu = settings.get("gpu_device", "-1")
    threads = {"threads": settings["num_threads"]} if "num_threads" in settings else {}
    return {"runtime": "ncnn" if gpu == "-1" else f"ncnn, Vulkan on GPU {gpu}", "statistic": "mean", **threads}
