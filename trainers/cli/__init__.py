"""The console scripts; the only room that imports Hydra."""
