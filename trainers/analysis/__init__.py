"""Finished and running searches as data frames, the figures that come of them, and pictures of both."""

from trainers.analysis.comparison import comparison_runs, comparison_table
from trainers.analysis.comparison_plot import plot_comparison
from trainers.analysis.devices import held_out, latencies, transfer
from trainers.analysis.fronts import hypervolume, pareto
from trainers.analysis.latency_plots import plot_predicted_against_measured, plot_residuals_by_operation
from trainers.analysis.loading import Run, Sweep, candidates, load_run, load_sweep
from trainers.analysis.run_files import Alphas
from trainers.analysis.run_plots import plot_alphas, plot_costs, plot_front, plot_pruning
from trainers.analysis.seeds import Stability, anytime, stability
from trainers.analysis.sweep_plots import (
    plot_anytime,
    plot_device_correlation,
    plot_gap,
    plot_pareto,
    plot_stability,
    plot_transfer,
)

__all__ = [
    "Alphas",
    "Run",
    "Stability",
    "Sweep",
    "anytime",
    "candidates",
    "comparison_runs",
    "comparison_table",
    "held_out",
    "hypervolume",
    "latencies",
    "load_run",
    "load_sweep",
    "pareto",
    "plot_alphas",
    "plot_anytime",
    "plot_comparison",
    "plot_costs",
    "plot_device_correlation",
    "plot_front",
    "plot_gap",
    "plot_pareto",
    "plot_predicted_against_measured",
    "plot_pruning",
    "plot_residuals_by_operation",
    "plot_stability",
    "plot_transfer",
    "stability",
    "transfer",
]
