"""A search as a trial of a study: its epochs are reported, and a hopeless one is stopped."""

import math
import sys
from collections.abc import Callable, Mapping

from trainers.runs.exit_status import SearchStoppedError
from trainers.runs.metric_names import EPOCH, VALIDATION_ACCURACY
from trainers.tuning.study_place import StudyError, open_storage, study_place


def watcher(
    *, storage: str, study: str, number: int, metric: str = VALIDATION_ACCURACY
) -> Callable[[Mapping[str, float]], None]:
    """A function that takes the row of an epoch, reports its `metric` to the study and may end the search.

    Rows without the metric are passed over, epochs that an interrupted attempt reported are not reported again. A
    storage that is away is told once, and the search goes on: epochs that end meanwhile are not reported.
    Raises, when called: SearchStoppedError if the study's pruner finds the trial hopeless.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    from trainers.tuning.studies import comparable_study

    opened = open_storage(study_place(storage))
    loaded = comparable_study(opened, study)
    trial_id = opened.get_trial_id_from_study_id_trial_number(opened.get_study_id_from_name(study), number)
    trial = optuna.trial.Trial(loaded, trial_id)
    known = set(opened.get_trial(trial_id).intermediate_values)
    failed = False

    def watch(row: Mapping[str, float]) -> None:
        nonlocal failed
        value = row.get(metric)
        if value is None:
            return
        epoch = int(row[EPOCH])
        hopeless = math.isnan(value)
        try:
            if epoch not in known:
                trial.report(value, epoch)
                known.add(epoch)
            hopeless = hopeless or trial.should_prune()
        except (optuna.exceptions.OptunaError, SQLAlchemyError, StudyError) as error:
            if not failed:
                _tell(f"study {study} does not hear of epoch {epoch}; the search goes on", error)
            failed = True
        if hopeless:
            raise SearchStoppedError(
                f"trial {number} of study {study} is stopped after epoch {epoch}: "
                f"its {metric} of {value:.4g} is hopeless beside the other trials"
            )

    return watch


def _tell(what: str, error: Exception) -> None:
    reason = " ".join(str(error.__cause__ or error).split())[:200]
    print(f"{what}: {type(error).__name__}: {reason}", file=sys.stderr, flush=True)
