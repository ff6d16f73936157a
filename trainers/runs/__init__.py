"""What lies on disk of one run: its configuration, folder, state, result and exit status."""
