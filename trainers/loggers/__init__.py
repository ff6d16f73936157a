"""Where a run is logged besides its folder: loggers, the alerts that they get, and the dashboard over their runs."""
