"""Hydra configuration groups. Data only: values and the names of classes."""
