"""The dashboard over runs at W&B, built from code: the same sections for everyone, without a network."""

import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from trainers.loggers.alerts import IDLE_OPERATIONS
from trainers.runs import metric_names

NAME = "Espalier"
SETTINGS = ("strategy.name", "space.name", "seed")  # of the configuration
# A chart's fields, and the columns of the table that they show.
CHARTS: dict[str, tuple[str, dict[str, str]]] = {
    "utilisation": (
        metric_names.ARCHITECTURES,
        {"device": "device", "latency": "utilisation_latency_ms", "gflops": "utilisation_gflops"}
        | {"params": "utilisation_params_m", "memory": "utilisation_peak_memory_mb"}
        | {"flash": "utilisation_flash_kb", "sram": "utilisation_sram_kb"},
    ),
    "accuracy_latency": (
        metric_names.ARCHITECTURES,
        {"device": "device", "latency": "held_latency_ms", "budget": "budget_latency_ms"}
        | {"accuracy": "accuracy_finetuned", "met": "met"},
    ),
    "pruning": (metric_names.PRUNE_EVENTS, {"device": "device", "step": "step", "reason": "reason"}),
}


def build_dashboard(entity: str, project: str, *, devices: Sequence[str], metrics: Sequence[str]) -> ws.Workspace:
    """The workspace with a panel per device and metric where one is due; nothing is sent."""
    sections = {
        "Verdict": _verdict(entity, devices),
        "Cost of each device against its budget": [
            _against_budget(device, metric) for metric in metrics for device in devices
        ],
        "Entropy": [_lines("Entropy of the choices, share of the largest", metric_names.ENTROPY)],
        "Heat map and architectures": _pictures(devices),
        "Pruning": [*_pruning(devices), _chart(entity, "pruning")],
        "Collapse alarm": _collapse(),
        "Accuracy and latency": [*_scatters(devices), _chart(entity, "accuracy_latency")],
        "Parallel coordinates": [_parallel(devices), wr.ParameterImportancePlot(with_respect_to=_objective().name)],
        "Run comparer": [wr.RunComparer(diff_only="split")],
    }
    opened = [ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()]
    return ws.Workspace(entity=entity, project=project, name=NAME, sections=opened)


def specification(workspace: ws.Workspace) -> dict[str, Any]:
    """What W&B is sent of the workspace, as plain values."""
    content = json.loads(workspace._to_model().model_dump_json(by_alias=True, exclude_none=True))
    assert isinstance(content, dict)
    return content


def push_dashboard(workspace: ws.Workspace) -> str:
    """Saves it at W&B as a new view; returns its address."""
    return str(workspace.save().url)


def charts() -> dict[str, dict[str, Any]]:
    """The Vega-Lite specifications of what W&B has no panel for, under the names that panels call them by."""
    return {chart_name(name): json.loads(_text(name)) for name in CHARTS}


def chart_name(name: str) -> str:
    """With a hash of the content: a chart that changes is another one, and old dashboards keep theirs."""
    return f"espalier-{name.replace('_', '-')}-{hashlib.sha256(_text(name).encode()).hexdigest()[:8]}"


def _text(name: str) -> str:
    return resources.files("trainers.loggers").joinpath("charts", f"{name}.json").read_text(encoding="utf-8")


def _chart(entity: str, name: str) -> wr.CustomChart:
    table, fields = CHARTS[name]
    panel = wr.CustomChart.from_table(table, chart_fields=fields, chart_strings={})
    panel.chart_name = f"{entity}/{chart_name(name)}"
    return panel


def _objective() -> wr.SummaryMetric:
    return wr.SummaryMetric(metric_names.result("validation_accuracy"))


def _verdict(entity: str, devices: Sequence[str]) -> list[Any]:
    met = [
        wr.ScalarChart(title=f"{device}: budgets met", metric=metric_names.met(device), groupby_aggfunc="min")
        for device in devices
    ]
    return [*met, _chart(entity, "utilisation"), wr.WeavePanelSummaryTable(table_name=metric_names.ARCHITECTURES)]


def _against_budget(device: str, metric: str) -> wr.LinePlot:
    """Expected and largest cost and the budget, which holds once the largest is below it."""
    names = [namer(device, metric) for namer in (metric_names.expected, metric_names.worst, metric_names.budget)]
    return _lines(f"{device}: {metric} against budget", *names)


def _pictures(devices: Sequence[str]) -> list[Any]:
    drawings = [metric_names.architecture_picture(device) for device in devices]
    return [
        wr.MediaBrowser(title="Weights of the choices", media_keys=[metric_names.ALPHA_HEAT_MAP], num_columns=1),
        wr.MediaBrowser(title="Architectures", media_keys=drawings, num_columns=len(drawings)),
    ]


def _pruning(devices: Sequence[str]) -> list[Any]:
    return [
        _lines("Choices alive", metric_names.CHOICES_ALIVE),
        _lines("Every network left meets the budgets", *(metric_names.met(device) for device in devices)),
        wr.WeavePanelSummaryTable(table_name=metric_names.PRUNE_EVENTS),
    ]


def _collapse() -> list[Any]:
    return [
        _lines("Mass on operations that do nothing", *(metric_names.share(name) for name in IDLE_OPERATIONS)),
        wr.LinePlot(title="Mass of each operation", x=metric_names.STEP, metric_regex="arch/.*_share"),
        _lines("Accuracy", metric_names.TRAIN_ACCURACY, metric_names.VALIDATION_ACCURACY),
        _lines("Losses", metric_names.TRAIN_LOSS, metric_names.VALIDATION_LOSS),
        wr.BarPlot(
            title="Accuracy that each stand-in misses",
            metrics=[metric_names.GAP_SUPERNET, metric_names.GAP_INHERITED],
        ),
    ]


def _scatters(devices: Sequence[str]) -> list[Any]:
    return [
        wr.ScatterPlot(
            title=f"{device}: accuracy against latency",
            x=wr.SummaryMetric(metric_names.result(f"{device}/latency_ms")),
            y=wr.SummaryMetric(metric_names.result(f"{device}/accuracy_finetuned")),
        )
        for device in devices
    ]


def _parallel(devices: Sequence[str]) -> wr.ParallelCoordinatesPlot:
    settings = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key)) for key in SETTINGS]
    costs = [wr.SummaryMetric(metric_names.result(f"{device}/latency_ms")) for device in devices]
    figures = [*costs, wr.SummaryMetric(metric_names.DEVICE_HOURS), _objective()]
    return wr.ParallelCoordinatesPlot(
        title="Settings and results",
        columns=[*settings, *(wr.ParallelCoordinatesPlotColumn(metric=figure) for figure in figures)],
    )


def _lines(title: str, *names: str) -> wr.LinePlot:
    return wr.LinePlot(title=title, x=metric_names.STEP, y=list(names))
