"""Studies over searches: Optuna suggests, jobs run, the study learns their results and prunes trials."""
