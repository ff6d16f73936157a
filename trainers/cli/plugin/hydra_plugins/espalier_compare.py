"""The Hydra sweeper of comparisons: it runs the searches that were planned before, under any launcher.

Hydra imports every file here for each command, so all that is slow is imported where a comparison ends.
"""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class EspalierCompareSweeper(Sweeper):
    """A comparison, whose searches stand in the list of its sweep."""

    def __init__(self) -> None:
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Runs the searches, one arm after another for each seed, and shows the table.

        Raises: InvalidInputError for a file of a run that is malformed; RunFolderError.
        """
        from trainers.cli.command import tell
        from trainers.sweeps.records import read_sweep
        from trainers.sweeps.sweep import sweep_folder

        assert self.launcher is not None
        folder = sweep_folder()
        planned = read_sweep(folder)
        assert planned is not None
        returned = self.launcher.launch([job.overrides for job in planned.jobs], initial_job_idx=0)
        from trainers.analysis.comparison import load_comparison
        from trainers.reports.comparison_files import table_lines

        for line in table_lines(load_comparison(folder)):  # its files are the report's, which follows
            tell(line)
        return list(returned)
