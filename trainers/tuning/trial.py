"""A search as a trial of a study: it reports its epochs, and the study's pruner may end it."""

import math
import sys
from collections.abc import Callable, Mapping

from trainers.runs.exit_status import SearchStoppedError
from trainers.runs.metric_names import EPOCH, VALIDATION_ACCURACY
from trainers.tuning.study_storage import StudyError, answering, open_storage


def watcher(
    *, storage: str, study: str, number: int, metric: str = VALIDATION_ACCURACY
) -> Callable[[Mapping[str, float]], None]:
    """A function that takes the row of an epoch, reports its `metric` to the study and may end the search.

    `storage` is a URL, `number` that of the trial's first attempt. Rows without the metric are passed over, and so are
    epochs that an interrupted attempt has reported. A storage that is away costs one warning, and the search goes on.
    Raises, when called: SearchStoppedError if the study's pruner ends the trial.
    """
    import optuna

    from trainers.tuning.study import attempts_before, comparable_study

    loaded = comparable_study(open_storage(storage), study)
    attempts = [t for t in optuna.Study.get_trials(loaded) if number in (t.number, *attempts_before(t))]
    trial = optuna.trial.Trial(loaded, attempts[-1]._trial_id)
    known = set(attempts[-1].intermediate_values)
    warned = False

    def watch(row: Mapping[str, float]) -> None:
        nonlocal warned
        value = row.get(metric)
        if value is None:
            return
        epoch, prune = int(row[EPOCH]), math.isnan(value)
        try:
            with answering(storage):
                if epoch not in known:
                    trial.report(value, epoch)
                    known.add(epoch)
                prune = prune or trial.should_prune()
        except (optuna.exceptions.OptunaError, StudyError) as error:
            if not warned:
                print(f"epoch {epoch} is not reported; the search goes on: {error}", file=sys.stderr, flush=True)
            warned = True
        if prune:
            raise SearchStoppedError(
                f"trial {number} of study {study} is pruned after epoch {epoch}: {metric} {value:.4g}"
            )

    return watch
