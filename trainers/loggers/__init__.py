"""Who is told of a run besides its folder: trackers, what they are sent, and the dashboard over it."""
