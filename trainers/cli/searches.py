"""The commands whose jobs are searches."""

from trainers.cli.compare import COMPARE
from trainers.cli.search_command import SEARCH
from trainers.cli.tune import TUNE

SEARCHES = {app.name: app for app in (SEARCH, TUNE, COMPARE)}
