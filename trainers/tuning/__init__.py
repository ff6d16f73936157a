"""Studies over searches: what Optuna suggests, run as Hydra jobs, told back, and stopped early where hopeless."""
