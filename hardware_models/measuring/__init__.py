"""Latency measured: on this machine, on a board over SSH, from a log; and the files that keep it."""
