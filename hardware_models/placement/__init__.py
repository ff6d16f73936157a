"""Chips of several units, and a server over a link: where the operations of a network run."""
