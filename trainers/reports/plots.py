"""Plots of a report as SVG text that follows the colours of its page, and pictures for loggers."""

import io
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from trainers.analysis.canvas import (
    COLOURS,
    GREY,
    INK,
    LEGEND_INCHES,
    draw_epochs,
    legend_outside,
    looks,
    name_rows,
    panels,
    say,
    style,
)
from trainers.analysis.loading import Run
from trainers.analysis.run_plots import plot_alphas
from trainers.analysis.sweep_plots import plot_networks
from trainers.runs import metric_names
from trainers.runs.result import DeviceResult
from trainers.search.verdict import held_against

DOTS_PER_INCH = 120  # of pictures for loggers
# Colours that matplotlib writes, and what a page calls them; its stylesheet gives each a value for light and dark.
THEMED = {colour.lower(): f"var(--plot-{i})" for i, colour in enumerate(COLOURS)}
THEMED |= {GREY.lower(): "var(--faint)", INK.lower(): "var(--ink)", "#ffffff": "var(--page)", "#000000": "var(--ink)"}
# A style of the drawing's own would speak of all elements of the page, whose fonts it takes.
UNUSED = re.compile(
    r'<(metadata|style).*?</\1>|<!--.*?-->|font-family:[^;"]*;?| transform="rotate\(-0 [^"]*"', re.DOTALL
)
COLOUR, NUMBER, SPACE = re.compile(r"#[0-9a-f]{6}\b"), re.compile(r"\d+\.\d{3,}"), re.compile(r"\s+")


def themed_svg(figure: Figure, *, name: str, words: str) -> Markup:
    """SVG text to stand inside a page. `name` keeps its ids apart from other plots'; `words` say what it shows."""
    buffer = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False}
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = UNUSED.sub("", buffer.getvalue())
    referred = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referred else "", text)
    text = re.sub(r'(?<==")[^"]*', lambda found: _shorten(found[0]), text[text.index("<svg ") + 5 :])
    classes: dict[str, str] = {}  # for styles that many elements share
    text = re.sub(r' style="([^"]*)"', lambda m: f' class="{classes.setdefault(m[1], f"c{len(classes)}")}"', text)
    rules = "".join(f".{name} .{short}{{{style}}}" for style, short in classes.items())
    head, _, content = SPACE.sub(" ", text).replace("> <", "><").partition(">")
    start = Markup('<svg class="plot {}" role="img" aria-label="{}" ').format(name, words)
    return Markup(f"{start}{head}>{Markup('<title>{}</title>').format(words)}<style>{rules}</style>{content}")


def _shorten(value: str) -> str:
    """An attribute in the page's colours and to hundredths of a point; a picture by the numbers of its few colours."""
    if value.startswith("data:"):
        buffer = io.BytesIO()
        picture = Image.open(io.BytesIO(b64decode(value.partition(",")[2]))).convert("RGB")
        picture.quantize(256).save(buffer, format="png", optimize=True)
        return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"
    value = COLOUR.sub(lambda found: THEMED.get(found[0], found[0]), value)
    return NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)


@style()
def plot_candidates(devices: Mapping[str, DeviceResult]) -> Figure:
    """Of each device in result.json, validation accuracy of its candidates against the share of its tightest budget
    that each uses, by the figure that budgets are checked against before anything is measured; as many random networks
    within the same budgets beside them; a star on the one taken.
    """
    figure, grid = panels(list(devices), height=2.8)
    for axes, (name, device) in zip(grid, devices.items(), strict=True):
        random: Any = {"marker": "o", "color": GREY, "label": "random"}
        searched: Any = {"marker": "s", "color": COLOURS[0], "label": "candidates"}
        for rows, look in ((device.random_candidates, random), (device.candidates, searched)):
            shares = [row.utilisation for row in rows]
            axes.scatter(shares, [row.validation_accuracy for row in rows], s=26, alpha=0.8, **look)
        x, y = device.taken.utilisation, device.taken.validation_accuracy
        axes.scatter([x], [y], s=130, marker="*", color=COLOURS[1], label="taken", zorder=3)
        axes.axvline(1, color=GREY, linewidth=1)
        counts = f"{len(device.candidates)} candidates, {len(device.random_candidates)} random"
        axes.set_title(f"{name}\n{counts}", loc="left")
        axes.set(xlabel=f"share of the tightest budget,\nby {held_against(device, as_predicted=True)}")
    name_rows(grid, "validation accuracy, share")
    legend_outside(figure, grid[0])
    return figure


@style()
def plot_latency(run: Run) -> Figure:
    """Test accuracy of each device's network against its latency, as `plot_networks` has it. Weights are inherited, so
    that the best random network within the same budgets compares; no file tells its latency.
    """
    rows = run.devices.dropna(subset=["accuracy_inherited", "accuracy_random"])
    figure = plot_networks(rows.assign(name=rows["device"]), metric="latency_ms", accuracy="inherited")
    legend_outside(figure, figure.axes[0])
    return figure


@style()
def plot_inside(run: Run) -> Figure:
    """Losses, and entropy with the shares of operations, over the epochs."""
    shares = {name: words for name in run.metrics.columns if (words := share_words(name)) is not None}
    losses = {metric_names.TRAIN_LOSS: "training", metric_names.VALIDATION_LOSS: "validation"}
    titles = {"loss": losses, "entropy, and shares of operations": {metric_names.ENTROPY: "entropy", **shares}}
    figure = Figure(figsize=(9, 2.8 + LEGEND_INCHES * (1 + len(shares))), layout="constrained")
    for axes, (title, named) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        axes.set_title(title, loc="left")
        if run.metrics.empty:
            say(axes, "no epoch has ended yet")
            continue
        present = {words: run.metrics[name] for name, words in named.items() if name in run.metrics}
        for words, look in looks(list(present)).items():
            axes.plot(run.metrics[metric_names.EPOCH], present[words], label=words, markersize=3.5, **vars(look))
        draw_epochs(axes)
    axes.set_ylim(0, 1.05)
    return figure


def share_words(name: str) -> str | None:
    """`share of skip_connect` for the metric of that share; none for other metrics."""
    prefix, suffix = metric_names.share("*").split("*")
    if not (name.startswith(prefix) and name.endswith(suffix)):
        return None
    return f"share of {name.removeprefix(prefix).removesuffix(suffix)}"


def alpha_heat_map(run: Run) -> bytes:
    """A PNG picture of the probabilities of choices."""
    buffer = io.BytesIO()
    plot_alphas(run).savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()
