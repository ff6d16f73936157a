"""What a run looks like: drawings, plots, the report, and the check that everything in it can be made again."""
