"""Spaces written for nni: its model spaces, read as marked modules."""
