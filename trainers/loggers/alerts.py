"""Alerts for a person while a search runs, decided from one row of `metrics.csv` and the row before it."""

from collections.abc import Mapping

from trainers.runs import metric_names

Alert = tuple[str, str]  # title and text
# Edges that copy their input, or cut it, win a collapsing search (DARTS-, arXiv:2009.01027; RobustDARTS, 1909.09656).
IDLE_OPERATIONS = ("skip_connect", "none")
MAJORITY = 0.5  # ours: more mass on one such operation than on all others together
FALL = 0.5  # ours: half of a figure lost within an epoch


def epoch_alerts(previous: Mapping[str, float] | None, row: Mapping[str, float]) -> list[Alert]:
    """Title and text of each alert of this epoch; a condition that lasts is reported once."""
    return [*_budget_alerts(previous, row), *_collapse_alerts(previous, row)]


def _budget_alerts(previous: Mapping[str, float] | None, row: Mapping[str, float]) -> list[Alert]:
    found = []
    for device in metric_names.devices_of(row):
        name = metric_names.met(device)
        if row[name] == 1 and (previous is None or previous[name] != 1):
            text = f"from epoch {row[metric_names.EPOCH]:.0f} every network left for {device} meets its budgets"
            found.append((f"budget met: {device}", text))
    return found


def _collapse_alerts(previous: Mapping[str, float] | None, row: Mapping[str, float]) -> list[Alert]:
    found, epoch = [], f"epoch {row[metric_names.EPOCH]:.0f}"
    for operation in IDLE_OPERATIONS:
        name = metric_names.share(operation)
        if row.get(name, 0) > MAJORITY and (previous is None or previous[name] <= MAJORITY):
            found.append(
                (f"collapse: {operation}", f"{epoch}: {operation} has {row[name]:.0%} of the operations' mass")
            )
    if previous is None:
        return found
    entropy, accuracy, alive = metric_names.ENTROPY, metric_names.VALIDATION_ACCURACY, metric_names.CHOICES_ALIVE
    if row[alive] == previous[alive] and row[entropy] < FALL * previous[entropy]:
        text = f"{epoch}: entropy fell from {previous[entropy]:.2f} to {row[entropy]:.2f} though nothing was pruned"
        found.append(("collapse: entropy", text))
    if row[accuracy] < FALL * previous[accuracy]:
        text = f"{epoch}: validation accuracy fell from {previous[accuracy]:.3f} to {row[accuracy]:.3f}"
        found.append(("collapse: accuracy", text))
    return found
