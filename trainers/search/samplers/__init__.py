"""Which networks the next update of the weights trains: one file each."""

from trainers.search.samplers.sampler import SAMPLERS, PathSampler, extreme_path, largest_path

__all__ = ["SAMPLERS", "PathSampler", "extreme_path", "largest_path"]
