"""Studies over searches: Optuna suggests, jobs run, their results are told to the study, and trials are pruned."""
