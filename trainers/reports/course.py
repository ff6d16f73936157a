"""The course of a search as result.json tells it, beside its status, its metrics and its pruning log."""

from collections.abc import Iterator, Sequence
from typing import Any

from search_spaces.errors import InvalidInputError
from trainers.analysis.loading import Run
from trainers.reports.check import Check, compared, differences, judged
from trainers.reports.recount import Rebuilt
from trainers.runs import metric_names
from trainers.runs.config import SearchConfig
from trainers.runs.state import ORIGIN
from trainers.search.prune_log import replay

PRUNED = ("presolve", "budget")  # reasons in the pruning log why a choice went before the networks were chosen
OF_THE_PROCESS = ("train_seconds", "derive_seconds", "step_over_floor", "peak_memory_mb")
COSTS = (metric_names.worst, metric_names.budget)
STATUS = tuple(f"status.json: {key}" for key in ("pid", "host", "started", "heartbeat"))


def status_checks(run: Run) -> Iterator[Check]:
    """Whether the result and the status tell the same end of the same attempt, after all epochs."""
    state, result = run.state, run.result or {}
    recorded = {key: result[key] for key in ("status", "command", "attempts")}
    found = {"status": state.state, "command": state.command, "attempts": state.attempt}
    yield compared("status", recorded, found, field="")
    absent = [(key, name) for key in ORIGIN for name in result[key] if name not in state.origin[key]]
    started = {key: {name: told for name, told in result[key].items() if (key, name) not in absent} for key in ORIGIN}
    problems = [f"status.json.{key}.{name} is missing" for key, name in absent]
    problems += differences(started, state.origin, field="")
    yield judged("what the last attempt started from", problems)
    met = all(device["met"] for device in result["devices"].values())
    yield compared("verdict", result["status"], "done" if met else "unmet", field="status")
    last = int(_last_epoch(run, [metric_names.EPOCH])[metric_names.EPOCH])
    ended = {"error": state.reason, "epoch": state.epoch, "epochs": state.epochs}
    due = {"error": None, "epoch": last, "epochs": last}
    yield compared("end of the run", ended, due, field="status.json")


def search_checks(run: Run, config: SearchConfig, rebuilt: Rebuilt) -> Iterator[Check]:
    """Checks of `search`, and what no file tells of the process that searched."""
    result = run.result or {}
    costs = [name(d, m) for d, p in rebuilt.problems.items() for m in p.limits for name in COSTS]
    last = _last_epoch(run, [metric_names.STEP, metric_names.ENTROPY, metric_names.CHOICES_ALIVE, *costs])
    recorded, steps, alive, worst = result["search"], config.trainer.steps, {}, {}
    for name, problem in rebuilt.problems.items():
        mask_N = replay(run.path / "prune.csv", rebuilt.space, name, reasons=PRUNED)
        shares = [last[metric_names.worst(name, m)] / last[metric_names.budget(name, m)] for m in problem.limits]
        alive[name] = int(mask_N.sum())
        worst[name] = round(max(shares) if name in rebuilt.hosts else float(problem.overshoot(mask_N).max()), 6)
    found = {
        **{key: recorded[key] for key in OF_THE_PROCESS},
        **{"steps": steps, "entropy": round(last[metric_names.ENTROPY], 4)},
        **{"choices_alive": alive, "worst_surviving_share": worst},
    }
    yield compared("search", recorded, found, field="search")
    told = {key: last[key] for key in (metric_names.STEP, metric_names.CHOICES_ALIVE)}
    due = {metric_names.STEP: steps, metric_names.CHOICES_ALIVE: sum(alive.values())}
    yield compared("last epoch", told, due, field="metrics.csv")
    unknown = [*(f"search.{key}" for key in OF_THE_PROCESS), "objective.seconds"]
    threads = config.trainer.threads
    if threads is None or run.state.attempt > 1:  # a resumed search goes on with as many as it began with
        unknown.append("threads")
    else:
        yield compared("threads", result["threads"], threads, field="threads")
    unknown += ["processors", "earlier_code", *STATUS]
    why = "no other file tells of its times, its memory, its processor and the code of earlier attempts"
    yield Check("the process that searched", "not checked", why, tuple(unknown))


def _last_epoch(run: Run, names: Sequence[str]) -> dict[str, Any]:
    """The last row of metrics.csv. Raises: InvalidInputError if there is none, or if it lacks one of those columns."""
    if run.metrics.empty:
        raise InvalidInputError("metrics.csv is missing, or has no row: nothing tells of the last epoch")
    missing = [name for name in names if name not in run.metrics]
    if missing:
        raise InvalidInputError(f"metrics.csv lacks the columns {', '.join(missing)}")
    return {str(name): value for name, value in run.metrics.iloc[-1].items()}
